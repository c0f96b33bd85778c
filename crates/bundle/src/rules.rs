//! What an entry may be, and how much there may be of everything.
//!
//! A newcomer's usual mistake is to check a path alone. Whether `a/b` is harmless depends on what an earlier entry made
//! of `a`: a later entry must not pass through a link. So the rules remember every path, as a keyed 64-bit hash, which
//! keeps a hundred thousand of them in a few MiB whatever their lengths.
//!
//! *Knows:* paths, links, kinds, modes, limits. *Does not know:* blocks and headers.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use portico_base::Result;
use unicode_normalization::UnicodeNormalization;

use crate::{Entry, Kind, refusal};

/// Longest path or link target.
const PATH_BYTES_MAX: usize = 1_024;
/// Longest name in a path: no usual file system takes a longer one.
const NAME_BYTES_MAX: usize = 255;
/// Deepest path.
const PATH_PARTS_MAX: usize = 64;
/// Most warnings kept; the rest is counted.
const WARNINGS_MAX: usize = 20;
/// Most folders that exist only because a path leads through them, per permitted entry.
const IMPLIED_FOLDERS_PER_ENTRY_MAX: usize = 2;
/// Set-user-id, set-group-id and sticky.
const SPECIAL_BITS: u32 = 0o7000;

/// How much a bundle may hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most entries.
    pub entries_max: usize,
    /// Most bytes after decompression, headers included.
    pub expanded_bytes_max: u64,
    /// Largest file.
    pub file_bytes_max: u64,
    /// Most bytes out of one byte in, once there are more than `ratio_free_bytes`.
    pub ratio_max: u64,
    /// What may be expanded at any ratio.
    pub ratio_free_bytes: u64,
}

/// The published limits.
impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries_max: 100_000,
            expanded_bytes_max: 2 << 30,
            file_bytes_max: 512 << 20,
            ratio_max: 200,
            ratio_free_bytes: 64 << 20,
        }
    }
}

/// What a bundle holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How many entries.
    pub entries: usize,
    /// How many regular files.
    pub files: usize,
    /// The size of all files together.
    pub file_bytes: u64,
    /// What the packer should know.
    pub warnings: Vec<String>,
}

/// What a path was used as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File,
    Link,
}

pub(crate) struct Rules {
    limits: Limits,
    hasher: RandomState,
    nodes: HashMap<u64, Node>,
    folded: HashSet<u64>,
    contents: Contents,
    warnings_dropped: usize,
}

impl Rules {
    pub(crate) fn new(limits: Limits) -> Self {
        Rules {
            limits,
            hasher: RandomState::new(),
            nodes: HashMap::new(),
            folded: HashSet::new(),
            contents: Contents::default(),
            warnings_dropped: 0,
        }
    }

    /// Takes an entry as its headers describe it, if it is harmless.
    pub(crate) fn admit(&mut self, flag: u8, path: &[u8], link: &[u8], size: u64, mode: u32) -> Result<Entry> {
        let limits = &self.limits;
        if self.contents.entries >= limits.entries_max {
            return Err(refusal::too_large("the bundle has too many entries", limits.entries_max as u64));
        }
        let unsafe_entry = |why| refusal::unsafe_entry(path, why);
        let parts = parts(path).map_err(unsafe_entry)?;
        let kind = kind(flag, path, link, parts.len()).map_err(unsafe_entry)?;
        if kind != Kind::Directory && parts.is_empty() {
            return Err(unsafe_entry("only a folder can be the root"));
        }
        if kind != Kind::File && size > 0 {
            return Err(unsafe_entry("only a regular file may have content"));
        }
        if size > limits.file_bytes_max {
            return Err(refusal::too_large("a file of the bundle is too large", limits.file_bytes_max));
        }
        if mode & SPECIAL_BITS != 0 && kind != Kind::Directory {
            return Err(unsafe_entry("set-user-id, set-group-id and sticky bits are not taken"));
        }
        let entry = Entry { path: parts.join("/"), kind, size, executable: mode & 0o111 != 0 };
        self.place(&entry, &parts)?;
        if mode & SPECIAL_BITS != 0 {
            self.warn(format!("{:?}: the folder's special mode bits are ignored", entry.path));
        }
        self.contents.entries += 1;
        if entry.kind == Kind::File {
            self.contents.files += 1;
            self.contents.file_bytes += size;
        }
        Ok(entry)
    }

    /// Asks what can be asked once everything was seen.
    pub(crate) fn complete(&self) -> Result<()> {
        if self.contents.files == 0 { Err(refusal::empty("the bundle holds no regular file")) } else { Ok(()) }
    }

    pub(crate) fn contents(&self) -> Contents {
        let mut contents = self.contents.clone();
        if self.warnings_dropped > 0 {
            contents.warnings.push(format!("{} more warnings", self.warnings_dropped));
        }
        contents
    }

    /// Remembers the entry's path and every folder it leads through.
    fn place(&mut self, entry: &Entry, parts: &[&str]) -> Result<()> {
        let unsafe_entry = |why| refusal::unsafe_entry(entry.path.as_bytes(), why);
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.len() + usize::from(*end > 0);
            Some(*end)
        });
        for end in ends {
            let key = self.hasher.hash_one(&entry.path[..end]);
            let is_last = end == entry.path.len();
            match (self.nodes.get(&key), is_last) {
                (Some(Node::Folder), false) => {}
                (Some(Node::Folder), true) if entry.kind == Kind::Directory => {}
                (Some(_), true) => return Err(unsafe_entry("an earlier entry has the same path")),
                (Some(Node::Link), false) => return Err(unsafe_entry("its path passes through a symbolic link")),
                (Some(Node::File), false) => return Err(unsafe_entry("its path passes through a file")),
                (None, _) => self.note(key, if is_last { node(&entry.kind) } else { Node::Folder })?,
            }
        }
        if let Kind::HardLink { target } = &entry.kind
            && self.nodes.get(&self.hasher.hash_one(target.as_str())) != Some(&Node::File)
        {
            return Err(unsafe_entry("a hard link must lead to an earlier file of the bundle"));
        }
        let folded: String = entry.path.nfd().flat_map(char::to_lowercase).collect();
        let is_new = self.folded.insert(self.hasher.hash_one(folded.as_str()));
        if !is_new && entry.kind != Kind::Directory {
            self.warn(format!("{:?}: another entry differs only in case or Unicode form", entry.path));
        }
        Ok(())
    }

    fn note(&mut self, key: u64, node: Node) -> Result<()> {
        let nodes_max = self.limits.entries_max.saturating_mul(IMPLIED_FOLDERS_PER_ENTRY_MAX);
        if self.nodes.len() >= nodes_max {
            return Err(refusal::too_large("the bundle has too many folders", nodes_max as u64));
        }
        self.nodes.insert(key, node);
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        if self.contents.warnings.len() < WARNINGS_MAX {
            self.contents.warnings.push(warning);
        } else {
            self.warnings_dropped += 1;
        }
    }
}

fn node(kind: &Kind) -> Node {
    match kind {
        Kind::Directory => Node::Folder,
        Kind::File | Kind::HardLink { .. } => Node::File,
        Kind::SymbolicLink { .. } => Node::Link,
    }
}

/// What the type letter means. As for GNU tar, a file whose name ends with a slash is a folder.
fn kind(flag: u8, path: &[u8], link: &[u8], depth: usize) -> Result<Kind, &'static str> {
    match flag {
        0 | b'0' | b'7' if path.ends_with(b"/") => Ok(Kind::Directory),
        0 | b'0' | b'7' => Ok(Kind::File),
        b'5' => Ok(Kind::Directory),
        b'1' => Ok(Kind::HardLink { target: parts(link)?.join("/") }),
        b'2' => Ok(Kind::SymbolicLink { target: inside(link, depth.saturating_sub(1))? }),
        b'3' | b'4' => Err("devices are not taken"),
        b'6' => Err("pipes are not taken"),
        b'S' => Err("sparse files are not taken"),
        _ => Err("entries of this kind are not taken"),
    }
}

/// The parts of a path below the root, or what is wrong with it.
fn parts(path: &[u8]) -> Result<Vec<&str>, &'static str> {
    let path = text(path)?;
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("its path leads upwards");
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return Err("a name in its path is longer than 255 bytes");
    }
    if parts.len() > PATH_PARTS_MAX {
        return Err("its path is too deep");
    }
    Ok(parts)
}

/// The target of a symbolic link in a folder this deep. It may go up, then down, and not up again: after going down
/// through another link, "up" would lead somewhere else than it reads.
fn inside(target: &[u8], folder_depth: usize) -> Result<String, &'static str> {
    let target = text(target)?;
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
    let mut ups = 0;
    while parts.next_if_eq(&"..").is_some() {
        ups += 1;
    }
    if ups > folder_depth {
        return Err("its link leads out of the bundle");
    }
    if parts.any(|part| part == "..") {
        return Err("its link leads up after it has led down");
    }
    Ok(target.to_owned())
}

/// A name that means the same on every system.
fn text(name: &[u8]) -> Result<&str, &'static str> {
    if name.is_empty() {
        return Err("it has an empty name");
    }
    if name.len() > PATH_BYTES_MAX {
        return Err("its name is too long");
    }
    let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
    if name.contains('\0') {
        return Err("its name contains a zero byte");
    }
    if name.contains('\\') {
        return Err("its name contains a backslash");
    }
    if name.starts_with('/') {
        return Err("its name is absolute");
    }
    if let [letter, b':', ..] = name.as_bytes()
        && letter.is_ascii_alphabetic()
    {
        return Err("its name begins with a drive letter");
    }
    Ok(name)
}
