//! The sender of a request.

use dichroic_model::attributes::cut;
use http::HeaderMap;
use http::header::USER_AGENT;
use std::net::IpAddr;

/// Most bytes of a user agent in the log.
const USER_AGENT_BYTES: usize = 128;

/// The sender of a request, for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    pub(super) peer: IpAddr,
    /// Empty without one.
    pub(super) user_agent: String,
}

impl Sender {
    pub(super) fn new(peer: IpAddr, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Sender {
            peer,
            user_agent: cut(user_agent.unwrap_or(""), USER_AGENT_BYTES).to_owned(),
        }
    }
}
