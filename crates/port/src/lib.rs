//! What the domain asks of the world, as narrow traits.
//!
//! A newcomer's usual mistake is to add a method because one backend has it. A port asks only what the domain needs and
//! every backend can answer; one behaviour suite per port says what that is.
//!
//! *Knows:* the questions. *Does not know:* who answers.

pub mod blobs;
pub mod bus;
pub mod catalog;
pub mod fleet;
pub mod records;
pub mod registry;
pub mod sealer;
pub mod spans;

use std::{future::Future, pin::Pin};

/// What a port answers with: a boxed future, so that ports can be chosen at start-up.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = portico_base::Result<T>> + Send + 'a>>;
