//! What `build.rs` wrote, and how bytes reach a handler.
//!
//! A newcomer's usual mistake is to look for generics in the doors. A method is mounted once as a function from bytes to
//! bytes; everything behind that line is typed, everything before it works for any method.
//!
//! *Knows:* generated messages, service traits, handlers. *Does not know:* who implements or mounts them.

extern crate self as portico_wire;

mod handler;

pub use handler::{BoxFuture, Handler, Handlers};
pub use prost_types as well_known;

use bytes::Bytes;
use portico_base::{Code, Error, Result, reason};

/// The raw descriptor set of every proto file, custom options and comments included.
pub const SCHEMA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

/// A message that travels as protobuf bytes.
pub trait Wire: Sized + Send + 'static {
    /// Reads the message.
    ///
    /// # Errors
    /// `invalid_message` when the bytes are not such a message.
    fn from_wire(bytes: Bytes) -> Result<Self>;

    /// Writes the message.
    fn to_wire(&self) -> Bytes;
}

/// The empty message.
impl Wire for () {
    fn from_wire(bytes: Bytes) -> Result<Self> {
        prost::Message::decode(bytes).map_err(|error| undecodable(&error))
    }

    fn to_wire(&self) -> Bytes {
        Bytes::new()
    }
}

/// The error for bytes that are not the expected message.
pub fn undecodable(error: &prost::DecodeError) -> Error {
    Error::new(Code::InvalidArgument, reason::INVALID_MESSAGE, format!("the message cannot be decoded: {error}"))
}

/// Makes a generated message travel. For generated code.
#[macro_export]
macro_rules! travels {
    ($message:ty) => {
        impl $crate::Wire for $message {
            fn from_wire(bytes: ::bytes::Bytes) -> ::portico_base::Result<Self> {
                <Self as ::prost::Message>::decode(bytes).map_err(|error| $crate::undecodable(&error))
            }

            fn to_wire(&self) -> ::bytes::Bytes {
                ::prost::Message::encode_to_vec(self).into()
            }
        }
    };
}

/// The generated messages and services, by proto package.
#[expect(missing_docs, clippy::doc_markdown, reason = "generated from proto files, which buf lint keeps")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use generated::*;
