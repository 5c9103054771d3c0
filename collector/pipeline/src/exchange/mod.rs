//! How other threads reach the core: jobs go in through a [`handle::Handle`], copies and answers come out through channels.

pub mod channel;
pub mod handle;
pub mod job;
pub mod snapshot;
