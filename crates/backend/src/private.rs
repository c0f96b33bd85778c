//! Folders and files that nobody but the user of this process may look into.
//!
//! A newcomer's usual mistake is to change the mode of what is there. The operator made it, and knows why; only what is made
//! here is private.
//!
//! *Knows:* modes. *Does not know:* what is kept.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    path::Path,
};

/// Makes a folder and those above it, as far as they are not there.
///
/// # Errors
/// When one of them cannot be made.
pub fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Makes an empty file, if there is none.
pub(super) fn file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
