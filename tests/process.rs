//! What only a process has: signals, an exit code, files that change under it.

mod bombs;
mod crash;
mod disk;
mod guesses;
mod hostile;
mod memory;
mod reload;
mod secrets;
mod stop;
mod telemetry;
