//! Reads agent bundles, which are tar archives in gzip, the way a suspicious GNU tar would.
//!
//! A newcomer's usual mistake is to check with one reader and unpack with another: an archive can be made that the two
//! read differently. Here [`check`] and [`unpack`] walk the same [`Entries`], so what was checked is what is unpacked.
//! Everything streams: no archive is held in memory, and reading stops at the first thing that is wrong.
//!
//! *Knows:* gzip, tar, what an entry may be and how much there may be of it.
//! *Does not know:* where archives come from, hashes, what a bundle means.

mod check;
mod entries;
mod gzip;
mod header;
mod pax;
mod refusal;
mod rules;
mod unpack;

pub use check::check;
pub use entries::{Entries, Entry, Kind};
pub use rules::{Contents, Limits};
pub use unpack::{Unpacked, unpack};

#[cfg(test)]
mod tests;
