//! What a caller sends beside the message: names with values, as HTTP headers and gRPC metadata have them.
//!
//! A newcomer's usual mistake is to read identity from here. The gate has taken credentials out before a handler runs.
//!
//! *Knows:* names and values. *Does not know:* which of them mean anything.

use std::sync::Arc;

use http::HeaderMap;

/// Request metadata. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metadata(Arc<HeaderMap>);

impl Metadata {
    /// Wraps the headers of a request.
    pub fn new(headers: HeaderMap) -> Metadata {
        Metadata(Arc::new(headers))
    }

    /// The first value of this lower-case name, if it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }

    /// All of it.
    pub fn headers(&self) -> &HeaderMap {
        &self.0
    }
}
