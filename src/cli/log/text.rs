//! Log lines as text for a file or a collector: time, level, target, message, `name=value`.
//!
//! A newcomer's usual mistake is to print a caller's words as they are: a line break in them would begin a line that
//! nobody logged. Whatever could do that is escaped; what is empty is left out.
//!
//! *Knows:* how a line looks. *Does not know:* what is logged, where lines go.

use std::{
    cell::Cell,
    fmt::{self, Debug, Write},
};

use portico::base::{Clock, Timestamp, clock::SystemClock};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes lines as text without colours. Every served call writes one, so this does as little as it can.
pub(super) struct Text;

thread_local! {
    /// The line in the making, kept for the next one. Taken while in use: what is printed may itself log.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
    /// The second that was printed last. Most lines have the second of the one before.
    static SECOND: Cell<Second> = const { Cell::new(Second { number: i64::MIN, text: [b'0'; SECOND_BYTES] }) };
}

/// A second since 1970, and its text up to the point: `2026-01-02T03:04:05`.
#[derive(Clone, Copy)]
struct Second {
    number: i64,
    text: [u8; SECOND_BYTES],
}

const SECOND_BYTES: usize = "2026-01-02T03:04:05".len();

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _cx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = LINE.take();
        line.clear();
        time(SystemClock.now(), &mut line);
        line.push_str(match *metadata.level() {
            tracing::Level::ERROR => " ERROR ",
            tracing::Level::WARN => "  WARN ",
            tracing::Level::INFO => "  INFO ",
            tracing::Level::DEBUG => " DEBUG ",
            tracing::Level::TRACE => " TRACE ",
        });
        line.push_str(metadata.target());
        line.push(':');
        event.record(&mut Fields(&mut line));
        line.push('\n');
        let written = out.write_str(&line);
        LINE.set(line);
        written
    }
}

/// As a timestamp prints itself, with the part that changes once a second kept.
fn time(now: Timestamp, line: &mut String) {
    let mut second = SECOND.get();
    let number = now.0.div_euclid(1_000);
    if second.number != number {
        let text = now.to_string();
        let kept = text.as_bytes().first_chunk();
        // A year of more than four digits takes more room, and is printed without help.
        let Some(kept) = kept.filter(|_| text.len() == SECOND_BYTES + ".000Z".len()) else {
            return line.push_str(&text);
        };
        second = Second { number, text: *kept };
        SECOND.set(second);
    }
    line.push_str(str::from_utf8(&second.text).unwrap_or_default());
    line.push('.');
    let milli = now.0.rem_euclid(1_000);
    line.extend([milli / 100, milli / 10 % 10, milli % 10].map(digit));
    line.push('Z');
}

/// Numbers below ten, as they are given here, have a digit each.
fn digit(number: i64) -> char {
    u8::try_from(number).map_or('?', |number| char::from(b'0' + number))
}

struct Fields<'l>(&'l mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.0.push(' ');
        // The message stands first and speaks for itself.
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        if text.is_empty() {
            return;
        }
        self.name(field);
        self.0.push('"');
        escaped(text, self.0);
        self.0.push('"');
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.name(field);
        self.0.push_str(itoa::Buffer::new().format(number));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field);
        // Writing to a string fails only if what is printed says so; the line then ends where it did.
        let _printed = write!(Escaped(self.0), "{value:?}");
    }
}

/// Escapes what would end a line, a quotation, or speak to a terminal.
struct Escaped<'l>(&'l mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escaped(text, self.0);
        Ok(())
    }
}

/// The bytes that only a text with something to escape has. The C1 controls, which some terminals obey, are the only ones
/// beyond ASCII; they begin with `0xc2`.
const ODD: [bool; 256] = {
    let mut odd = [false; 256];
    let mut byte = 0;
    while byte < odd.len() {
        odd[byte] = byte < 0x20 || matches!(byte, 0x22 | 0x5c | 0x7f | 0xc2);
        byte += 1;
    }
    odd
};

fn escaped(text: &str, line: &mut String) {
    if !text.bytes().fold(false, |found, byte| found | ODD[usize::from(byte)]) {
        return line.push_str(text);
    }
    for letter in text.chars() {
        match letter {
            '"' | '\\' => line.extend(['\\', letter]),
            _ if letter.is_control() => line.extend(letter.escape_default()),
            _ => line.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_caller_says_begins_a_line_or_speaks_to_a_terminal() {
        let mut out = String::new();
        escaped("fine äö \u{a0}", &mut out);
        escaped("\na\"b\\c\x1b[2J\u{9b}1m\x7f", &mut out);
        assert_eq!(out, "fine äö \u{a0}\\na\\\"b\\\\c\\u{1b}[2J\\u{9b}1m\\u{7f}");
    }

    #[test]
    fn a_line_has_time_level_target_message_and_what_is_not_empty() {
        use std::io;
        use std::sync::{Arc, Mutex};
        use tracing_subscriber::{Registry, layer::SubscriberExt};

        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().event_format(Text).with_writer(move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::event!(
                target: "portico::call",
                tracing::Level::INFO,
                call.code = "ok",
                call.reason = "",
                call.micros = 7_u64,
                "call"
            );
        });
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(line.ends_with("Z  INFO portico::call: call call.code=\"ok\" call.micros=7\n"), "{line}");
    }

    #[test]
    fn the_time_of_a_line_is_the_time() {
        for now in [0, 1_767_323_045_678, 1_767_323_045_007, 1_767_323_046_000, -1, 253_402_300_800_000] {
            let mut line = String::new();
            time(Timestamp(now), &mut line);
            assert_eq!(line, Timestamp(now).to_string());
        }
    }
}
