//! The pepper under which key digests are made: 32 random bytes in a file that only its owner reads.
//!
//! A newcomer's usual mistake is to lose it with a backup of the records alone: without the pepper no stored digest
//! matches any key.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use zeroize::Zeroizing;

use crate::{
    base::{Code, Error, Result, id, reason},
    domain::keys::Digester,
};

const PEPPER_BYTES: usize = 32;

/// The pepper in this file; made when there is none.
///
/// # Errors
/// When the file cannot be read or made, or does not hold 32 bytes.
pub(super) fn load_or_create(path: &Path) -> Result<Digester> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| unusable(path, error))?;
    }
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(path).and_then(|()| fs::read(path)).map_err(|error| unusable(path, error))?
        }
        read => read.map_err(|error| unusable(path, error))?,
    };
    let bytes = Zeroizing::new(bytes);
    let pepper: &[u8; PEPPER_BYTES] =
        bytes.as_slice().try_into().map_err(|_| unusable(path, format!("it holds {} bytes, not 32", bytes.len())))?;
    Ok(Digester::new(pepper))
}

/// Complete or absent at every moment: written beside, then linked, which fails if another process was quicker.
fn create(path: &Path) -> std::io::Result<()> {
    let mut pepper = Zeroizing::new([0; PEPPER_BYTES]);
    id::fill(&mut *pepper);
    let draft = path.with_extension(id::random("draft-", 12));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(&*pepper)?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

fn unusable(path: &Path, source: impl Into<crate::base::error::BoxError>) -> Error {
    let message = format!("the pepper for key digests in {} cannot be used", path.display());
    Error::new(Code::FailedPrecondition, reason::INTERNAL, message).caused_by(source)
}
