//! The services that gRPC tools expect of every server: health checking and reflection.
//!
//! A newcomer's usual mistake is to serve these beside the house. They are methods like any other: same engine, same
//! gate, same record; only their access rule says that anybody may call.
//!
//! *Knows:* the schema, the health board. *Does not know:* any other service.

mod health;
mod reflection;

pub use health::Health;
pub use reflection::Reflection;

use portico_domain::health::Board;
use portico_schema::Schema;
use portico_wire::{Handlers, grpc};

/// Mounts health checking and both versions of reflection, over what this schema serves and as this board sees it.
pub fn mount(schema: &Schema, board: Board, handlers: &mut Handlers) {
    grpc::health::v1::mount_health(Health::new(schema.clone(), board), handlers);
    let reflection = Reflection::new(schema);
    grpc::reflection::v1::mount_server_reflection(reflection.clone(), handlers);
    grpc::reflection::v1alpha::mount_server_reflection(reflection, handlers);
}
