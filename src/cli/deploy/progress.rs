//! How far an upload is, on standard error when somebody watches.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{super::watched, bundle::Source};

/// How far an upload is.
pub(super) struct Progress {
    total: u64,
    read: Arc<AtomicU64>,
    watched: bool,
}

impl Progress {
    /// Nothing has been read yet. `read` counts what has.
    pub(super) fn begin(source: &Source, read: Arc<AtomicU64>) -> Progress {
        Progress { total: source.bytes(), read, watched: watched::is() }
    }

    /// Shows it until the work is done.
    pub(super) async fn while_running<F: Future>(self, work: F) -> F::Output {
        let line = || self.line();
        watched::work(self.watched, line, work).await
    }

    fn line(&self) -> String {
        let read = self.read.load(Ordering::Relaxed).min(self.total);
        if read == self.total {
            return format!("{} sent, waiting for the gateway", bytes(read));
        }
        let percent = u128::from(read) * 100 / u128::from(self.total.max(1));
        format!("{percent:>3}%  {} of {}", bytes(read), bytes(self.total))
    }
}

/// A size for the eye.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let (mut tenths, mut unit) = (number.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_the_eye() {
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_600_000, "1.5 MiB"), (1 << 40, "1.0 TiB")]
        {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let read = Arc::new(AtomicU64::new(512));
        let progress = Progress { total: 2048, read: Arc::clone(&read), watched: true };
        assert_eq!(progress.line(), " 25%  512 B of 2.0 KiB");
        read.store(4096, Ordering::Relaxed);
        assert_eq!(progress.line(), "2.0 KiB sent, waiting for the gateway");
    }
}
