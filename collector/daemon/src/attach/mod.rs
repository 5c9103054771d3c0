//! Attaching to nodes: destinations of relays, messages about relays, and the tasks that keep configured nodes attached.

pub mod destination;
pub mod report;
mod retry;
pub mod status;
pub mod supervisor;
