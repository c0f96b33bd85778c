//! What is known of an object, and where it is written.
//!
//! A newcomer's usual mistake is one fixed name for what tells of a key. Of two uploads the loser would then overwrite what
//! tells of the winner; so each upload has a name of its own, and the object says which is its.
//!
//! *Knows:* metadata and the objects beside objects. *Does not know:* how objects arrive.

use std::collections::HashMap;

use portico_base::{Error, Result};
use portico_port::blobs::{Digest, Head, Metadata};
use serde::{Deserialize, Serialize};

use super::{S3, failure};

/// The metadata that holds the digest as lower-case hex.
pub(super) const SHA256: &str = "sha256";
/// The metadata that names what tells of an object.
pub(super) const ABOUT: &str = "portico-about";
/// Where it is told of objects.
pub(super) const ABOUT_FOLDER: &str = ".about/";

/// What is written beside a large object.
#[derive(Serialize, Deserialize)]
struct About {
    size: u64,
    sha256: String,
    metadata: Metadata,
}

/// The metadata of an object of which everything is known before it is stored.
pub(super) fn whole(digest: Digest, metadata: &Metadata) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = metadata.clone().into_iter().collect();
    all.insert(SHA256.to_owned(), digest.to_string());
    all
}

/// What the metadata of an object says of it.
pub(super) enum Told {
    /// All.
    Whole(Head),
    /// Where it is said.
    Beside(String),
    /// Nothing: somebody else stored it.
    Nothing,
}

/// Reads the metadata of an object.
pub(super) fn told(size: u64, metadata: Option<&HashMap<String, String>>) -> Told {
    let mut all: Metadata = metadata.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(id) = all.remove(ABOUT) {
        return Told::Beside(id);
    }
    match all.remove(SHA256).and_then(|text| Digest::from_hex(&text)) {
        Some(digest) => Told::Whole(Head { size, digest, metadata: all }),
        None => Told::Nothing,
    }
}

impl S3 {
    /// Where it is told of an upload of this key.
    pub(super) fn about_at(&self, key: &str, id: &str) -> String {
        self.at(&format!("{ABOUT_FOLDER}{key}/{id}"))
    }

    /// Writes down what is known of an object.
    pub(super) async fn tell(&self, key: &str, id: &str, size: u64, digest: Digest, metadata: &Metadata) -> Result<()> {
        let about = About { size, sha256: digest.to_string(), metadata: metadata.clone() };
        let json = serde_json::to_vec(&about).map_err(Error::internal)?;
        let (encryption, key_id) = self.encryption();
        let put = self.0.client.put_object().bucket(&self.0.bucket).key(self.about_at(key, id)).body(json.into());
        let put = put.content_type("application/json").set_server_side_encryption(encryption).set_ssekms_key_id(key_id);
        put.send().await.map(|_| ()).map_err(|error| failure::of("store an object", error))
    }

    /// Reads what is known of an object.
    pub(super) async fn tells(&self, key: &str, id: &str, size: u64) -> Result<Option<Head>> {
        let get = self.0.client.get_object().bucket(&self.0.bucket).key(self.about_at(key, id));
        let found = match get.send().await {
            Ok(found) => found,
            Err(error) if failure::is_absent(&error) => return Ok(None),
            Err(error) => return Err(failure::of("read an object", error)),
        };
        let json = found.body.collect().await.map_err(failure::broken_off)?.into_bytes();
        // What does not say what it should says nothing, as if it were lost.
        let about = serde_json::from_slice::<About>(&json).ok().filter(|about| about.size == size);
        let known = about.and_then(|about| Some((Digest::from_hex(&about.sha256)?, about.metadata)));
        Ok(known.map(|(digest, metadata)| Head { size, digest, metadata }))
    }

    /// Removes what tells of an object. Leftovers are small, and the next start removes them.
    pub(super) async fn untell(&self, key: &str, id: &str) {
        let delete = self.0.client.delete_object().bucket(&self.0.bucket).key(self.about_at(key, id));
        if let Err(error) = delete.send().await {
            let error = failure::of("remove an object", error);
            tracing::warn!(error = error.report(), "what tells of an object could not be removed");
        }
    }
}
