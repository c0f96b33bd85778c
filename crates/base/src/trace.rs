//! Where a call stands in a distributed trace, after the W3C Trace Context recommendation.
//!
//! A newcomer's usual mistake is to reject a request because its `traceparent` is malformed. The recommendation says to
//! begin a new trace then, and so does [`Trace::entered`].
//!
//! *Knows:* the two ids and the flags. *Does not know:* where spans are exported.

use std::fmt;

/// The ids of one call in a trace. Prints as a `traceparent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace, shared by every call that belongs together. Never zero.
    pub trace_id: u128,
    /// The span of the caller, if it sent one.
    pub parent_id: Option<u64>,
    /// Our own span. Never zero.
    pub span_id: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl Trace {
    /// Our span in the caller's trace, or in a new one when the header is absent or malformed.
    pub fn entered(traceparent: Option<&str>) -> Trace {
        let mut random = [0u8; 24];
        crate::id::draw(&mut random);
        let (high, low) = random.split_at(16);
        let span_id = low.iter().fold(0u64, |id, byte| id << 8 | u64::from(*byte)) | 1;
        match traceparent.and_then(parse) {
            Some((trace_id, parent, sampled)) => Trace { trace_id, parent_id: Some(parent), span_id, sampled },
            None => {
                let trace_id = high.iter().fold(0u128, |id, byte| id << 8 | u128::from(*byte)) | 1;
                Trace { trace_id, parent_id: None, span_id, sampled: false }
            }
        }
    }

    /// The trace id as text, without the detours of formatting: every call writes it.
    pub fn id(&self) -> TraceId {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.trace_id.to_be_bytes()) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        TraceId(text)
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A trace id as it is written: 32 digits in lower-case hex.
pub struct TraceId([u8; 32]);

impl TraceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// `version "-" trace-id "-" parent-id "-" flags`; later versions may append more.
fn parse(header: &str) -> Option<(u128, u64, bool)> {
    let mut parts = header.trim().split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = lower_hex(version, 2)
        && lower_hex(trace, 32)
        && lower_hex(parent, 16)
        && lower_hex(flags, 2)
        && version != "ff";
    if !well_formed || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (trace != 0 && parent != 0).then_some((trace, parent, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_with_the_callers_trace() {
        let trace = Trace::entered(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert_eq!(trace.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(trace.parent_id, Some(0x00f0_67aa_0ba9_02b7));
        assert!(trace.sampled);
        assert_eq!(trace.id().as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(trace.to_string().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(!trace.to_string().contains("00f067aa0ba902b7"), "our span is our own");
    }

    #[test]
    fn begins_a_new_trace_when_the_header_is_malformed() {
        for header in [
            "",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            let trace = Trace::entered(Some(header));
            assert_eq!(trace.parent_id, None, "{header} was taken");
        }
    }
}
