//! Reasons for refused requests.

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// `Host` names neither this machine nor an allowed host.
    Host,
    /// A page of another site made a browser send it.
    CrossSite,
}

impl Refused {
    /// All reasons.
    pub const ALL: [Refused; 2] = [Refused::Host, Refused::CrossSite];

    /// The name in metrics and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Host => "host",
            Refused::CrossSite => "cross_site",
        }
    }

    /// What is wrong and what to do, for the sender.
    pub fn message(self) -> &'static str {
        match self {
            Refused::Host => {
                "the Host header names neither this machine nor an allowed host; to allow the name, add it to security.allowed_hosts"
            }
            Refused::CrossSite => "requests that a web page of another site makes are refused",
        }
    }
}
