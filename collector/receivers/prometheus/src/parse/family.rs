//! Metric families: their types, and the role of a sample within its family.

use super::escaped::Escaped;

/// The type of a family, as OpenMetrics names it (OpenMetrics 1.0, "Metric Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FamilyKind {
    /// No type; `untyped` in the text format.
    #[default]
    Unknown,
    /// A value that can go up and down.
    Gauge,
    /// A total that only increases.
    Counter,
    /// A set of boolean states. OpenMetrics only.
    StateSet,
    /// Labels with the value 1. OpenMetrics only.
    Info,
    /// Cumulative buckets of observations.
    Histogram,
    /// Buckets of current values. OpenMetrics only.
    GaugeHistogram,
    /// Quantiles of observations.
    Summary,
}

/// The role of a sample within its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The value of a gauge, an unknown, an info, or one state of a stateset.
    Value,
    /// The value of a counter.
    Total,
    /// Start time of a counter, histogram or summary, in seconds since the epoch.
    Created,
    /// A cumulative bucket; its upper bound is the label `le`.
    Bucket,
    /// The sum of all observations.
    Sum,
    /// The number of observations.
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

    /// The suffixes that sample names add to the family's name, and the role of each.
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

    /// The label that distinguishes the parts of one metric (`le`, `quantile`) and is not part of its identity.
    pub fn part_label(self, role: Role) -> Option<&'static str> {
        match role {
            Role::Bucket => Some("le"),
            Role::Quantile => Some("quantile"),
            _ => None,
        }
    }

    /// The role of the sample `name` in `family` of this type; `None` if it belongs to another family.
    pub(crate) fn role(self, family: Escaped<'_>, name: Escaped<'_>) -> Option<Role> {
        let suffix = name.0.strip_prefix(family.0)?;
        self.suffixes()
            .iter()
            .find(|(known, _)| *known == suffix)
            .map(|(_, role)| *role)
    }
}
