//! Attaching to nodes: where a relay sends, messages about it, and the tasks that keep configured nodes attached.

pub mod destination;
pub mod report;
pub mod supervisor;
