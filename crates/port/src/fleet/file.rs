//! Files in the workspace of an instance, and the paths that may name them.
//!
//! A newcomer's usual mistake is to join a caller's path to a folder. Only a [`WorkspacePath`] is joined; it cannot
//! leave the workspace by its words. Links are the host's to mind, when it opens what the path names.
//!
//! *Knows:* path rules, entries. *Does not know:* where a workspace lies.

use std::fmt;

use bytes::Bytes;
use portico_base::{Code, Error, Incoming, Result, Timestamp, reason};

/// Longest path of a file.
const PATH_BYTES_MAX: usize = 1_024;
/// Most folders above a file.
const PARTS_MAX: usize = 64;

/// A relative path without `.`, `..`, empty parts, backslashes or control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspacePath(String);

impl WorkspacePath {
    /// The workspace itself.
    pub fn root() -> WorkspacePath {
        WorkspacePath(String::new())
    }

    /// The path of a file or folder below the workspace.
    ///
    /// # Errors
    /// `invalid_path` when it is absolute, leads upwards, or could be read in two ways.
    pub fn parse(path: &str) -> Result<WorkspacePath> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let refused = |why: &'static str| Error::new(Code::InvalidArgument, reason::INVALID_PATH, why);
        if path.is_empty() {
            return Err(refused("the path is empty"));
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(refused("the path is longer than 1024 bytes"));
        }
        if path.bytes().any(|byte| byte < b' ' || byte == b'\\' || byte == 0x7f) {
            return Err(refused("the path contains a backslash or a control character"));
        }
        if path.split('/').count() > PARTS_MAX {
            return Err(refused("the path has more than 64 parts"));
        }
        for part in path.split('/') {
            if matches!(part, "" | "." | "..") {
                return Err(refused("the path is absolute, or has an empty part, `.` or `..`"));
            }
            // A proxy in front may decode once more: what would then lead upwards is refused here.
            let lower = part.to_ascii_lowercase();
            if lower.contains("%2f") || lower.contains("%5c") || lower.contains("%2e") || lower.contains("%00") {
                return Err(refused("the path has an encoded slash or dot"));
            }
        }
        Ok(WorkspacePath(path.to_owned()))
    }

    /// The path of a folder; empty, `.` and `/` are the workspace itself.
    ///
    /// # Errors
    /// `invalid_path` as for [`WorkspacePath::parse`].
    pub fn folder(path: &str) -> Result<WorkspacePath> {
        if matches!(path, "" | "." | "/") { Ok(WorkspacePath::root()) } else { WorkspacePath::parse(path) }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Directory,
    /// A link, which is never followed.
    Symlink,
}

impl FileKind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
        }
    }
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the workspace.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// A file's size.
    pub size_bytes: u64,
    /// When it was written, if known.
    pub modified_at: Option<Timestamp>,
}

/// Files and folders, in order of their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList {
    /// The entries.
    pub entries: Vec<FileEntry>,
    /// Whether there were more than are listed.
    pub truncated: bool,
}

/// An open file.
pub struct FileContent {
    /// Its size when it was opened, if the host says it.
    pub size_bytes: Option<u64>,
    /// Its bytes.
    pub bytes: Incoming<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_workspace() {
        for fine in ["a", "a/b.txt", "ä/…/c d", "..a/b..", "a/"] {
            assert!(WorkspacePath::parse(fine).is_ok(), "{fine}");
        }
        for refused in ["", "/", "/etc", "..", "a/../b", "a//b", "./a", "a\\b", "a\0b", "a/%2e%2E/b", "a%2fb"] {
            assert!(WorkspacePath::parse(refused).is_err(), "{refused:?}");
        }
    }
}
