//! What the headers of a request say to the rooms, found in one walk.
//!
//! A newcomer's usual mistake is to look a header up where it is wanted. Each look-up hashes a name, most names are not
//! there, and together they cost more than one walk over the few that are.
//!
//! *Knows:* which headers decide how a request is read. *Does not know:* what they decide.

use http::{HeaderMap, HeaderValue};

/// The headers that every request is read by, each by its first value.
#[derive(Clone, Copy, Default)]
pub struct Outline<'h> {
    pub(super) connect_timeout: Option<&'h HeaderValue>,
    pub(super) content_encoding: Option<&'h HeaderValue>,
    pub(super) content_type: Option<&'h HeaderValue>,
    pub(super) expect: Option<&'h HeaderValue>,
    pub(super) grpc_encoding: Option<&'h HeaderValue>,
    pub(super) grpc_timeout: Option<&'h HeaderValue>,
    pub(super) protocol_version: Option<&'h HeaderValue>,
    pub(super) request_id: Option<&'h HeaderValue>,
}

impl<'h> Outline<'h> {
    /// Walks over the headers.
    pub fn of(headers: &'h HeaderMap) -> Outline<'h> {
        let mut outline = Outline::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "connect-timeout-ms" => &mut outline.connect_timeout,
                "content-encoding" => &mut outline.content_encoding,
                "content-type" => &mut outline.content_type,
                "expect" => &mut outline.expect,
                "grpc-encoding" => &mut outline.grpc_encoding,
                "grpc-timeout" => &mut outline.grpc_timeout,
                "connect-protocol-version" => &mut outline.protocol_version,
                "x-request-id" => &mut outline.request_id,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        outline
    }
}
