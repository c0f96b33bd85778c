//! Which models there are, as whoever serves them says.
//!
//! A newcomer's usual mistake is to model a model. Its fields belong to Ensemble and grow without us; the document passes
//! through whole.
//!
//! *Knows:* a document. *Does not know:* its fields, caching, what a query means.

use bytes::Bytes;
use portico_base::{Context, health::Health};

use crate::Answer;

/// Largest document taken.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// The models, as answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The bytes of the answer.
    pub body: Bytes,
    /// Its media type.
    pub content_type: String,
}

/// Serves the models.
pub trait Catalog: Send + Sync + 'static {
    /// The models that this query string asks for, in the name of this call; all of them when it is empty.
    ///
    /// # Errors
    /// One of the `ensemble_…` reasons; what is worth trying again says when.
    fn models<'a>(&'a self, cx: &'a Context, query: &'a str) -> Answer<'a, Document>;

    /// Whether the catalog answers.
    fn health(&self) -> Answer<'_, Health>;
}
