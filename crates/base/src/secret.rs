//! Text that must not be printed.
//!
//! A newcomer's usual mistake is to `format!` one. It does not compile to anything useful: `Debug` shows `***`, there is
//! no `Display`, and [`Secret::reveal`] is easy to search for.
//!
//! *Knows:* how to hold and wipe a secret. *Does not know:* what it opens.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text, wiped from memory when dropped.
#[derive(Clone)]
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

/// In constant time where the lengths are the same, because one side may come from a stranger.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let difference = ours.iter().zip(theirs).fold(0, |difference, (one, other)| difference | (one ^ other));
        ours.len() == theirs.len() && std::hint::black_box(difference) == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
