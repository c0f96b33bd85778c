//! The entries of an archive, one after the other, each already found harmless.
//!
//! A newcomer's usual mistake is to trust the first header of an entry. Up to two extension headers may precede it and
//! change its path, link target and size; only what comes out of here is the entry as GNU tar would see it.
//!
//! *Knows:* the order of blocks in a tar archive. *Does not know:* what is done with an entry.

use std::io::Read;

use portico_base::Result;

use crate::{
    gzip::Gunzip,
    header::{BLOCK_BYTES, Header},
    pax::{self, Overrides},
    refusal,
    rules::{Contents, Limits, Rules},
};

/// Longest extension header. It holds a path and a few attributes; more is an attack on memory.
const EXTENSION_BYTES_MAX: u64 = 256 << 10;
/// Read at once where content is skipped.
const SKIP_BYTES: usize = 16 << 10;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the root: no `.`, no `..`, no empty parts, `/` between them.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// The size of its content; zero unless it is a file.
    pub size: u64,
    /// Whether anyone may execute it.
    pub executable: bool,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link, whose target stays inside the root.
    SymbolicLink {
        /// As stored, relative to the folder of the link.
        target: String,
    },
    /// Another name of an earlier file.
    HardLink {
        /// The path of the earlier file, below the root.
        target: String,
    },
}

/// The entries of a bundle.
pub struct Entries<R: Read> {
    gzip: Gunzip<R>,
    rules: Rules,
    /// Content of the current entry that has not been read.
    content_left: u64,
    /// Zeros that fill up the last block of the current entry.
    padding: u64,
    blocks: u64,
    ended: bool,
}

impl<R: Read> Entries<R> {
    /// The entries in these bytes.
    pub fn new(source: R, limits: Limits) -> Self {
        let gzip = Gunzip::new(source, limits.clone());
        Entries { gzip, rules: Rules::new(limits), content_left: 0, padding: 0, blocks: 0, ended: false }
    }

    /// The next entry. After `None` the whole stream was read and found in order.
    ///
    /// # Errors
    /// The reasons of the archive checks, the first that applies. There is nothing more to read then.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend the content of its current item")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        if self.ended {
            return Ok(None);
        }
        let mut pending = Pending::default();
        let mut block = [0; BLOCK_BYTES];
        loop {
            if !self.block(&mut block)? {
                pending.none_left()?;
                self.end()?;
                return Ok(None);
            }
            let Some(header) = Header::parse(&block) else {
                let first = self.blocks == 1;
                return Err(if first { refusal::not_tar() } else { refusal::corrupt_tar("a header is damaged") });
            };
            let size = header.size()?;
            match header.type_flag() {
                b'x' => pending.extended(pax::read(&self.extension(size)?)?)?,
                b'g' => refuse_global_overrides(&pax::read(&self.extension(size)?)?)?,
                b'L' => pending.long_path(self.extension(size)?)?,
                b'K' => pending.long_link(self.extension(size)?)?,
                _ => return self.entry(&header, size, pending).map(Some),
            }
        }
    }

    /// Reads content of the current entry; none at its end.
    ///
    /// # Errors
    /// As [`Entries::next`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.gzip.read(&mut buffer[..wanted])? {
            0 => Err(truncated()),
            read => {
                self.content_left -= read as u64;
                Ok(read)
            }
        }
    }

    /// What was found so far; complete once [`Entries::next`] has answered `None`.
    pub fn contents(&self) -> Contents {
        self.rules.contents()
    }

    fn entry(&mut self, header: &Header<'_>, header_size: u64, pending: Pending) -> Result<Entry> {
        let path = pending.path()?.unwrap_or_else(|| header.path());
        let link = pending.link()?.unwrap_or_else(|| header.link());
        let size = pending.overrides.size.unwrap_or(header_size);
        let entry = self.rules.admit(header.type_flag(), &path, &link, size, header.mode()?)?;
        self.content_left = entry.size;
        self.padding = padding(entry.size);
        Ok(entry)
    }

    /// Reads a block that may hold a header. Answers false at the first zero block.
    fn block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<bool> {
        let filled = self.gzip.fill(block)?;
        self.blocks += 1;
        match (filled, self.blocks) {
            (BLOCK_BYTES, _) => Ok(block.iter().any(|byte| *byte != 0)),
            (_, 1) => Err(refusal::not_tar()),
            _ => Err(truncated()),
        }
    }

    /// The content of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_BYTES_MAX {
            return Err(refusal::corrupt_tar("an extension header is too large"));
        }
        let mut content = vec![0; usize::try_from(size).unwrap_or_default()];
        if self.gzip.fill(&mut content)? < content.len() {
            return Err(truncated());
        }
        self.padding = padding(size);
        self.skip()?;
        Ok(content)
    }

    /// Passes over what is left of the current entry.
    fn skip(&mut self) -> Result<()> {
        let mut left = self.content_left + std::mem::take(&mut self.padding);
        self.content_left = 0;
        let mut buffer = [0; SKIP_BYTES];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(SKIP_BYTES).min(SKIP_BYTES);
            match self.gzip.read(&mut buffer[..wanted])? {
                0 => return Err(truncated()),
                read => left -= read as u64,
            }
        }
        Ok(())
    }

    /// Reads to the end of the stream: one more zero block, then zeros alone. A second archive hidden behind the end is
    /// one that another reader might unpack.
    fn end(&mut self) -> Result<()> {
        self.ended = true;
        let mut buffer = [0; SKIP_BYTES];
        if self.gzip.fill(&mut buffer[..BLOCK_BYTES])? < BLOCK_BYTES {
            return Err(refusal::corrupt_tar("the tar archive ends without its two zero blocks"));
        }
        let mut read = BLOCK_BYTES;
        while read > 0 {
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(refusal::corrupt_tar("other bytes follow the end of the tar archive"));
            }
            read = self.gzip.read(&mut buffer)?;
        }
        self.rules.complete()
    }
}

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Pending {
    seen: bool,
    overrides: Overrides,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn extended(&mut self, overrides: Overrides) -> Result<()> {
        let again = self.overrides.path.is_some() || self.overrides.link.is_some() || self.overrides.size.is_some();
        if again {
            return Err(ambiguous());
        }
        (self.seen, self.overrides) = (true, overrides);
        Ok(())
    }

    fn long_path(&mut self, content: Vec<u8>) -> Result<()> {
        self.seen = true;
        once(self.long_path.replace(without_zeros(content)?))
    }

    fn long_link(&mut self, content: Vec<u8>) -> Result<()> {
        self.seen = true;
        once(self.long_link.replace(without_zeros(content)?))
    }

    fn path(&self) -> Result<Option<Vec<u8>>> {
        either(&self.overrides.path, &self.long_path)
    }

    fn link(&self) -> Result<Option<Vec<u8>>> {
        either(&self.overrides.link, &self.long_link)
    }

    fn none_left(&self) -> Result<()> {
        if self.seen { Err(refusal::corrupt_tar("an extension header has no entry")) } else { Ok(()) }
    }
}

fn either(one: &Option<Vec<u8>>, other: &Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match (one, other) {
        (Some(_), Some(_)) => Err(ambiguous()),
        (one, other) => Ok(one.clone().or_else(|| other.clone())),
    }
}

fn once(before: Option<Vec<u8>>) -> Result<()> {
    if before.is_some() { Err(ambiguous()) } else { Ok(()) }
}

/// Readers disagree which of two extension headers counts.
fn ambiguous() -> portico_base::Error {
    refusal::corrupt_tar("two extension headers say different things about one entry")
}

/// A GNU long name ends with zeros; none may be inside.
fn without_zeros(mut content: Vec<u8>) -> Result<Vec<u8>> {
    while content.last() == Some(&0) {
        content.pop();
    }
    if content.contains(&0) {
        return Err(refusal::unsafe_entry(&content, "its name contains a zero byte"));
    }
    Ok(content)
}

/// Global headers may carry comments. Overriding fields of every entry is something no packer does.
fn refuse_global_overrides(overrides: &Overrides) -> Result<()> {
    let Overrides { path, link, size } = overrides;
    if path.is_some() || link.is_some() || size.is_some() {
        return Err(refusal::corrupt_tar("a global header overrides paths or sizes"));
    }
    Ok(())
}

fn padding(size: u64) -> u64 {
    (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64
}

fn truncated() -> portico_base::Error {
    refusal::corrupt_tar("the tar archive is truncated")
}
