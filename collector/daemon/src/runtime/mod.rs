//! The running collector: two threads, how they start, reload and stop.

pub mod error;
pub mod handoff;
pub mod ingest_thread;
pub mod main_thread;
pub mod reload;
pub mod run;
pub mod shutdown;
