//! Access to the core from other threads: jobs are submitted through a [`handle::Handle`], results are returned through channels.

pub mod channel;
pub mod handle;
pub mod job;
pub mod snapshot;
