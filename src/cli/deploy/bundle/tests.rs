//! What packing promises.

use std::{os::unix::fs::symlink, time::SystemTime};

use tempfile::TempDir;

use super::{super::manifest, *};

/// A folder that goes away with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, content: &str) -> &Folder {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn packed(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Source::at(path).unwrap().write_all(&mut bytes, &AtomicU64::new(0)).unwrap();
    bytes
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let (one, other) = (Folder::new(), Folder::new());
    one.file("agent.json", "{}").file("src/main.py", "print()").file("README", "r");
    other
        .file("README", "r")
        .file("src/main.py", "print()")
        .file("agent.json", "{}")
        .file("src/__pycache__/x.pyc", "x");
    File::open(other.path().join("README")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    for folder in [&one, &other] {
        symlink("src/main.py", folder.path().join("start")).unwrap();
        fs::set_permissions(folder.path().join("src/main.py"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(other.path().join("README"), fs::Permissions::from_mode(0o600)).unwrap();
    let bytes = packed(one.path());
    assert_eq!(bytes, packed(other.path()));

    let mut archive = Archive::new(MultiGzDecoder::new(bytes.as_slice()));
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        format!("{path} {:o} {}", entry.header().mode().unwrap(), entry.size())
    });
    let expected = ["README 644 1", "agent.json 644 2", "src 755 0", "src/main.py 755 7", "start 777 0"];
    assert_eq!(entries.collect::<Vec<_>>(), expected);
}

#[test]
fn name_and_version_come_from_a_folder_or_an_archive() {
    let folder = Folder::new();
    folder.file("agent.json", r#"{"name": "echo", "version": "1.2.3", "command": ["python3"]}"#).file("a", "a");
    let expected = manifest::Manifest { name: "echo".into(), version: "1.2.3".into() };
    assert_eq!(manifest::of(&Source::at(folder.path()).unwrap()).unwrap(), expected);

    let elsewhere = Folder::new();
    let archive = elsewhere.path().join("echo.tar.gz");
    fs::write(&archive, packed(folder.path())).unwrap();
    assert_eq!(manifest::of(&Source::at(&archive).unwrap()).unwrap(), expected);
    assert_eq!(packed(&archive), packed(folder.path()));

    fs::remove_file(folder.path().join("agent.json")).unwrap();
    assert!(manifest::of(&Source::at(folder.path()).unwrap()).is_err());
}

#[test]
fn chunks_are_bounded_and_a_file_that_changes_is_noticed() {
    let folder = Folder::new();
    let noise: String =
        (0..100_000_u64).map(|at| (at.wrapping_mul(at).wrapping_mul(2_654_435_761) % 1_000_003).to_string()).collect();
    folder.file("noise", &noise);
    let source = Source::at(folder.path()).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<Bytes, ChunkError>>(1);
    let read = AtomicU64::new(0);
    let collected = std::thread::scope(|scope| {
        let collecting = scope.spawn(move || {
            let mut chunks = Vec::new();
            while let Some(chunk) = receiver.blocking_recv() {
                chunks.push(chunk.unwrap());
            }
            chunks
        });
        source.write(&sender, &read).unwrap();
        drop(sender);
        collecting.join().unwrap()
    });
    assert!(collected.len() > 1 && collected.iter().all(|chunk| chunk.len() <= CHUNK_BYTES));
    assert_eq!(collected.concat(), packed(folder.path()));
    assert_eq!(read.into_inner(), source.bytes());

    folder.file("noise", "shorter");
    let failed = source.write_all(io::sink(), &AtomicU64::new(0)).unwrap_err();
    assert_eq!(failed.to_string(), "a file changed while it was packed");
}
