//! What the published pages say alike: one wording for what more than one page reads or writes.
//!
//! A newcomer's usual mistake is to put here what pages mean alike. Meaning is the domain's; here are only its translations.
//!
//! *Knows:* generated messages, the domain. *Does not know:* any page.

pub mod excerpts;
pub mod objects;
