//! Messages about an attached relay, for `dichroic attach` and for the log.

use dichroic_beam_attach::attach::AttachedRelay;

/// The relay cannot connect to the collector: why, and what to do.
pub fn unreachable(name: &str, now: &AttachedRelay) -> String {
    let advice = if now.socket.starts_with("tcp://") {
        "it must be the security.local_tcp of a collector, with its token"
    } else {
        "the node's user must be able to open it: see security.local_socket.mode and allow_uids, or set security.local_tcp, which is open to other users and containers too"
    };
    format!(
        "{name}: the relay does not reach the collector at {} ({}, {}); {advice}",
        now.socket,
        now.state,
        now.last_error.as_deref().unwrap_or("no error")
    )
}

/// The relay uses its second destination.
pub fn instead(now: &AttachedRelay) -> Option<String> {
    let (place, why) = now.instead_of.as_ref()?;
    Some(format!(
        "the node cannot reach {place} ({why}); it sends to {} instead",
        now.socket
    ))
}
