//! Text that must not be printed.
//!
//! A newcomer's usual mistake is to `format!` one. It does not compile to anything useful: `Debug` shows `***`, there is
//! no `Display`, and [`Secret::reveal`] is easy to search for.
//!
//! *Knows:* how to hold and wipe a secret. *Does not know:* what it opens.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
