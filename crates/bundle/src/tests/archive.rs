//! Writes archives, including those that no decent program would write.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar archive in the making.
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn new() -> Archive {
        Archive(Vec::new())
    }

    pub(super) fn file(self, path: &str, content: &[u8]) -> Archive {
        self.named(path).entry(b'0', path.as_bytes(), b"", 0o644, content)
    }

    pub(super) fn directory(self, path: &str) -> Archive {
        self.entry(b'5', path.as_bytes(), b"", 0o755, b"")
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Archive {
        self.entry(b'2', path.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub(super) fn hardlink(self, path: &str, target: &str) -> Archive {
        self.entry(b'1', path.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    pub(super) fn long_name(self, path: &[u8]) -> Archive {
        self.entry(b'L', b"././@LongLink", b"", 0o644, &[path, b"\0"].concat())
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut content = Vec::new();
        for (key, value) in records {
            // The length counts its own digits, so it is found by trying.
            let rest = key.len() + value.len() + 3;
            let length = (1..).find(|length: &usize| length.to_string().len() + rest == *length).unwrap();
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.entry(b'x', b"pax", b"", 0o644, &content)
    }

    pub(super) fn entry(mut self, flag: u8, path: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Archive {
        self.push(flag, path, link, format!("{:011o}\0", content.len()).as_bytes(), mode, content);
        self
    }

    /// A header with exactly this size field, then exactly this content.
    pub(super) fn push(&mut self, flag: u8, path: &[u8], link: &[u8], size: &[u8], mode: u32, content: &[u8]) {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &path[..path.len().min(100)]);
        put(100, format!("{mode:07o}\0").as_bytes());
        put(124, size);
        put(148, b"        ");
        put(156, &[flag]);
        put(157, link);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The archive with its two zero blocks.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1_024, 0);
        self.0
    }

    pub(super) fn gzip(self) -> Vec<u8> {
        gzip(&self.finish())
    }

    fn named(self, path: &str) -> Archive {
        if path.len() > 100 { self.pax(&[("path", path.as_bytes())]) } else { self }
    }
}
