//! The key file: one key a line, the current one first.
//!
//! A newcomer's usual mistake is to write it again. It is made once, readable by its owner alone, and complete or absent
//! at every moment.
//!
//! *Knows:* the file. *Does not know:* what its keys seal.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use portico_base::{Code, Error, Result, Secret, error::BoxError, id, reason};
use zeroize::Zeroizing;

use super::{KEY_BYTES, Keyring};
use crate::private;

impl Keyring {
    /// The keys in this file; when there is none, a fresh key is made and kept there, readable by its owner alone.
    ///
    /// # Errors
    /// `secrets_undecryptable` when the file cannot be read or made; `validation_failed` when a line is not a key.
    pub fn load_or_create(path: &Path) -> Result<Keyring> {
        match fs::read_to_string(path) {
            Ok(text) => read(&Zeroizing::new(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path).map_err(|error| unusable(path, error))?;
                // Another process may have been quicker; what is in the file counts.
                let text = fs::read_to_string(path).map_err(|error| unusable(path, error))?;
                read(&Zeroizing::new(text))
            }
            Err(error) => Err(unusable(path, error)),
        }
    }
}

fn read(text: &str) -> Result<Keyring> {
    let mut keys =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(Secret::new);
    let current = keys.next().ok_or_else(|| Error::invalid("secrets_key", "the key file has no key"))?;
    Keyring::parse(&current, &keys.collect::<Vec<_>>())
}

fn create(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    private::folder(directory)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    id::fill(&mut *key);
    let text = Zeroizing::new(format!(
        "# Seals the secrets of this platform. Without it they are lost.\n{}\n",
        *Zeroizing::new(STANDARD.encode(*key))
    ));
    let draft = path.with_extension(id::random("draft-", 12));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // A link does not replace what is there already, as a rename would.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(directory)?.sync_all()
}

fn unusable(path: &Path, source: impl Into<BoxError>) -> Error {
    let message = format!("the key file {} cannot be used", path.display());
    Error::new(Code::FailedPrecondition, reason::SECRETS_UNDECRYPTABLE, message).caused_by(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portico_port::sealer::Sealer;

    #[test]
    fn the_file_is_made_once_and_private() {
        let directory = std::env::temp_dir().join(id::random("portico-test-", 20));
        let path = directory.join("secrets.key");
        let made = Keyring::load_or_create(&path).unwrap();
        let read = Keyring::load_or_create(&path).unwrap();
        assert_eq!(made.kid(), read.kid());
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no draft is left behind");
        fs::remove_dir_all(directory).unwrap();
    }
}
