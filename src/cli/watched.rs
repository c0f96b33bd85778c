//! A line on standard error that says how far something is, while somebody watches.
//!
//! A newcomer's usual mistake is to print it into a pipe or a log. Only a terminal can take a line back.

use std::{
    future::Future,
    io::{IsTerminal, Write},
    time::Duration,
};

/// Often enough to look alive.
const TICK: Duration = Duration::from_millis(150);

/// Whether somebody watches.
pub(crate) fn is() -> bool {
    std::io::stderr().is_terminal()
}

/// Shows the line until the work is done, if somebody watches.
pub(crate) async fn work<F: Future>(watched: bool, line: impl Fn() -> String, work: F) -> F::Output {
    if !watched {
        return work.await;
    }
    let mut ticks = tokio::time::interval(TICK);
    tokio::pin!(work);
    loop {
        tokio::select! {
            output = &mut work => {
                print("\r\x1b[K");
                return output;
            }
            _ = ticks.tick() => print(&format!("\r\x1b[K{}", line())),
        }
    }
}

/// A terminal that has gone is no reason to stop the work.
fn print(text: &str) {
    let mut err = std::io::stderr().lock();
    let _shown = err.write_all(text.as_bytes()).and_then(|()| err.flush()).is_ok();
}
