//! Folders that agents have had to themselves: made new, and removed.
//!
//! A newcomer's usual mistake is to remove a tree by going down into it. An agent may have made one that is deeper than there
//! are descriptors or stack, may have closed folders to their owner, and may have left what nobody can remove. Here every
//! folder is brought up to the top before it is looked into, and what stays is put aside, so that it is in nobody's way.
//!
//! *Knows:* folders, descriptors. *Does not know:* whose they are.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
};

use portico_base::id;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
    path::Arg,
};

/// How the names begin of what could not be removed. No instance has such an id.
const LEFT: &str = ".left-";
/// How often a tree is gone through again in which something appeared meanwhile.
const ROUNDS_MAX: u32 = 4;

/// Makes a folder that holds nothing, whatever was in its place.
///
/// # Errors
/// When what is there can be neither removed nor put aside, or there is no room.
pub(super) fn make(place: &Path) -> io::Result<()> {
    vacate(place)?;
    fs::create_dir(place)
}

/// Removes whatever is there, or puts what is left of it aside.
///
/// # Errors
/// When neither is possible.
pub(super) fn vacate(place: &Path) -> io::Result<()> {
    let Err(error) = remove(place) else { return Ok(()) };
    let aside = place.with_file_name(id::random(LEFT, 12));
    fs::rename(place, &aside)?;
    tracing::warn!(folder = %aside.display(), problem = %error, "what an agent left cannot be removed and was put aside");
    Ok(())
}

/// Empties a folder as far as that can be done, and makes it when it is not there. What stays is told, and tried again
/// the next time.
///
/// # Errors
/// When the folder itself cannot be used.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_left = entry.file_name().as_encoded_bytes().starts_with(LEFT.as_bytes());
        let swept = if is_left { remove(&entry.path()) } else { vacate(&entry.path()) };
        if let Err(error) = swept {
            tracing::warn!(folder = %entry.path().display(), problem = %error, "what an agent left cannot be removed");
        }
    }
    Ok(())
}

/// Removes whatever is there. Goes on past what cannot be removed.
///
/// # Errors
/// The first that stood in the way. The rest is gone.
pub(super) fn remove(place: &Path) -> io::Result<()> {
    let mut removed = Ok(());
    for _ in 0..ROUNDS_MAX {
        removed = Tree::remove(place);
        match removed {
            // Something appeared in a folder that had just been emptied.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            _ => break,
        }
    }
    Ok(removed?)
}

/// A folder that is being removed with all that is below it.
struct Tree {
    top: OwnedFd,
    /// Names of folders at the top that are not empty.
    waiting: Vec<CString>,
    trouble: Option<Errno>,
}

impl Tree {
    fn remove(place: &Path) -> Result<(), Errno> {
        let top = match open(CWD, place) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            // No folder, but a file or a link.
            Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::unlinkat(CWD, place, AtFlags::empty()),
            Err(error) => return Err(error),
        };
        let mut tree = Tree { top, waiting: Vec::new(), trouble: None };
        tree.empty(None);
        while let Some(name) = tree.waiting.pop() {
            match open(&tree.top, &*name) {
                Ok(folder) => tree.empty(Some(folder)),
                Err(error) => tree.note(error),
            }
            let removed = rustix::fs::unlinkat(&tree.top, &*name, AtFlags::REMOVEDIR);
            removed.unwrap_or_else(|error| tree.note(error));
        }
        let removed = rustix::fs::unlinkat(CWD, place, AtFlags::REMOVEDIR);
        // What stood in the way first says why; without it all is gone.
        removed.map_err(|error| tree.trouble.unwrap_or(error))
    }

    /// Empties a folder, or the top: files are removed, folders that are not empty come to the top to wait there.
    fn empty(&mut self, folder: Option<OwnedFd>) {
        let listed = match &folder {
            Some(folder) => Dir::read_from(folder),
            None => Dir::read_from(&self.top),
        };
        let entries = match listed {
            Ok(entries) => entries,
            Err(error) => return self.note(error),
        };
        for entry in entries {
            let done = match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => Ok(()),
                Ok(entry) => self.take(folder.as_ref(), entry.file_name()),
                // The rest of the folder is not told either.
                Err(error) => return self.note(error),
            };
            done.unwrap_or_else(|error| self.note(error));
        }
    }

    fn take(&mut self, folder: Option<&OwnedFd>, name: &CStr) -> Result<(), Errno> {
        let at = folder.unwrap_or(&self.top);
        let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return rustix::fs::unlinkat(at, name, AtFlags::empty());
        }
        match rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            removed => return removed,
        }
        let waiting = match folder {
            Some(folder) => self.raise(folder, name)?,
            None => name.to_owned(),
        };
        self.waiting.push(waiting);
        Ok(())
    }

    /// Brings a folder to the top. Answers its name there.
    fn raise(&self, from: &OwnedFd, name: &CStr) -> Result<CString, Errno> {
        let raised = CString::new(id::random(".", 20)).map_err(|_| Errno::INVAL)?;
        match rustix::fs::renameat(from, name, &self.top, &*raised) {
            // Who moves a folder writes to it: where its parent lies stands in there.
            Err(Errno::ACCESS) => {
                unlock(from, name)?;
                rustix::fs::renameat(from, name, &self.top, &*raised)?;
            }
            moved => moved?,
        }
        Ok(raised)
    }

    fn note(&mut self, error: Errno) {
        self.trouble.get_or_insert(error);
    }
}

/// Opens a folder whose entries are to be removed, with the rights that this takes.
fn open(at: impl AsFd, name: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(&at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            unlock(&at, name)?;
            rustix::fs::openat(&at, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if !Mode::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode).contains(Mode::RWXU) {
        // Of another owner's folder it is told later what could not be removed.
        let _changed = rustix::fs::fchmod(&folder, Mode::RWXU).is_ok();
    }
    Ok(folder)
}

/// Gives a folder back to its owner. Should somebody put a link in its place just now, nobody gets more than he had: agents
/// are the gateway's user too.
fn unlock(at: impl AsFd, name: impl Arg) -> Result<(), Errno> {
    rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn room() -> std::path::PathBuf {
        let room = std::env::temp_dir().join(id::random("portico-folders-", 12));
        fs::create_dir(&room).unwrap();
        room
    }

    #[test]
    fn a_tree_is_removed_whatever_its_owner_may_do_in_it_and_nothing_beyond_its_links() {
        let room = room();
        let (kept, place) = (room.join("kept"), room.join("place"));
        fs::write(&kept, "kept").unwrap();
        for closed in ["none/a/b", "read/a/b", "search/a/b"] {
            fs::create_dir_all(place.join(closed)).unwrap();
            fs::write(place.join(closed).join("file"), "x").unwrap();
        }
        symlink(&room, place.join("none/a/link")).unwrap();
        for (closed, mode) in [("none/a", 0), ("none", 0), ("read/a", 0o400), ("search/a", 0o100), (".", 0o500)] {
            fs::set_permissions(place.join(closed), fs::Permissions::from_mode(mode)).unwrap();
        }
        remove(&place).unwrap();
        assert!(!place.exists());
        // A link in its place is removed, and not what it leads to.
        symlink(&kept, &place).unwrap();
        remove(&place).unwrap();
        remove(&place).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        fs::remove_dir_all(&room).unwrap();
    }

    #[test]
    fn a_tree_may_be_deeper_than_there_is_stack() {
        const DEPTH: usize = 2_000;
        const STACK_BYTES: usize = 64 << 10;
        let place = room();
        let mut folder = open(CWD, place.as_path()).unwrap();
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(&folder, "deeper", Mode::RWXU).unwrap();
            folder = open(&folder, "deeper").unwrap();
        }
        let there = place.clone();
        let removing = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || remove(&there));
        removing.unwrap().join().unwrap().unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn a_folder_is_made_new() {
        let room = room();
        let place = room.join("place");
        fs::create_dir_all(place.join("workspace")).unwrap();
        fs::write(place.join("workspace/old"), "x").unwrap();
        make(&place).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        sweep(&room).unwrap();
        assert_eq!(fs::read_dir(&room).unwrap().count(), 0);
        fs::remove_dir(&room).unwrap();
    }
}
