//! How many a second.
//!
//! A newcomer's usual mistake is a lock. Whoever is refused by the thousand asks here by the thousand.
//!
//! *Knows:* seconds, a count. *Does not know:* what is counted.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::time::Instant;

/// How many refusals a second are audited. A person who tries a wrong key is always among them; what guesses by the
/// thousand does not fill the store.
const PER_SECOND_MAX: u32 = 20;

/// Allows so many a second.
pub(super) struct Budget {
    began: Instant,
    second: AtomicU64,
    spent: AtomicU32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { began: Instant::now(), second: AtomicU64::new(0), spent: AtomicU32::new(0) }
    }
}

impl Budget {
    /// Whether one more is allowed now. Who asks at the turn of a second may be counted in either.
    pub(super) fn allows(&self) -> bool {
        let second = self.began.elapsed().as_secs();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.spent.store(0, Ordering::Relaxed);
        }
        self.spent.fetch_add(1, Ordering::Relaxed) < PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_allows_so_many_and_the_next_one_as_many_again() {
        let budget = Budget::default();
        for _ in 0..3 {
            let allowed = (0..1_000).filter(|_| budget.allows()).count();
            assert_eq!(allowed, PER_SECOND_MAX as usize);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
