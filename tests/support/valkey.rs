//! Redis 7 and Valkey 8, each a server of its own.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use portico::{
    backend::valkey::Valkey,
    base::{Secret, tasks::Tasks},
};

use super::{
    gateway::PATIENCE,
    server::{Recipe, Server, accepts, tools},
};

pub(crate) mod group;
pub(crate) mod slow;
pub(crate) mod tls;

const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long a starting server may take for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Who made the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Maker {
    Redis,
    Valkey,
}

impl Maker {
    pub(crate) const ALL: [Maker; 2] = [Maker::Redis, Maker::Valkey];

    /// Starts a server with these further arguments. It keeps what it was told when it is killed, though not when the machine is.
    pub(crate) fn start(self, more: &[&str]) -> Server {
        let more: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        self.start_by(answers, move |port, folder| {
            let mut arguments = vec!["--port".to_owned(), port.to_string(), "--dir".to_owned()];
            arguments.push(folder.display().to_string());
            arguments.extend(["--save", "", "--appendonly", "yes", "--appendfsync", "no"].map(str::to_owned));
            arguments.extend(more.iter().cloned());
            arguments
        })
    }

    /// Starts a server that speaks TLS alone, with these further arguments.
    pub(crate) fn start_secure(self, files: &tls::Certificates, more: &[String]) -> Server {
        let more = [files.arguments().as_slice(), more].concat();
        self.start_by(accepts, move |port, _| {
            let listen = ["--port", "0", "--tls-port", &port.to_string(), "--save", ""].map(str::to_owned);
            listen.into_iter().chain(more.iter().cloned()).collect()
        })
    }

    /// Starts the program with what this says for a port and a folder.
    fn start_by(
        self,
        ready: fn(SocketAddr) -> bool,
        arguments: impl Fn(u16, &Path) -> Vec<String> + Send + Sync + 'static,
    ) -> Server {
        let (name, command): (_, fn() -> Command) = match self {
            Maker::Redis => ("redis-server", || Command::new("redis-server")),
            Maker::Valkey => ("valkey-server", valkey),
        };
        let command = move |port: u16, folder: &Path| {
            let mut command = command();
            command.args(arguments(port, folder)).args(["--bind", "127.0.0.1", "--daemonize", "no"]);
            command
        };
        Server::start(Recipe { name, command: Box::new(command), ready })
    }
}

/// Whether it answers, be it that it wants to know who asks: it accepts connections before it has read what it keeps.
fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut connection = TcpStream::connect_timeout(&address, ANSWER_WAIT)?;
        connection.set_read_timeout(Some(ANSWER_WAIT))?;
        connection.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        connection.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| [b"+PONG", b"-NOAU"].contains(&&answer))
}

/// Valkey comes from a newer Debian and runs on that one's libraries.
fn valkey() -> Command {
    let root = tools().join("trixie/root");
    let lib = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(lib.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&lib).arg(root.join("usr/bin/valkey-server"));
    assert!(fs::exists(root.join("usr/bin/valkey-server")).unwrap(), "Valkey is missing: run `make tools`");
    command
}

/// A gateway's connection to this server.
pub(crate) fn connect(server: &Server) -> Valkey {
    open(&format!("valkey://{}", server.address()))
}

/// The same by a URL, once there is one: under a heavy load the first greeting may come too late.
pub(crate) async fn reached(url: &str) -> Valkey {
    let valkey = open(url);
    let patience = tokio::time::Instant::now() + PATIENCE;
    while let Err(why) = valkey.reached().await {
        assert!(tokio::time::Instant::now() < patience, "{url} is never reached: {why}");
        tokio::time::sleep(ASK_AGAIN).await;
    }
    valkey
}

pub(crate) fn open(url: &str) -> Valkey {
    Valkey::open(&Secret::new(url), &Tasks::new()).unwrap()
}

/// A connection that speaks to the server directly.
pub(crate) async fn speak(server: &Server) -> redis::aio::MultiplexedConnection {
    dial(server).await.unwrap()
}

/// A connection that waits for a busy machine.
async fn dial(server: &Server) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let patient = redis::AsyncConnectionConfig::new();
    let patient = patient.set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&patient).await
}

/// Asks the server this, word by word.
pub(crate) async fn ask<T: redis::FromRedisValue>(server: &Server, words: &str) -> T {
    try_ask(server, words).await.unwrap()
}

/// The same of one that may refuse, or break off.
pub(crate) async fn try_ask<T: redis::FromRedisValue>(server: &Server, words: &str) -> redis::RedisResult<T> {
    let mut asked = redis::Cmd::new();
    words.split(' ').for_each(|word| {
        asked.arg(word);
    });
    asked.query_async(&mut dial(server).await?).await
}

/// Lets time pass here, and for what these servers keep: expiries come nearer, and so do the moments at which buckets are
/// full. Other tasks stand still meanwhile.
pub(crate) async fn pass(servers: &[&Server], time: Duration) {
    for server in servers {
        pass_there(server, time).await;
    }
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn pass_there(server: &Server, time: Duration) {
    let script = redis::Script::new(
        "for _, key in ipairs(redis.call('KEYS', '*')) do
           local left = redis.call('PTTL', key) - ARGV[1]
           if left <= 0 and redis.call('PTTL', key) >= 0 then redis.call('DEL', key)
           elseif redis.call('PTTL', key) >= 0 then
             if string.find(key, 'ratelimit') then
               redis.call('SET', key, string.format('%.0f', redis.call('GET', key) - ARGV[1] * 1000))
             end
             if redis.call('TYPE', key).ok == 'zset' then
               for _, one in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -ARGV[1], one) end
             end
             redis.call('PEXPIRE', key, left)
           end
         end",
    );
    let millis = u64::try_from(time.as_millis()).unwrap();
    script.arg(millis).invoke_async::<()>(&mut speak(server).await).await.unwrap();
}
