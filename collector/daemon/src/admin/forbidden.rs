//! Requests of web pages of other sites: refused and counted on both listeners.

use crate::admin::http::{Answer, error};
use crate::config::Config;
use crate::listen::refused::{Reason, Refusals};
use dichroic_http_guard::{Guard, Refused, Rules};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

/// The guard of one listener.
pub struct HttpGuard {
    guard: Guard,
    refusals: Arc<Refusals>,
}

impl HttpGuard {
    /// For the listener of the page.
    pub fn of_page(listener: &TcpListener, config: &Config, refusals: Arc<Refusals>) -> Self {
        let rules = Rules {
            listener: "prometheus",
            allowed_hosts: config.security.allowed_hosts.clone(),
            pages: true,
            ..Rules::default()
        };
        HttpGuard {
            guard: Guard::new(address(listener), rules),
            refusals,
        }
    }

    /// For the admin listener.
    pub fn of_admin(listener: &TcpListener, config: &Config, refusals: Arc<Refusals>) -> Self {
        let rules = Rules {
            listener: "admin",
            allowed_hosts: [&*config.security.allowed_hosts, &*config.admin.allowed_hosts].concat(),
            token: config.admin.token.is_some(),
            ..Rules::default()
        };
        HttpGuard {
            guard: Guard::new(address(listener), rules),
            refusals,
        }
    }

    /// The answer to a request that is refused.
    pub fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        let checked = self.guard.check(
            request.version(),
            request.method(),
            request.uri(),
            request.headers(),
        );
        let refused = checked.err()?;
        let reason = match refused {
            Refused::Host => Reason::Host,
            Refused::CrossSite => Reason::CrossSite,
        };
        self.refusals.count(self.guard.listener(), reason);
        Some(error(StatusCode::FORBIDDEN, refused.message()))
    }
}

/// A listener has an address; without one only local names are accepted.
fn address(listener: &TcpListener) -> SocketAddr {
    listener
        .local_addr()
        .unwrap_or_else(|_| (Ipv4Addr::LOCALHOST, 0).into())
}
