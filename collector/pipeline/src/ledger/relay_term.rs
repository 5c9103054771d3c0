//! A term that a relay reports.

use std::fmt;

/// A term of the account that a relay reports: a name, with labels in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayTerm {
    /// Also the end of the metric's name, `dichroic_relay_{name}_total`.
    pub name: &'static str,
    /// Such as `("event", "phoenix.endpoint.stop")`.
    pub labels: Vec<(&'static str, String)>,
}

impl RelayTerm {
    /// A term with labels.
    pub fn new<const N: usize>(name: &'static str, labels: [(&'static str, String); N]) -> Self {
        RelayTerm {
            name,
            labels: labels.into(),
        }
    }
}

impl From<&'static str> for RelayTerm {
    fn from(name: &'static str) -> Self {
        RelayTerm::new(name, [])
    }
}

/// The key of the ledger's JSON: `name{label="value",…}`.
impl fmt::Display for RelayTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (at, (label, value)) in self.labels.iter().enumerate() {
            let separator = if at == 0 { '{' } else { ',' };
            write!(f, "{separator}{label}={value:?}")?;
        }
        f.write_str(if self.labels.is_empty() { "" } else { "}" })
    }
}
