//! PostgreSQL, one server for all tests that do it no harm, and servers of their own for those that do.
//!
//! A newcomer's usual mistake is to run it as root, which it refuses. As root it runs as the user `postgres` of Debian's
//! package, who then owns the folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use portico::base::Secret;

use super::server::{Recipe, Server, accepts};

/// Makes the cluster if there is none and becomes the server, as whoever is allowed to.
const RUN: &str = r#"bin=$1; port=$2; folder=$3; shift 3
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi; }
if [ ! -f "$folder/cluster/PG_VERSION" ]; then
  mkdir -p "$folder/cluster"
  if [ "$(id -u)" = 0 ]; then chown postgres "$folder" "$folder/cluster"; fi
  as "$bin/initdb" -D "$folder/cluster" -U portico -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
fi
rm -f "$folder/cluster/postmaster.pid"
set -- "$bin/postgres" -D "$folder/cluster" -p "$port" -k "$folder" -h 127.0.0.1 "$@"
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else exec "$@"; fi"#;

static SHARED: LazyLock<Server> = LazyLock::new(start);

/// A server of its own.
pub(crate) fn start() -> Server {
    Server::start(Recipe {
        name: "postgres",
        command: Box::new(|port, folder| {
            let mut command = Command::new("sh");
            command.args(["-c", RUN, "postgres"]).arg(programs()).arg(port.to_string()).arg(folder);
            // What is killed here are processes, which lose nothing that the system has been given.
            command.args(["-c", "max_connections=100", "-c", "shared_buffers=16MB", "-c", "fsync=off"]);
            command
        }),
        ready: |address| accepts(address) && psql(address.port(), "postgres", "SELECT 1"),
    })
}

/// A database of its own on the server that all share.
pub(crate) fn database() -> Secret {
    let name = portico::base::id::random("test_", 16).to_lowercase();
    assert!(psql(SHARED.address().port(), "postgres", &format!("CREATE DATABASE {name}")), "{}", SHARED.log());
    url(&SHARED, &name)
}

/// The URL of a database.
pub(crate) fn url(server: &Server, database: &str) -> Secret {
    Secret::new(format!("postgres://portico:hunter2@{}/{database}?sslmode=disable", server.address()))
}

/// Runs SQL as an administrator. Whether it was done.
pub(crate) fn psql(port: u16, database: &str, sql: &str) -> bool {
    let mut command = Command::new(programs().join("psql"));
    command.args(["-h", "127.0.0.1", "-U", "portico", "-d", database, "-qc", sql, "-p"]).arg(port.to_string());
    command.env("PGCONNECT_TIMEOUT", "5");
    command.output().unwrap().status.success()
}

/// Where the newest installed version is.
fn programs() -> PathBuf {
    let installed = std::fs::read_dir(Path::new("/usr/lib/postgresql")).into_iter().flatten();
    let newest = installed.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).max();
    newest.filter(|bin| bin.join("initdb").exists()).expect("PostgreSQL is not installed: run `make tools`")
}
