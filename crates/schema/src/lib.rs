//! The method table: what is known of every method before any request arrives.
//!
//! A newcomer's usual mistake is to add a route in a door. A route exists because a proto file says so; this room reads
//! that once, checks it as a whole, and everything else (doors, gate, documents, tests) walks the table.
//!
//! *Knows:* methods, surfaces, access rules, REST bindings, sockets. *Does not know:* handlers.

mod binding;
mod method;
mod options;
mod surface;
mod template;

pub use binding::{Binding, Body};
pub use method::{Access, AnswerHeader, Idempotency, Method, Rest, Shape, Socket};
pub use surface::{COORDINATOR, Dialect, EVERY, GATEWAY, Surface};
pub use template::{Segment, Template, Variable};

use std::{collections::HashMap, fmt, sync::Arc};

use portico_json::Types;
use prost_reflect::DescriptorPool;

/// Every method, read once from the raw descriptor set. Cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<Tables>);

struct Tables {
    pool: DescriptorPool,
    types: Types,
    methods: Vec<Arc<Method>>,
    by_path: HashMap<&'static str, Arc<Method>>,
}

/// Why a schema cannot be served. The message names file, method and cure.
#[derive(Debug)]
pub struct Defect(String);

impl Defect {
    /// A defect, said in this message.
    pub fn new(message: impl Into<String>) -> Defect {
        Defect(message.into())
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Defect {}

impl Schema {
    /// Reads what a gateway serves out of a raw descriptor set.
    ///
    /// # Errors
    /// As for [`Schema::of`].
    pub fn read(descriptors: &[u8]) -> Result<Schema, Defect> {
        Schema::of(descriptors, GATEWAY)
    }

    /// Reads the methods of these surfaces out of a raw descriptor set.
    ///
    /// # Errors
    /// When it is not one, or is one that cannot be served: two methods claim one REST route, a template names a field
    /// that does not exist, a streaming method has a plain REST body, a socket stands on a method that does not
    /// answer with a stream.
    pub fn of(descriptors: &[u8], surfaces: &[&str]) -> Result<Schema, Defect> {
        let pool = DescriptorPool::decode(descriptors).map_err(|error| Defect::new(format!("schema: {error}")))?;
        let types = Types::new(&pool);
        let mut methods = Vec::new();
        let mut by_path = HashMap::new();
        for service in pool.services() {
            for descriptor in service.methods() {
                let method = Arc::new(options::read(&service, &descriptor, &types)?);
                if !surfaces.contains(&method.surface.name) {
                    continue;
                }
                for path in method.paths() {
                    by_path.insert(path, Arc::clone(&method));
                }
                methods.push(method);
            }
        }
        // Who serves every surface serves documents, not routes.
        if surfaces != EVERY {
            binding::refuse_clashes(&methods)?;
        }
        Ok(Schema(Arc::new(Tables { pool, types, methods, by_path })))
    }

    /// Every method, in the order of the proto files.
    pub fn methods(&self) -> &[Arc<Method>] {
        &self.0.methods
    }

    /// The method at this path, by its own name or an alias, for example `/podium.v1.KeysService/CreateKey`.
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.0.by_path.get(path)
    }

    /// The message types, for JSON.
    pub fn types(&self) -> &Types {
        &self.0.types
    }

    /// The descriptors, for reflection and documents.
    pub fn pool(&self) -> &DescriptorPool {
        &self.0.pool
    }
}
