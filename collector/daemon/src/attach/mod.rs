//! Attaching to nodes: where a relay sends, and the tasks that keep configured nodes attached.

pub mod destination;
pub mod supervisor;
