//! Pages of a list: a limit and a place to go on from.
//!
//! A newcomer's usual mistake is to count offsets. A cursor holds the key of the last item, so that a list may change
//! between pages without skipping or repeating.
//!
//! *Knows:* limits and opaque cursors, which are good for one list. *Does not know:* what is listed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{Code, Error, Result, reason};

/// Longest cursor taken from a caller.
const CURSOR_CHARACTERS_MAX: usize = 1_024;

/// Stands between the list and the key in a cursor.
const SEPARATOR: char = '\n';

/// What part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many at most; at least one.
    pub limit: usize,
    /// The sort key after which to go on.
    pub after: Option<String>,
}

impl PageRequest {
    /// Reads a caller's limit and cursor. A limit of zero means `default`; a larger one than `limit_max` is cut to it.
    /// `list` says which list it is, and what of it is wanted.
    ///
    /// # Errors
    /// `invalid_cursor` when the cursor was not made by [`Page::cursor`] for this list.
    pub fn parse(list: &str, limit: u32, cursor: &str, default: usize, limit_max: usize) -> Result<PageRequest> {
        let limit = match usize::try_from(limit).unwrap_or(limit_max) {
            0 => default,
            limit => limit.min(limit_max),
        };
        let after = if cursor.is_empty() { None } else { Some(open(list, cursor)?) };
        Ok(PageRequest { limit, after })
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// The sort key of the last item, if there may be more.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The cursor of this list to hand to the caller; empty at the end of the list.
    pub fn cursor(&self, list: &str) -> String {
        self.next.as_deref().map(|key| URL_SAFE_NO_PAD.encode(format!("{list}{SEPARATOR}{key}"))).unwrap_or_default()
    }

    /// The same page with other items.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

fn open(list: &str, cursor: &str) -> Result<String> {
    let refused = || Error::new(Code::InvalidArgument, reason::INVALID_CURSOR, "the cursor is not one of this list");
    if cursor.len() > CURSOR_CHARACTERS_MAX {
        return Err(refused());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    let text = String::from_utf8(bytes).map_err(|_| refused())?;
    let key = text.strip_prefix(list).and_then(|rest| rest.strip_prefix(SEPARATOR));
    key.map(str::to_owned).ok_or_else(refused)
}
