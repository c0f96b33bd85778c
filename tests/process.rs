//! What only a process has: signals, an exit code, files that change under it.

mod bombs;
mod guesses;
mod hostile;
mod reload;
mod stop;
mod valkey;
