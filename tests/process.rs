//! What only a process has: signals, an exit code, files that change under it.

mod reload;
mod stop;
