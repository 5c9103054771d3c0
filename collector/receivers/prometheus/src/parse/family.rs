//! Families: what kinds there are, and which part of its family a sample is by its name.

use super::escaped::Escaped;

/// The type of a family, in OpenMetrics's words; the text format's `untyped` is `Unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FamilyKind {
    #[default]
    Unknown,
    Gauge,
    Counter,
    StateSet,
    Info,
    Histogram,
    GaugeHistogram,
    Summary,
}

/// What a sample is within its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The one value of a gauge, an unknown, an info or a state of a stateset.
    Value,
    /// The value of a counter.
    Total,
    /// When a counter, histogram or summary began, in seconds since the epoch.
    Created,
    /// A cumulative bucket; its bound is the label `le`.
    Bucket,
    Sum,
    Count,
    /// A summary's value at the label `quantile`.
    Quantile,
}

impl FamilyKind {
    /// The names of text 0.0.4.
    pub(crate) fn from_text(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"summary" => Self::Summary,
            b"untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// The names of OpenMetrics 1.0.
    pub(crate) fn from_openmetrics(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"unknown" => Self::Unknown,
            b"gauge" => Self::Gauge,
            b"counter" => Self::Counter,
            b"stateset" => Self::StateSet,
            b"info" => Self::Info,
            b"histogram" => Self::Histogram,
            b"gaugehistogram" => Self::GaugeHistogram,
            b"summary" => Self::Summary,
            _ => return None,
        })
    }

    /// What follows the family's name in the names of its samples, and what such a sample is.
    pub(crate) const fn suffixes(self) -> &'static [(&'static str, Role)] {
        match self {
            Self::Unknown | Self::Gauge | Self::StateSet => &[("", Role::Value)],
            Self::Info => &[("_info", Role::Value)],
            Self::Counter => &[("_total", Role::Total), ("_created", Role::Created)],
            Self::Histogram => &[
                ("_bucket", Role::Bucket),
                ("_count", Role::Count),
                ("_sum", Role::Sum),
                ("_created", Role::Created),
            ],
            Self::GaugeHistogram => &[
                ("_bucket", Role::Bucket),
                ("_gcount", Role::Count),
                ("_gsum", Role::Sum),
            ],
            Self::Summary => &[
                ("", Role::Quantile),
                ("_count", Role::Count),
                ("_sum", Role::Sum),
                ("_created", Role::Created),
            ],
        }
    }

    /// The label that tells the parts of one metric apart, and so is no part of its identity.
    pub fn part_label(self, role: Role) -> Option<&'static str> {
        match role {
            Role::Bucket => Some("le"),
            Role::Quantile => Some("quantile"),
            _ => None,
        }
    }

    /// The role of the sample `name` in the family `family` of this kind, if it is of that family.
    pub(crate) fn role(self, family: Escaped<'_>, name: Escaped<'_>) -> Option<Role> {
        let suffix = name.0.strip_prefix(family.0)?;
        self.suffixes()
            .iter()
            .find(|(known, _)| *known == suffix)
            .map(|(_, role)| *role)
    }
}
