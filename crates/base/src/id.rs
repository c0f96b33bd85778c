//! Fresh identifiers.
//!
//! A newcomer's usual mistake is to parse them. Apart from their prefix, ids mean nothing.
//!
//! *Knows:* the operating system's random source and an alphabet. *Does not know:* what is named.

/// Lower-case base32 without letters that read alike: 32 symbols, so that a byte maps without bias.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";

/// `prefix` and `symbols` random base32 symbols (5 bits each).
pub fn random(prefix: &str, symbols: usize) -> String {
    let mut text = String::with_capacity(prefix.len() + symbols);
    text.push_str(prefix);
    let mut bytes = [0u8; 32];
    for at in 0..symbols {
        if at % bytes.len() == 0 {
            fill(&mut bytes);
        }
        text.push(char::from(ALPHABET[usize::from(bytes[at % bytes.len()] & 31)]));
    }
    text
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
    }
}
