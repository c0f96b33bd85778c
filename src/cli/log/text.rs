//! Log lines as text for a file or a collector: time, level, target, message, `name=value`.
//!
//! A newcomer's usual mistake is to print a caller's words as they are: a line break in them would begin a line that
//! nobody logged. Whatever could do that is escaped; what is empty is left out.
//!
//! *Knows:* how a line looks. *Does not know:* what is logged, where lines go.

use std::fmt::{self, Debug, Write};

use portico::base::{Clock, clock::SystemClock};
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

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _cx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        write!(out, "{} {:>5} ", SystemClock.now(), metadata.level())?;
        out.write_str(metadata.target())?;
        out.write_char(':')?;
        let mut fields = Fields { out: &mut out, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        out.write_char('\n')
    }
}

struct Fields<'w> {
    out: &'w mut dyn Write,
    written: fmt::Result,
}

impl Fields<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut dyn Write) -> fmt::Result) {
        if self.written.is_ok() {
            self.written = name(self.out, field).and_then(|()| value(self.out));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        if text.is_empty() {
            return;
        }
        self.field(field, |out| {
            out.write_char('"')?;
            Escaped(out).write_str(text)?;
            out.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.field(field, |out| write!(out, "{number}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |out| write!(Escaped(out), "{value:?}"));
    }
}

fn name(out: &mut dyn Write, field: &Field) -> fmt::Result {
    out.write_char(' ')?;
    // The message stands first and speaks for itself.
    if field.name() == "message" {
        return Ok(());
    }
    out.write_str(field.name())?;
    out.write_char('=')
}

/// Escapes what would end a line, a quotation, or speak to a terminal.
struct Escaped<'w>(&'w mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The C1 controls, which some terminals obey, are the only ones beyond ASCII; they begin with this byte.
        let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\' | 0x7f | 0xc2);
        if text.bytes().all(is_plain) {
            return self.0.write_str(text);
        }
        for letter in text.chars() {
            match letter {
                '"' | '\\' => write!(self.0, "\\{letter}")?,
                _ if letter.is_control() => write!(self.0, "{}", letter.escape_default())?,
                _ => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_caller_says_begins_a_line_or_speaks_to_a_terminal() {
        let mut out = String::new();
        Escaped(&mut out).write_str("fine äö \u{a0}").unwrap();
        Escaped(&mut out).write_str("\na\"b\\c\x1b[2J\u{9b}1m\x7f").unwrap();
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
}
