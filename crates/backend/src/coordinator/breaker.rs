//! When to leave a host alone.
//!
//! A newcomer's usual mistake is to let everybody try once the pause is over. One call tries; the others wait for what it
//! finds.
//!
//! *Knows:* failures in a row, a pause, a probe. *Does not know:* what failed.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a host is left alone.
const FAILURES_MAX: u32 = 5;
/// For how long.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether a host may be asked.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be tried now. After the pause the first that asks may, and begins another one for the rest.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        match self.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.open_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Whether it is not open.
    pub(super) fn is_closed(&self) -> bool {
        self.open_until.is_none()
    }

    /// A call was answered, or not. Answers whether it opened or closed by that.
    pub(super) fn heard(&mut self, answered: bool, now: Instant) -> bool {
        let was_closed = self.is_closed();
        if answered {
            self.succeeded();
        } else {
            self.failed(now);
        }
        was_closed != self.is_closed()
    }

    /// A call was answered.
    fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// A call was not answered, or with a failure of the host.
    fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.open_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_decides() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            breaker.failed(now);
        }
        breaker.succeeded();
        for _ in 0..5 {
            assert!(breaker.admits(now) && breaker.is_closed());
            breaker.failed(now);
        }
        let later = now + PAUSE;
        assert!(!breaker.admits(now) && !breaker.is_closed());
        assert!(breaker.admits(later) && !breaker.admits(later), "one probe");
        breaker.failed(later);
        assert!(!breaker.admits(later));
        assert!(breaker.admits(later + PAUSE));
        breaker.succeeded();
        assert!(breaker.admits(later) && breaker.is_closed());
    }
}
