//! A `Debug` that keeps what a proto file marks with `debug_redact`.
//!
//! A newcomer's usual mistake is to mark the message. The mark stands at the field that holds the secret; every message
//! that contains such a message then keeps it too, because it prints its parts by their own `Debug`.
//!
//! *Knows:* which fields are marked, how prost names things. *Does not know:* what is secret about them.

use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, Value};

use crate::Error;

/// The messages with marked fields.
pub(crate) struct Redacted {
    messages: Vec<MessageDescriptor>,
}

impl Redacted {
    /// Finds them.
    ///
    /// # Errors
    /// When a marked message is nested in another one: its Rust name is not a plain one.
    pub(crate) fn find(pool: &DescriptorPool) -> Result<Redacted, Error> {
        let messages: Vec<_> =
            pool.all_messages().filter(|message| message.fields().any(|field| is_marked(&field))).collect();
        if let Some(nested) = messages.iter().find(|message| message.parent_message().is_some()) {
            return Err(format!("{}: debug_redact needs a message at the top of its file", nested.full_name()).into());
        }
        Ok(Redacted { messages })
    }

    /// Their paths, as prost matches them.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.messages.iter().map(|message| format!(".{}", message.full_name())).collect()
    }

    /// One `Debug` for each, to stand beside the modules of the packages.
    pub(crate) fn impls(&self) -> String {
        self.messages.iter().map(written).collect()
    }
}

fn written(message: &MessageDescriptor) -> String {
    let modules: Vec<String> = message.package_name().split('.').map(ident).collect();
    let name = message.name();
    let mut out = format!(
        "impl ::core::fmt::Debug for {}::{name} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> \
         ::core::fmt::Result {{\n        f.debug_struct({name:?})\n",
        modules.join("::")
    );
    for (field, marked) in parts(message) {
        let shown =
            if marked { "&::core::format_args!(\"***\")".to_owned() } else { format!("&self.{}", ident(&field)) };
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "            .field({field:?}, {shown})");
    }
    out.push_str("            .finish()\n    }\n}\n");
    out
}

/// The members of the struct in order: fields, and a oneof in the place of its first one. A oneof is kept whole.
fn parts(message: &MessageDescriptor) -> Vec<(String, bool)> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    let mut parts: Vec<(String, bool)> = Vec::with_capacity(fields.len());
    for field in fields {
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let name = oneof.as_ref().map_or(field.name(), |oneof| oneof.name()).to_owned();
        let marked = is_marked(&field);
        match parts.iter_mut().find(|part| part.0 == name) {
            Some(part) => part.1 |= marked,
            None => parts.push((name, marked)),
        }
    }
    parts
}

fn is_marked(field: &FieldDescriptor) -> bool {
    field.options().get_field_by_name("debug_redact").is_some_and(|mark| *mark == Value::Bool(true))
}

/// Names are lower case with underscores (buf lint), so only Rust's own words need care.
fn ident(name: &str) -> String {
    const WORDS: [&str; 16] = [
        "as", "async", "await", "const", "enum", "fn", "for", "in", "loop", "match", "mod", "move", "ref", "type",
        "use", "where",
    ];
    if WORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}
