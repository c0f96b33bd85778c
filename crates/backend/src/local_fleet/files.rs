//! Files of a workspace that an agent may change at any moment.
//!
//! A newcomer's usual mistake is to check a path and then open it: the agent can put a link in between. Here each part
//! of a path is opened from the folder before it, links refused, so that what was checked is what is used.
//!
//! *Knows:* folders, file descriptors. *Does not know:* whose workspace it is.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use portico_base::{Code, Error, Incoming, Result, Timestamp, id, reason};
use portico_port::fleet::{FileContent, FileEntry, FileKind, FileList, WorkspacePath, failure};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use tokio::task::spawn_blocking;

use super::disk;

/// Most entries of one list.
const ENTRIES_MAX: usize = 10_000;
/// Most bytes of the paths of one list, so that an agent cannot make it too long for a gateway.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Most folders below the one that is listed.
const DEPTH_MAX: u32 = 16;
/// How much of a file is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Files and folders below a folder, in order of their paths.
pub(super) async fn list(workspace: &Path, folder: &WorkspacePath, depth: u32) -> Result<FileList> {
    let (workspace, folder) = (workspace.to_owned(), folder.clone());
    blocking(move || {
        let top = descend(open_root(&workspace)?, parts(&folder), Missing::Refuse)?;
        let (mut list, mut room) = (FileList { entries: Vec::new(), truncated: false }, LIST_BYTES_MAX);
        gather(top, folder.as_str(), depth.clamp(1, DEPTH_MAX), &mut list, &mut room)?;
        list.entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(list)
    })
    .await
}

/// A file, as a stream.
pub(super) async fn read(workspace: &Path, path: &WorkspacePath) -> Result<FileContent> {
    let (workspace, path) = (workspace.to_owned(), path.clone());
    let file = blocking(move || {
        let (folder, name) = parent(&workspace, &path, Missing::Refuse)?;
        // Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&folder, name.as_str(), flags, Mode::empty()).map_err(refused)?);
        if !file.metadata().map_err(failure::broken)?.is_file() {
            return Err(absent());
        }
        Ok(file)
    })
    .await?;
    let size_bytes = file.metadata().map_err(failure::broken)?.len();
    let chunks = stream::try_unfold(file, |mut file| async move {
        let (file, chunk) = blocking(move || {
            let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
            let read = file.read(&mut chunk).map_err(failure::broken)?;
            chunk.truncate(read);
            Ok((file, chunk.freeze()))
        })
        .await?;
        Ok((!chunk.is_empty()).then_some((chunk, file)))
    });
    Ok(FileContent { size_bytes: Some(size_bytes), bytes: Box::pin(chunks) })
}

/// Writes a file, whole or not at all, making the folders above it. Answers its size.
pub(super) async fn write(workspace: &Path, path: &WorkspacePath, mut content: Incoming<Bytes>) -> Result<u64> {
    let (workspace, path) = (workspace.to_owned(), path.clone());
    let mut draft = blocking(move || Draft::begin(&workspace, &path)).await?;
    let mut size = 0;
    while let Some(chunk) = content.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        draft = blocking(move || draft.file.write_all(&chunk).map(|()| draft).map_err(disk)).await?;
    }
    blocking(move || draft.finish()).await?;
    Ok(size)
}

/// A file in the making beside its place. Removed when it is not finished.
struct Draft {
    folder: OwnedFd,
    draft_name: String,
    name: String,
    file: File,
    finished: bool,
}

impl Draft {
    fn begin(workspace: &Path, path: &WorkspacePath) -> Result<Draft> {
        let (folder, name) = parent(workspace, path, Missing::Create)?;
        let draft_name = id::random(".draft-", 16);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = File::from(rustix::fs::openat(&folder, draft_name.as_str(), flags, mode).map_err(refused)?);
        Ok(Draft { folder, draft_name, name, file, finished: false })
    }

    fn finish(mut self) -> Result<()> {
        // Renaming replaces a link rather than following it, and refuses to replace a folder.
        rustix::fs::renameat(&self.folder, self.draft_name.as_str(), &self.folder, self.name.as_str())
            .map_err(refused)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // The instance may have been removed meanwhile, and the draft with it.
            let _gone = rustix::fs::unlinkat(&self.folder, self.draft_name.as_str(), AtFlags::empty()).is_err();
        }
    }
}

/// What to do about a folder that is not there.
#[derive(Clone, Copy)]
enum Missing {
    Refuse,
    Create,
}

fn parts(path: &WorkspacePath) -> impl Iterator<Item = &str> {
    path.as_str().split('/').filter(|part| !part.is_empty())
}

fn open_root(workspace: &Path) -> Result<OwnedFd> {
    rustix::fs::open(workspace, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(refused)
}

/// The folder that holds the last part of the path, and that part.
fn parent(workspace: &Path, path: &WorkspacePath, missing: Missing) -> Result<(OwnedFd, String)> {
    let (folders, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    let folders = folders.split('/').filter(|part| !part.is_empty());
    Ok((descend(open_root(workspace)?, folders, missing)?, name.to_owned()))
}

fn descend<'a>(mut folder: OwnedFd, parts: impl Iterator<Item = &'a str>, missing: Missing) -> Result<OwnedFd> {
    for part in parts {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&folder, part, flags, Mode::empty());
        folder = match (opened, missing) {
            (Err(Errno::NOENT), Missing::Create) => {
                let made = rustix::fs::mkdirat(&folder, part, Mode::RWXU | Mode::RGRP | Mode::XGRP);
                // Someone else may have made it just now, which is as good.
                if let Err(error) = made
                    && error != Errno::EXIST
                {
                    return Err(refused(error));
                }
                rustix::fs::openat(&folder, part, flags, Mode::empty()).map_err(refused)?
            }
            (opened, _) => opened.map_err(refused)?,
        };
    }
    Ok(folder)
}

fn gather(folder: OwnedFd, prefix: &str, depth: u32, list: &mut FileList, room: &mut usize) -> Result<()> {
    let entries = rustix::fs::Dir::read_from(&folder).map_err(refused)?;
    for entry in entries {
        let entry = entry.map_err(refused)?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        if list.entries.len() >= ENTRIES_MAX || *room == 0 {
            list.truncated = true;
            return Ok(());
        }
        // What vanishes between reading the folder and looking at it was not there.
        let Ok(stat) = rustix::fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::RegularFile => FileKind::File,
            // Pipes, sockets and devices have no content to read.
            _ => continue,
        };
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        *room = room.saturating_sub(path.len());
        let size_bytes = if kind == FileKind::File { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        let modified_at = Some(Timestamp(stat.st_mtime.saturating_mul(1_000)));
        list.entries.push(FileEntry { path: path.clone(), kind, size_bytes, modified_at });
        if kind == FileKind::Directory && depth > 1 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(inner) = rustix::fs::openat(&folder, entry.file_name(), flags, Mode::empty()) {
                gather(inner, &path, depth - 1, list, room)?;
            }
        }
    }
    Ok(())
}

fn absent() -> Error {
    Error::new(Code::NotFound, reason::FILE_NOT_FOUND, "no file at this path")
}

fn refused(error: Errno) -> Error {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::NXIO => absent(),
        Errno::LOOP | Errno::MLINK => {
            Error::new(Code::InvalidArgument, reason::INVALID_PATH, "the path leads through a link")
        }
        Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY => {
            Error::new(Code::InvalidArgument, reason::INVALID_PATH, "a folder has this path")
        }
        Errno::NAMETOOLONG => {
            Error::new(Code::InvalidArgument, reason::INVALID_PATH, "a part of the path is longer than names may be")
        }
        // What an agent does to its own workspace is no failure of the host.
        Errno::ACCESS | Errno::PERM => {
            Error::new(Code::InvalidArgument, reason::INVALID_PATH, "the agent has closed what is at this path")
        }
        Errno::NOSPC | Errno::DQUOT => failure::disk_full(error),
        other => failure::broken(other),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(failure::broken)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    #[tokio::test]
    async fn files_are_written_whole_and_read_back_but_links_are_never_followed() {
        let root = std::env::temp_dir().join(id::random("portico-files-", 12));
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();

        let content = stream::iter([Ok(Bytes::from("he")), Ok(Bytes::from("llo"))]);
        assert_eq!(write(&root, &path("a/b/c.txt"), Box::pin(content)).await.unwrap(), 5);
        let read_back: Vec<_> = read(&root, &path("a/b/c.txt")).await.unwrap().bytes.collect().await;
        assert_eq!(read_back[0].as_ref().unwrap(), "hello");

        let broken = stream::iter([Ok(Bytes::from("half")), Err(failure::timeout())]);
        assert!(write(&root, &path("a/b/c.txt"), Box::pin(broken)).await.is_err());
        let listed = list(&root, &WorkspacePath::root(), 16).await.unwrap();
        let paths: Vec<_> = listed.entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c.txt", "etc", "link"]);

        for escaping in ["etc/passwd", "link"] {
            let error = read(&root, &path(escaping)).await.map(|_| ()).unwrap_err();
            assert!([reason::INVALID_PATH, reason::FILE_NOT_FOUND].contains(&error.reason()), "{error:?}");
        }
        let through = write(&root, &path("etc/portico"), Box::pin(stream::iter([Ok(Bytes::from("x"))]))).await;
        assert!(through.is_err());
        write(&root, &path("link"), Box::pin(stream::iter([Ok(Bytes::from("mine"))]))).await.unwrap();
        assert!(!std::fs::symlink_metadata(root.join("link")).unwrap().is_symlink());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
