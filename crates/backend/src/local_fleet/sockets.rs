//! The folder that the sockets of agents lie in.
//!
//! A newcomer's usual mistake is to put sockets wherever there is room. The system takes no path over some 100 bytes, so where
//! the fleet's own folder has a long name they lie in a folder of /tmp. A link in the fleet's folder says which one, so that
//! the next start finds what a gateway left that was killed.
//!
//! *Knows:* folders. *Does not know:* who connects.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use portico_base::id;

use super::folders;

/// Longest folder for sockets: their whole path must stay below 100 bytes.
const FOLDER_BYTES_MAX: usize = 80;
/// The folder in the fleet's own.
const NEAR: &str = "s";
/// Where it leads to the other one.
const LINK: &str = "far";
/// Where the other one lies.
const FAR: &str = "/tmp";
/// How its name begins.
const FAR_PREFIX: &str = "portico-";

/// Where sockets lie. A folder outside the fleet's own goes when this is dropped.
pub(super) struct SocketFolder {
    path: PathBuf,
    link: Option<PathBuf>,
}

impl SocketFolder {
    /// An empty folder for the sockets of the fleet in this folder, which nobody else uses.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open(root: &Path) -> io::Result<SocketFolder> {
        let near = root.join(NEAR);
        let link = near.join(LINK);
        forget(&link);
        folders::sweep(&near)?;
        if near.as_os_str().len() <= FOLDER_BYTES_MAX {
            fs::set_permissions(&near, fs::Permissions::from_mode(0o700))?;
            return Ok(SocketFolder { path: near, link: None });
        }
        let path = Path::new(FAR).join(id::random(FAR_PREFIX, 12));
        // Linked to before it is there, so that it is found whenever the process ends.
        symlink(&path, &link)?;
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(SocketFolder { path, link: Some(link) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            forget(link);
        }
    }
}

/// Removes the folder that this link leads to, if it is one of ours, and the link.
fn forget(link: &Path) {
    let Ok(path) = fs::read_link(link) else { return };
    let named = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(FAR_PREFIX.as_bytes()));
    let own = rustix::process::geteuid().as_raw();
    let is_own = fs::symlink_metadata(&path).is_ok_and(|folder| folder.is_dir() && folder.uid() == own);
    if path.parent() == Some(Path::new(FAR)) && named && is_own {
        // What stays is a few names in /tmp.
        let _removed = folders::remove(&path).is_ok();
    }
    let _removed = fs::remove_file(link).is_ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_elsewhere_goes_with_its_user_or_with_the_next_one() {
        let root = std::env::temp_dir().join(id::random("portico-sockets-", FOLDER_BYTES_MAX));
        fs::create_dir(&root).unwrap();
        let killed = SocketFolder::open(&root).unwrap();
        fs::write(killed.path().join("socket"), "").unwrap();
        let left = killed.path().to_owned();
        std::mem::forget(killed);
        let next = SocketFolder::open(&root).unwrap();
        assert!(!left.exists() && next.path().starts_with(FAR) && next.path().is_dir());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());

        // A link that somebody else made leads to nothing of ours.
        let kept = root.join("portico-kept");
        fs::create_dir(&kept).unwrap();
        symlink(&kept, root.join(NEAR).join(LINK)).unwrap();
        drop(SocketFolder::open(&root).unwrap());
        assert!(kept.is_dir());
        fs::remove_dir_all(&root).unwrap();
    }
}
