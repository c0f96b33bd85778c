//! Redis 7 and Valkey 8, each a server of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use portico::{
    backend::valkey::Valkey,
    base::{Secret, tasks::Tasks},
};

use super::server::{Recipe, Server, accepts, tools};

/// Who made the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Maker {
    Redis,
    Valkey,
}

impl Maker {
    pub(crate) const ALL: [Maker; 2] = [Maker::Redis, Maker::Valkey];

    /// Starts a server with these further arguments. It keeps what it was told through a crash.
    pub(crate) fn start(self, more: &'static [&'static str]) -> Server {
        let (name, command): (_, fn() -> Command) = match self {
            Maker::Redis => ("redis-server", || Command::new("redis-server")),
            Maker::Valkey => ("valkey-server", valkey),
        };
        let command = move |port: u16, folder: &Path| {
            let mut command = command();
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]).args(more);
            command
        };
        Server::start(Recipe { name, command: Box::new(command), ready: accepts })
    }
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

pub(crate) fn open(url: &str) -> Valkey {
    Valkey::open(&Secret::new(url), &Tasks::new()).unwrap()
}

/// A connection that speaks to the server directly.
pub(crate) async fn speak(server: &Server) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Lets time pass for what the server keeps: expiries come nearer, and so do the moments at which buckets are full.
pub(crate) async fn pass(server: &Server, time: Duration) {
    let script = redis::Script::new(
        "for _, key in ipairs(redis.call('KEYS', '*')) do
           local left = redis.call('PTTL', key) - ARGV[1]
           if left <= 0 and redis.call('PTTL', key) >= 0 then redis.call('DEL', key)
           elseif redis.call('PTTL', key) >= 0 then
             if string.find(key, 'ratelimit') then
               redis.call('SET', key, string.format('%.0f', redis.call('GET', key) - ARGV[1] * 1000))
             end
             redis.call('PEXPIRE', key, left)
           end
         end",
    );
    let millis = u64::try_from(time.as_millis()).unwrap();
    script.arg(millis).invoke_async::<()>(&mut speak(server).await).await.unwrap();
}
