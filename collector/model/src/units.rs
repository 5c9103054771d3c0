//! Units in UCUM's spelling, and exact conversion between units of one dimension.
//!
//! A conversion is a [`Factor`], a ratio of integers: nanoseconds to seconds is 1/1,000,000,000, so an integer sum remains an
//! exact integer in the cell and is divided once, when it is exported. Kilobytes are decimal, as in `Telemetry.Metrics`.
//! Source: UCUM 2.1; OpenTelemetry semantic conventions, "Instrument units".

/// An exact ratio that converts raw values to the declared unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Factor {
    /// Multiplier, never zero.
    pub num: u64,
    /// Divisor, never zero.
    pub den: u64,
}

impl Factor {
    /// The identity.
    pub const ONE: Factor = Factor { num: 1, den: 1 };

    /// A reduced ratio. `None` if either side is zero.
    pub fn new(num: u64, den: u64) -> Option<Self> {
        if num == 0 || den == 0 {
            return None;
        }
        let g = gcd(num, den);
        Some(Factor {
            num: num / g,
            den: den / g,
        })
    }

    /// Both conversions, one after the other. `None` on overflow.
    pub fn then(self, next: Factor) -> Option<Self> {
        let a = Factor::new(self.num, next.den)?;
        let b = Factor::new(next.num, self.den)?;
        Factor::new(a.num.checked_mul(b.num)?, a.den.checked_mul(b.den)?)
    }

    /// Whether it is 1.
    pub fn is_one(self) -> bool {
        self.num == self.den
    }

    /// Converts a float, rounding once where `value * num` is exact.
    #[inline]
    pub fn apply(self, value: f64) -> f64 {
        if self.is_one() {
            value
        } else {
            value * self.num as f64 / self.den as f64
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A dimension within which units convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Time,
    Bytes,
    Ratio,
}

/// (spelling, dimension, size in the smallest unit). The spellings of `Telemetry.Metrics` and of Prometheus names are accepted
/// too.
const UNITS: &[(&str, Dimension, u64)] = &[
    ("ns", Dimension::Time, 1),
    ("nanosecond", Dimension::Time, 1),
    ("nanoseconds", Dimension::Time, 1),
    ("us", Dimension::Time, 1_000),
    ("microsecond", Dimension::Time, 1_000),
    ("microseconds", Dimension::Time, 1_000),
    ("ms", Dimension::Time, 1_000_000),
    ("millisecond", Dimension::Time, 1_000_000),
    ("milliseconds", Dimension::Time, 1_000_000),
    ("s", Dimension::Time, 1_000_000_000),
    ("second", Dimension::Time, 1_000_000_000),
    ("seconds", Dimension::Time, 1_000_000_000),
    ("min", Dimension::Time, 60_000_000_000),
    ("h", Dimension::Time, 3_600_000_000_000),
    ("d", Dimension::Time, 86_400_000_000_000),
    ("By", Dimension::Bytes, 1),
    ("byte", Dimension::Bytes, 1),
    ("bytes", Dimension::Bytes, 1),
    ("kBy", Dimension::Bytes, 1_000),
    ("kilobyte", Dimension::Bytes, 1_000),
    ("KiBy", Dimension::Bytes, 1 << 10),
    ("MBy", Dimension::Bytes, 1_000_000),
    ("megabyte", Dimension::Bytes, 1_000_000),
    ("MiBy", Dimension::Bytes, 1 << 20),
    ("GBy", Dimension::Bytes, 1_000_000_000),
    ("GiBy", Dimension::Bytes, 1 << 30),
    ("%", Dimension::Ratio, 1),
    ("percent", Dimension::Ratio, 1),
    ("1", Dimension::Ratio, 100),
    ("ratio", Dimension::Ratio, 100),
];

fn find(unit: &str) -> Option<(Dimension, u64)> {
    UNITS
        .iter()
        .find(|(name, ..)| *name == unit)
        .map(|(_, dimension, size)| (*dimension, *size))
}

/// The factor from one unit to another. `None` for unknown units and for different dimensions.
///
/// `native` is not a unit: each node states its size in the handshake ([`native`]).
pub fn conversion(from: &str, to: &str) -> Option<Factor> {
    if from == to {
        return Some(Factor::ONE);
    }
    let ((from_dimension, from_size), (to_dimension, to_size)) = (find(from)?, find(to)?);
    if from_dimension != to_dimension {
        return None;
    }
    Factor::new(from_size, to_size)
}

/// The factor from a node's native time unit to `to`. `None` if `to` is not a time or `per_second` is zero.
pub fn native(per_second: u64, to: &str) -> Option<Factor> {
    Factor::new(1, per_second)?.then(conversion("s", to)?)
}

/// The unit of exported values: seconds for times, bytes for sizes, 1 for ratios, otherwise `unit`.
pub fn base(unit: &str) -> &str {
    match find(unit) {
        Some((Dimension::Time, _)) => "s",
        Some((Dimension::Bytes, _)) => "By",
        Some((Dimension::Ratio, _)) => "1",
        None => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_exact_ratios() {
        let check = |from, to, expected| assert_eq!(conversion(from, to), expected, "{from} to {to}");
        check("ns", "s", Factor::new(1, 1_000_000_000));
        check("ms", "us", Factor::new(1_000, 1));
        check("megabyte", "By", Factor::new(1_000_000, 1));
        check("MiBy", "By", Factor::new(1 << 20, 1));
        check("%", "1", Factor::new(1, 100));
        check("s", "By", None);
        check("furlong", "s", None);
        check("furlong", "furlong", Some(Factor::ONE));
    }

    #[test]
    fn the_size_of_the_native_unit_is_stated_by_the_node() {
        assert_eq!(native(1_000_000_000, "s"), Factor::new(1, 1_000_000_000));
        assert_eq!(native(1_000_000, "ms"), Factor::new(1, 1_000));
        assert_eq!(native(0, "s"), None);
        assert_eq!(native(1_000, "By"), None);
    }

    #[test]
    fn an_integer_number_of_milliseconds_is_the_nearest_float_of_seconds() {
        let factor = conversion("ms", "s").unwrap();
        for ms in [1_u32, 3, 7, 250, 12_345] {
            assert_eq!(factor.apply(f64::from(ms)), f64::from(ms) / 1000.0);
        }
    }

    #[test]
    fn factors_compose_and_overflow_is_an_error() {
        let f = Factor::new(1, 1_000).unwrap();
        assert_eq!(f.then(f), Factor::new(1, 1_000_000));
        assert_eq!(f.then(Factor::new(1_000, 1).unwrap()), Some(Factor::ONE));
        let big = Factor::new(u64::MAX, 1).unwrap();
        assert_eq!(big.then(big), None);
    }
}
