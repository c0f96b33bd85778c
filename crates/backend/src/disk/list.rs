//! Keys in order, out of folders.
//!
//! A newcomer's usual mistake is to sort names. `a-b` comes before `a/b` by bytes, so a folder is sorted with its slash.
//!
//! *Knows:* folders and the order of keys. *Does not know:* objects.

use std::{fs, io, path::Path};

use portico_base::Result;
use portico_port::blobs::Listed;

use super::{files::refused, layout::Layout};

/// Keys with this prefix behind `after`, ascending.
pub(super) fn keys(layout: &Layout, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>> {
    let mut walk = Walk { prefix, after, limit, found: Vec::new() };
    walk.folder(layout.root(), "").map_err(|error| refused("list objects", error))?;
    Ok(walk.found)
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<Listed>,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, key: &str) -> io::Result<()> {
        for name in names(path)? {
            if self.found.len() >= self.limit {
                return Ok(());
            }
            let (key, path) = (format!("{key}{name}"), path.join(&name));
            if name.ends_with('/') {
                if self.leads_on(&key) {
                    self.folder(&path, &key)?;
                }
            } else if key.starts_with(self.prefix) && *key > *self.after {
                self.found.push(Listed { size: fs::metadata(&path)?.len(), key });
            }
        }
        Ok(())
    }

    /// Whether a wanted key may lie below this folder, whose key ends with a slash.
    fn leads_on(&self, folder: &str) -> bool {
        let on_the_way = self.prefix.starts_with(folder) || folder.starts_with(self.prefix);
        on_the_way && (*folder > *self.after || self.after.starts_with(folder))
    }
}

/// What is in a folder, our own hidden names apart, in the order of keys.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}
