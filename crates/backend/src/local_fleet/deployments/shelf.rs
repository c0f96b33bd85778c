//! Which bundles lie unpacked on this machine, and which of them can go.
//!
//! A newcomer's usual mistake is to count those that this process has used. What earlier ones left takes room too, so the
//! disk is asked; what nobody has used since the start goes first, the oldest before the others.
//!
//! *Knows:* places, uses, who runs what. *Does not know:* how a bundle comes and goes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use portico_port::fleet::Cached;

use super::Deployed;

/// The bundles that this process has used.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Used>);

#[derive(Default)]
struct Used {
    /// By checksum.
    bundles: HashMap<String, Bundle>,
    /// How often one was taken.
    uses: u64,
}

struct Bundle {
    deployment_id: String,
    place: PathBuf,
    deployed: Arc<Deployed>,
    last_use: u64,
}

impl Shelf {
    /// The bundle of this checksum. Nobody removes it as long as what is answered is held.
    pub(super) fn take(&self, checksum: &str) -> Option<Arc<Deployed>> {
        self.with(|used| {
            used.uses += 1;
            let bundle = used.bundles.get_mut(checksum)?;
            bundle.last_use = used.uses;
            Some(Arc::clone(&bundle.deployed))
        })
    }

    /// Adds a bundle that lies in this place.
    pub(super) fn put(&self, checksum: &str, deployment_id: &str, place: PathBuf, deployed: Deployed) -> Arc<Deployed> {
        let deployed = Arc::new(deployed);
        self.with(|used| {
            used.uses += 1;
            let (deployment_id, last_use) = (deployment_id.to_owned(), used.uses);
            let bundle = Bundle { deployment_id, place, deployed: Arc::clone(&deployed), last_use };
            used.bundles.insert(checksum.to_owned(), bundle);
        });
        deployed
    }

    /// Forgets the bundle that lies in this place, unless somebody holds it.
    pub(super) fn gives_up(&self, place: &Path) -> bool {
        self.with(|used| {
            let is_held = |bundle: &Bundle| bundle.place == place && Arc::strong_count(&bundle.deployed) > 1;
            if used.bundles.values().any(is_held) {
                return false;
            }
            used.bundles.retain(|_, bundle| bundle.place != place);
            true
        })
    }

    /// The deployment ids of all.
    pub(super) fn ids(&self) -> Cached {
        self.with(|used| used.bundles.values().map(|bundle| bundle.deployment_id.clone()).collect())
    }

    /// All places below the folder that holds them, the least recently used first. Blocks.
    pub(super) fn places(&self, root: &Path) -> io::Result<Vec<PathBuf>> {
        let mut places = Vec::new();
        for folder in folders(root)? {
            for place in folders(&folder)? {
                // What goes just now takes no room.
                let Ok(metadata) = fs::metadata(&place) else { continue };
                places.push((self.last_use(&place), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), place));
            }
        }
        places.sort();
        Ok(places.into_iter().map(|(_, _, place)| place).collect())
    }

    fn last_use(&self, place: &Path) -> Option<u64> {
        self.with(|used| {
            used.bundles.values().filter(|bundle| bundle.place == place).map(|bundle| bundle.last_use).max()
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Used) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The folders in a folder, but for those in the making.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}
