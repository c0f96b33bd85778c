//! Tests about the house itself: its layers, its documents, its rules.

mod layers;
