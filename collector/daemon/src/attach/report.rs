//! Messages about an attached relay that both `dichroic attach` and the collector print.

use dichroic_beam_attach::attach::AttachedRelay;

/// Why what is counted does not arrive.
pub fn unreachable(name: &str, now: &AttachedRelay) -> String {
    let advice = if now.socket.starts_with("tcp://") {
        "it must be the security.local_tcp of a collector, with its token"
    } else {
        "the node's user must be able to open it: see security.local_socket.mode and allow_uids, or set security.local_tcp, which other users and containers reach too"
    };
    format!(
        "{name}: the relay does not reach the collector at {} ({}, {}); {advice}",
        now.socket,
        now.state,
        now.last_error.as_deref().unwrap_or("no error")
    )
}

/// That it took another way than the first.
pub fn instead(now: &AttachedRelay) -> Option<String> {
    let (place, why) = now.instead_of.as_ref()?;
    Some(format!(
        "the node cannot reach {place} ({why}); it sends to {} instead",
        now.socket
    ))
}
