//! The `portico` binary: arguments and environment in, exit code out.

mod cli;

use std::process::ExitCode;

// Streams of small messages from many threads are what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), std::env::vars_os().collect())
}
