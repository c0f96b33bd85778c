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

use super::{
    process::small_disk,
    server::{Recipe, Server, accepts},
};

/// Makes the cluster if there is none and becomes the server, as whoever is allowed to.
const RUN: &str = r#"bin=$1; port=$2; folder=$3; shift 3
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi; }
if [ ! -f "$folder/cluster/PG_VERSION" ]; then
  mkdir -p "$folder/cluster"
  if [ "$(id -u)" = 0 ]; then chown postgres "$folder" "$folder/cluster"; fi
  as "$bin/initdb" -D "$folder/cluster" -U portico -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
fi
if [ "$(id -u)" = 0 ]; then
  for own in "$folder/small" "$folder/server.key"; do if [ -e "$own" ]; then chown postgres "$own"; fi; done
fi
rm -f "$folder/cluster/postmaster.pid"
set -- "$bin/postgres" -D "$folder/cluster" -p "$port" -k "$folder" -h 127.0.0.1 "$@"
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else exec "$@"; fi"#;

static SHARED: LazyLock<Server> = LazyLock::new(start);

/// A server of its own.
pub(crate) fn start() -> Server {
    begin(|_| (Vec::new(), &[]))
}

/// The same with the certificate `server.pem` and the key `server.key` of this folder.
pub(crate) fn start_with_tls(files: &Path) -> Server {
    let files = files.to_owned();
    begin(move |folder| {
        for name in ["server.pem", "server.key"] {
            std::fs::copy(files.join(name), folder.join(name)).unwrap();
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.join("server.key"), mode).unwrap();
        // Its working folder is the one that all of this lies in.
        (Vec::new(), &["-c", "ssl=on", "-c", "ssl_cert_file=../server.pem", "-c", "ssl_key_file=../server.key"])
    })
}

/// The same with a file system of so many KiB at `small` in its folder, which nobody else sees.
pub(crate) fn start_with_a_small_disk(kib: u32) -> Server {
    begin(move |folder| {
        let small = folder.join("small");
        std::fs::create_dir_all(&small).unwrap();
        (small_disk(&small, kib), &[])
    })
}

/// What stands before a server on its command line, and what behind it, once its folder is prepared.
type Prepared = (Vec<String>, &'static [&'static str]);

fn begin(prepare: impl Fn(&Path) -> Prepared + Send + Sync + 'static) -> Server {
    Server::start(Recipe {
        name: "postgres",
        command: Box::new(move |port, folder| {
            let (before, behind) = prepare(folder);
            let mut words = before.into_iter().chain(["sh", "-c", RUN, "postgres"].map(str::to_owned));
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words).arg(programs()).arg(port.to_string()).arg(folder);
            // What is killed here are processes, which lose nothing that the system has been given.
            command.args(["-c", "max_connections=100", "-c", "shared_buffers=16MB", "-c", "fsync=off"]).args(behind);
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

/// Runs SQL in the database of this URL, and answers what it says, a line for each row.
pub(crate) fn sql(url: &Secret, sql: &str) -> String {
    let mut command = Command::new(programs().join("psql"));
    let done = command.args(["-qtAX", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(url.reveal()).output().unwrap();
    assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
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
