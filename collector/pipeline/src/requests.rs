//! The account of pushed requests: the fate of each as a whole. The ledger's other accounts count the items in them.
//!
//! `received = accepted + partial + refused{reason} + in_flight`, for each transport and signal.

use crate::reasons::reasons;
use std::collections::BTreeMap;

reasons! {
    /// Why a request was refused. Nothing of it was applied, except for `aborted`.
    RefusedReason:
    /// Not a request of its service.
    Malformed = "malformed",
    /// The body does not have the compression that its header states.
    Corrupt = "corrupt",
    /// A compression that is not supported.
    Encoding = "encoding",
    /// A zstd window that is larger than allowed.
    Window = "window",
    /// A content type that is not supported.
    ContentType = "content_type",
    /// An unknown path or gRPC method.
    Path = "path",
    /// `Host` names neither this machine nor an allowed host.
    Host = "host",
    /// A web page of another site made a browser send it.
    CrossSite = "cross_site",
    /// An HTTP method other than POST.
    Method = "method",
    /// Over the size limit, or with too many items.
    TooLarge = "too_large",
    /// Over the budget of bytes in flight.
    Busy = "busy",
    /// Over the limit of connections.
    Connections = "connections",
    /// The body did not arrive in time.
    Timeout = "timeout",
    /// The sender disconnected or canceled before its response.
    Aborted = "aborted",
    /// The bytes of the connection are not HTTP.
    NotHttp = "not_http",
}

/// Where a request was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// `http` or `grpc`.
    pub transport: &'static str,
    /// The signal by the path: `metrics`, `logs`, `traces`, or `unknown`.
    pub signal: &'static str,
}

/// The account of the requests of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestAccount {
    /// Received.
    pub received: u64,
    /// Accepted as a whole.
    pub accepted: u64,
    /// Accepted, with items that were rejected.
    pub partial: u64,
    /// Not answered yet.
    pub in_flight: u64,
    refused: BTreeMap<RefusedReason, u64>,
}

impl RequestAccount {
    /// Refused, by reason, without zeros.
    pub fn refused(&self) -> impl Iterator<Item = (RefusedReason, u64)> + '_ {
        self.refused.iter().map(|(reason, n)| (*reason, *n))
    }

    /// Refused for one reason.
    pub fn refused_for(&self, reason: RefusedReason) -> u64 {
        self.refused.get(&reason).copied().unwrap_or(0)
    }

    /// Whether received = accepted + partial + refused + in flight.
    pub fn balances(&self) -> bool {
        self.received == self.accepted + self.partial + self.in_flight + self.refused.values().sum::<u64>()
    }
}

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// Accepted as a whole.
    Accepted,
    /// Accepted, with items that were rejected.
    Partial,
    /// Refused.
    Refused(RefusedReason),
}

/// The accounts of all endpoints.
#[derive(Debug, Clone, Default)]
pub struct Requests(BTreeMap<Endpoint, RequestAccount>);

impl Requests {
    /// A request was received; [`Requests::ended`] follows.
    pub fn received(&mut self, endpoint: Endpoint) {
        let account = self.0.entry(endpoint).or_default();
        account.received += 1;
        account.in_flight += 1;
    }

    /// A received request ended.
    pub fn ended(&mut self, endpoint: Endpoint, end: RequestEnd) {
        let account = self.0.entry(endpoint).or_default();
        account.in_flight = account.in_flight.saturating_sub(1);
        match end {
            RequestEnd::Accepted => account.accepted += 1,
            RequestEnd::Partial => account.partial += 1,
            RequestEnd::Refused(reason) => *account.refused.entry(reason).or_default() += 1,
        }
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = (Endpoint, &RequestAccount)> {
        self.0.iter().map(|(endpoint, account)| (*endpoint, account))
    }

    /// Whether every account balances.
    pub fn balances(&self) -> bool {
        self.0.values().all(RequestAccount::balances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_one_term_at_any_time() {
        let (mut requests, endpoint) = (
            Requests::default(),
            Endpoint {
                transport: "http",
                signal: "metrics",
            },
        );
        for end in [
            RequestEnd::Accepted,
            RequestEnd::Partial,
            RequestEnd::Refused(RefusedReason::Busy),
            RequestEnd::Refused(RefusedReason::Busy),
        ] {
            requests.received(endpoint);
            assert!(requests.balances());
            requests.ended(endpoint, end);
            assert!(requests.balances());
        }
        requests.received(endpoint);
        let (_, account) = requests.accounts().next().unwrap();
        assert_eq!(
            (
                account.received,
                account.accepted,
                account.partial,
                account.in_flight
            ),
            (5, 1, 1, 1)
        );
        assert_eq!(account.refused().collect::<Vec<_>>(), [(RefusedReason::Busy, 2)]);
    }
}
