//! Where classic bounds may be: standard lists by unit, and steps beyond them.

use std::sync::LazyLock;

/// Bounds of the OpenTelemetry semantic conventions for durations, in seconds.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// 256 B to 16 GiB, by fours: powers of two, so that edges of exponential buckets are bounds.
const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
    4294967296.0,
    17179869184.0,
];
/// The default bounds of OpenTelemetry's SDKs without zero, below which there could be no other.
const OTHER: &[f64] = &[
    5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
];

/// The bounds of a family without explicit histograms.
pub fn standard(unit: &str) -> &'static [f64] {
    match unit {
        "s" | "seconds" => SECONDS,
        "By" | "bytes" => BYTES,
        _ => OTHER,
    }
}

/// All steps of decades, ascending. As parsed, so that they equal bounds in configurations.
static DECADES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let powers = (-324..=308).flat_map(|power| ["1", "2.5", "5"].map(|digit| format!("{digit}e{power}")));
    let mut steps: Vec<f64> = powers.filter_map(|text| text.parse().ok()).collect();
    steps.retain(|step| *step > 0.0 && step.is_finite());
    steps.dedup();
    steps
});

/// All powers of four, ascending.
static FOURS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (-537..=511).map(|power| f64::from(2 * power).exp2()).collect());

/// Where bounds are added: 1, 2.5 and 5 of each decade, or powers of four for bytes.
#[derive(Debug, Clone, Copy)]
pub enum Steps {
    /// 1, 2.5 and 5 of each decade.
    Decades,
    /// Powers of four.
    Fours,
}

impl Steps {
    /// The steps of a unit.
    pub fn of(unit: &str) -> Self {
        match unit {
            "By" | "bytes" => Steps::Fours,
            _ => Steps::Decades,
        }
    }

    fn all(self) -> &'static [f64] {
        match self {
            Steps::Decades => &DECADES,
            Steps::Fours => &FOURS,
        }
    }

    /// The smallest step above `value`, infinite beyond the largest finite step.
    pub fn above(self, value: f64) -> f64 {
        let at = self.all().partition_point(|step| *step <= value);
        self.all().get(at).copied().unwrap_or(f64::INFINITY)
    }

    /// The largest step below `value`, zero below the smallest step.
    pub fn below(self, value: f64) -> f64 {
        let at = self.all().partition_point(|step| *step < value);
        at.checked_sub(1).map_or(0.0, |at| self.all()[at])
    }

    /// Steps within a range, ends included.
    pub(super) fn within(self, low: f64, high: f64) -> &'static [f64] {
        let from = self.all().partition_point(|step| *step < low);
        let to = self.all().partition_point(|step| *step <= high);
        &self.all()[from..to.max(from)]
    }
}

/// How far from zero bounds are added because values lie there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// Magnitudes up to which any value adds bounds.
    pub near: (f64, f64),
    /// Magnitudes up to which many values add bounds.
    pub far: (f64, f64),
}

impl Reach {
    /// Most bounds that are added at one end.
    pub const MAX_STEPS: usize = 32;
    /// How far any value may lie beyond the bounds of its unit and of the explicit histograms of its family.
    const NEAR: f64 = 1_000.0;

    /// The reach of a family with this unit and these explicit bounds.
    pub fn of<'a>(unit: &str, explicit: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let bounds = explicit.into_iter().chain([standard(unit)]).flatten();
        let magnitudes = bounds.map(|bound| bound.abs()).filter(|bound| *bound > 0.0);
        let (low, high) = magnitudes.fold((f64::INFINITY, 0.0_f64), |(low, high), bound| {
            (low.min(bound), high.max(bound))
        });
        let all = Steps::of(unit).all();
        let below = all.partition_point(|step| *step < low);
        let above = all.partition_point(|step| *step <= high);
        Reach {
            near: (low / Self::NEAR, high * Self::NEAR),
            far: (
                all[below.saturating_sub(Self::MAX_STEPS)],
                all[(above + Self::MAX_STEPS).min(all.len()) - 1],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_configurations() {
        let steps = Steps::Decades;
        assert_eq!(steps.within(0.001, 1.0)[..4], [0.001, 0.0025, 0.005, 0.01]);
        assert_eq!(
            (steps.above(10.0), steps.below(10.0), steps.above(9.9)),
            (25.0, 5.0, 10.0)
        );
        assert_eq!((steps.below(1e-323), steps.below(5e-324)), (5e-324, 0.0));
        assert_eq!((steps.above(1e308), steps.above(0.0)), (f64::INFINITY, 5e-324));
        assert_eq!((Steps::Fours.above(1.0), Steps::Fours.below(1.0)), (4.0, 0.25));
        for steps in [steps, Steps::Fours] {
            assert!(steps.all().is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn the_reach_is_bounded_on_both_sides() {
        let reach = Reach::of("s", []);
        assert_eq!(reach.near, (0.005 / 1000.0, 10_000.0));
        assert_eq!(Steps::Decades.within(10.1, reach.far.1).len(), Reach::MAX_STEPS);
        assert_eq!(Steps::Decades.within(reach.far.0, 0.0049).len(), Reach::MAX_STEPS);
        let explicit: &[f64] = &[-50.0, 0.0, 50.0];
        assert_eq!(Reach::of("s", [explicit]).near.1, 50_000.0);
        let extreme: &[f64] = &[5e-324, 1.7e308];
        assert_eq!(Reach::of("s", [extreme]).far, (5e-324, 1e308));
    }
}
