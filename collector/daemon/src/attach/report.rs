//! Messages about an attached relay, for `dichroic attach` and for the log. None contains the node's name.

use dichroic_beam_attach::attach::AttachedRelay;

/// The relay cannot connect to the collector: the reason, and what to do.
pub fn unreachable(now: &AttachedRelay) -> String {
    let advice = if now.socket.starts_with("tcp://") {
        "the address and the token must be those of the collector's security.local_tcp"
    } else {
        "give the node's user access with security.local_socket.mode and allow_uids, or set security.local_tcp, which other users and containers can reach"
    };
    format!(
        "the relay cannot connect to the collector at {} (state {}, last error: {}); {advice}",
        now.socket,
        now.state,
        now.last_error.as_deref().unwrap_or("none")
    )
}

/// The relay uses the second destination, because the node cannot reach the first.
pub fn instead(now: &AttachedRelay) -> Option<String> {
    let (first, reason) = now.instead_of.as_ref()?;
    Some(format!(
        "the node cannot reach {first} ({reason}); its relay sends to {} instead",
        now.socket
    ))
}
