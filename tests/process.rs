//! What only a process has: signals, an exit code, files that change under it.

mod bombs;
mod cluster;
mod crash;
mod dependencies;
mod disk;
mod first;
mod guesses;
mod hostile;
mod load;
mod memory;
mod operator;
mod reload;
mod secrets;
mod stop;
mod telemetry;
mod valkey;
