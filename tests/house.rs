//! Tests about the house itself: its layers, its documents, its rules.

mod access;
mod documented;
mod documents;
mod examples;
mod keys;
mod layers;
mod narrowed;
mod openapi;
mod redacted;
