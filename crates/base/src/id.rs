//! Fresh identifiers.
//!
//! A newcomer's usual mistake is to parse them. Apart from their prefix, ids mean nothing.
//!
//! *Knows:* the operating system's random source and an alphabet. *Does not know:* what is named.

use std::cell::RefCell;

/// Lower-case base32 without letters that read alike: 32 symbols, so that a byte maps without bias.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";

/// Random bytes that a thread fetches at once for its next ids: one system call for some twenty calls of methods.
const STOCK_BYTES: usize = 1_024;

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCK_BYTES], used: STOCK_BYTES }) };
}

struct Stock {
    bytes: [u8; STOCK_BYTES],
    used: usize,
}

/// `prefix` and `symbols` random base32 symbols (5 bits each).
pub fn random(prefix: &str, symbols: usize) -> String {
    let mut text = String::with_capacity(prefix.len() + symbols);
    text.push_str(prefix);
    let mut bytes = [0u8; 32];
    let mut left = symbols;
    while left > 0 {
        let few = left.min(bytes.len());
        let bytes = &mut bytes[..few];
        draw_symbols(bytes);
        // The alphabet is ASCII, so this is always text.
        text.push_str(str::from_utf8(bytes).unwrap_or_default());
        left -= few;
    }
    text
}

/// Fills the buffer with random base32 symbols.
pub fn draw_symbols(bytes: &mut [u8]) {
    draw(bytes);
    for byte in bytes {
        *byte = ALPHABET[usize::from(*byte & 31)];
    }
}

/// Fills the buffer from the thread's stock. For ids, which are unique and not secret; keys and nonces take [`fill`].
pub fn draw(bytes: &mut [u8]) {
    STOCK.with_borrow_mut(|stock| {
        if STOCK_BYTES - stock.used < bytes.len() {
            fill(&mut stock.bytes);
            stock.used = 0;
        }
        match stock.bytes.get(stock.used..stock.used + bytes.len()) {
            Some(fresh) => bytes.copy_from_slice(fresh),
            None => fill(bytes),
        }
        stock.used = (stock.used + bytes.len()).min(STOCK_BYTES);
    });
}

/// Fills the buffer from the operating system's random source.
///
/// # Panics
/// When the system has no random source, which nothing in this process could survive safely.
#[expect(clippy::panic, reason = "without randomness no key or nonce may be made; stopping is the only safe answer")]
pub fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        panic!("the operating system has no random source: {error}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_long_enough_and_differ() {
        let (one, two) = (super::random("agent_", 40), super::random("agent_", 40));
        assert_eq!(one.len(), 46);
        assert_ne!(one, two);
        let ids: std::collections::HashSet<String> = (0..1_000).map(|_| super::random("", 24)).collect();
        assert_eq!(ids.len(), 1_000, "a stock is used once");
    }
}
