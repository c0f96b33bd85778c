//! What only a process has: signals, an exit code, files that change under it.

mod bombs;
mod cluster;
mod dependencies;
mod guesses;
mod hostile;
mod load;
mod reload;
mod stop;
