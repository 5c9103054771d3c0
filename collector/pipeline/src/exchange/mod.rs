//! How other threads reach the core: jobs go in, copies and answers come out through channels.

pub mod channel;
pub mod job;
pub mod snapshot;
