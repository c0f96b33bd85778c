//! What the server decides by itself, in one step each.
//!
//! A newcomer's usual mistake is to trust a clock of ours. Times are the server's own: `TIME` for buckets, its expiry for
//! everything else.
//!
//! A script is asked for by its digest, and by its text where it is not known: a server that was just promoted knows none. The
//! crate would hand it to all members of a cluster first, and so fail for as long as one of them is dead.
//!
//! *Knows:* the scripts, how one is asked for. *Does not know:* names, when to ask again.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs, Value, aio::ConnectionLike};

/// The scripts; the server keeps them and is asked by their digests.
pub(super) struct Scripts {
    pub(super) announce: Script,
    pub(super) withdraw: Script,
    pub(super) live: Script,
    pub(super) reserve: Script,
    pub(super) release: Script,
    pub(super) take: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            announce: Script::new(ANNOUNCE),
            withdraw: Script::new(WITHDRAW),
            live: Script::new(LIVE),
            reserve: Script::new(RESERVE),
            release: Script::new(RELEASE),
            take: Script::new(TAKE),
        }
    }
}

/// A script, and the digest that servers know it by.
pub(super) struct Script {
    text: &'static str,
    digest: String,
}

/// A script, with the keys and arguments that it is run on.
pub(super) struct Run<'s> {
    script: &'s Script,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    fn new(text: &'static str) -> Script {
        Script { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// The script on this key, of which a cluster knows who has it.
    pub(super) fn on(&self, key: String) -> Run<'_> {
        Run { script: self, keys: vec![key.into_bytes()], arguments: Vec::new() }
    }
}

impl Run<'_> {
    /// The same on another key as well.
    pub(super) fn and(mut self, key: String) -> Self {
        self.keys.push(key.into_bytes());
        self
    }

    /// The same with another argument.
    pub(super) fn with(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// Those of the server and of the connection.
    pub(super) async fn over<T: FromRedisValue>(&self, connection: &mut impl ConnectionLike) -> RedisResult<T> {
        let value: RedisResult<Value> = self.command("EVALSHA", &self.script.digest).query_async(connection).await;
        match value {
            Ok(value) => Ok(T::from_redis_value(value)?),
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.text).query_async(connection).await
            }
            Err(error) => Err(error),
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

/// Of set, hash and epoch, with channel, id, time to live, most ids, fields: whether there was room. Tells the channel of who
/// is new, has started anew or begins to drain. A user of the server who may not publish announces itself all the same.
const ANNOUNCE: &str = "
local id = ARGV[2]
if redis.call('SISMEMBER', KEYS[1], id) == 0 and redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
local known = redis.call('EXISTS', KEYS[2]) == 1
local before = redis.call('HMGET', KEYS[2], 'epoch', 'status')
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('SADD', KEYS[1], id)
local now = redis.call('HMGET', KEYS[2], 'epoch', 'status')
if now[1] then redis.call('SET', KEYS[3], now[1], 'PX', 86400000) end
local event
if not known or before[1] ~= now[1] then event = 'registered' end
if now[2] == 'draining' and (event or before[2] ~= now[2]) then event = 'draining' end
if event then redis.pcall('PUBLISH', ARGV[1], cjson.encode({event = event, id = id, epoch = now[1] or nil})) end
return 1";

/// Of set, hash and epoch, with channel and id. Tells the channel of who was there.
const WITHDRAW: &str = "
local id, epoch = ARGV[2], redis.call('GET', KEYS[3])
if redis.call('DEL', KEYS[2], KEYS[3]) + redis.call('SREM', KEYS[1], id) > 0 then
  redis.pcall('PUBLISH', ARGV[1], cjson.encode({event = 'deregistered', id = id, epoch = epoch or nil}))
end
return 1";

/// Of a set, with a channel: id, reservations and body or fields of all that live. Ids whose hash has expired leave the set,
/// and the channel is told.
const LIVE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local live = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local name = KEYS[1] .. ':' .. id
  local said = redis.call('HGET', name, 'body')
  if not said then
    said = redis.call('HGETALL', name)
    if #said == 0 then
      local epoch = redis.call('GET', name .. ':epoch')
      redis.call('SREM', KEYS[1], id)
      redis.call('DEL', name .. ':epoch')
      redis.pcall('PUBLISH', ARGV[1], cjson.encode({event = 'heartbeat_lost', id = id, epoch = epoch or nil}))
      said = nil
    end
  end
  if said then live[#live + 1] = {id, redis.call('ZCOUNT', name .. ':pending', now, '+inf'), said} end
end
return live";

/// Of places by when they are forgotten, with the time to live of one and a name for it: how many there are.
const RESERVE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('ZCARD', KEYS[1])";

/// Of places: the youngest is given back, so that one that is never given back is forgotten in its time.
const RELEASE: &str = "
redis.call('ZPOPMAX', KEYS[1])
return 1";

/// Of a bucket, with microseconds per token, microseconds of all tokens, how many are wanted and how many come back unused:
/// how many were taken, and how many are left or how long to wait. A bucket is the moment at which it is full again; when that
/// has passed it may be forgotten. It is never further ahead than an empty bucket's: a clock that went back, as when a server
/// takes over whose own is behind, locks nobody out. Who wants several gets at most half of what is there, so that others find
/// some too.
const TAKE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, capacity, wanted, unused = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now) or now, now)
full_at = math.min(full_at, now + capacity)
full_at = math.max(full_at - unused * interval, now)
local there = math.floor((capacity - (full_at - now)) / interval)
local taken = math.max(0, math.min(there, math.max(1, math.min(wanted, math.floor(there / 2)))))
local after = full_at + taken * interval
if after > now then redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000)) end
if taken == 0 then return {0, after + interval - now - capacity} end
return {taken, there - taken}";
