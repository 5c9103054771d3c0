//! Formats numbers for a page.
//!
//! Values are the shortest text that parses to the same double; integers have neither exponent nor point. Bounds and quantiles are
//! label values, so equal numbers must have equal text in all programs. They follow Go's `'g'` format with a point, as the OpenMetrics
//! specification ("Considerations: Canonical Numbers") and the Python client do.

use dichroic_model::{Factor, Number};

/// 2^53: floats of this magnitude and above are not written as integers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes a raw number multiplied by `factor`.
#[inline]
pub(super) fn push_number(out: &mut Vec<u8>, raw: Number, factor: Factor) {
    match raw.as_int() {
        Some(int) if factor.is_one() => push_int(out, int),
        _ => push_f64(out, factor.apply(raw.to_f64())),
    }
}

#[inline]
pub(super) fn push_int(out: &mut Vec<u8>, int: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
}

#[inline]
pub(super) fn push_count(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

#[inline]
pub(super) fn push_f64(out: &mut Vec<u8>, value: f64) {
    if value.abs() < EXACT && value.trunc() == value {
        push_int(out, value as i64);
    } else if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        push_special(out, value);
    }
}

fn push_special(out: &mut Vec<u8>, value: f64) {
    let text: &[u8] = match value {
        v if v.is_nan() => b"NaN",
        v if v > 0.0 => b"+Inf",
        _ => b"-Inf",
    };
    out.extend_from_slice(text);
}

/// Writes nanoseconds as seconds with milliseconds.
pub(super) fn push_seconds(out: &mut Vec<u8>, nanos: u64) {
    push_count(out, nanos / 1_000_000_000);
    let millis = (nanos / 1_000_000 % 1_000) as u32;
    let digits = [millis / 100, millis / 10 % 10, millis % 10];
    out.push(b'.');
    out.extend(digits.map(|d| b'0' + d as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_parse_to_the_same_double() {
        let check = |value: f64, expected: &str| {
            let mut out = Vec::new();
            push_f64(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            if value == value {
                assert_eq!(expected.parse::<f64>().unwrap(), value, "{expected}");
            }
        };
        check(0.0, "0");
        check(-0.0, "0");
        check(1.0, "1");
        check(-3.0, "-3");
        check(0.1, "0.1");
        check(1.5e-9, "1.5e-9");
        check(1e15, "1000000000000000");
        check(9_007_199_254_740_993.0, "9007199254740992.0");
        check(1e300, "1e+300");
        check(f64::MAX, "1.7976931348623157e+308");
        check(5e-324, "5e-324");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(f64::NAN, "NaN");
    }

    #[test]
    fn integers_are_exact_and_the_factor_is_applied_once() {
        let check = |raw, factor, expected: &str| {
            let mut out = Vec::new();
            push_number(&mut out, raw, factor);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let ns = Factor::new(1, 1_000_000_000).unwrap();
        check(Number::int(i64::MAX), Factor::ONE, "9223372036854775807");
        check(Number::int(i64::MIN), Factor::ONE, "-9223372036854775808");
        check(Number::int(1_500_000_000), ns, "1.5");
        check(Number::int(2_000_000_000), ns, "2");
        check(Number { int: 2, float: 0.5 }, Factor::ONE, "2.5");
    }

    #[test]
    fn times_are_seconds() {
        let mut out = Vec::new();
        push_seconds(&mut out, 1_700_000_000_042_999_999);
        assert_eq!(out, b"1700000000.042");
    }
}
