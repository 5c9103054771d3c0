//! Numbers of a page: values, as Go's `ParseFloat` reads them but without hexadecimal and underscores, and timestamps.

/// Powers of ten that a double holds exactly.
const EXACT_POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// A sample value. Rejects what Prometheus rejects: hexadecimal, underscores, a signed NaN, and overflow of a double.
#[inline]
pub(crate) fn float(bytes: &[u8]) -> Option<f64> {
    short_decimal(bytes).or_else(|| any_float(bytes))
}

/// Fast path for nearly all values: plain decimals of at most 19 digits whose value is exact after one division.
#[inline]
fn short_decimal(bytes: &[u8]) -> Option<f64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    let (mut mantissa, mut point, mut seen) = (0u64, None, 0usize);
    for (at, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            seen += 1;
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    // 19 digits fit 64 bits; 53 bits fit a double: then both operands are exact and the quotient is rounded once.
    if seen == 0 || seen > 19 || mantissa > 1 << 53 {
        return None;
    }
    let scale = point.map_or(0, |at| digits.len() - 1 - at);
    let value = if scale == 0 {
        mantissa as f64
    } else {
        mantissa as f64 / EXACT_POW10[scale]
    };
    Some(if negative { -value } else { value })
}

fn any_float(bytes: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let unsigned = match bytes {
        [b'+' | b'-', rest @ ..] => rest,
        rest => rest,
    };
    let word = unsigned.first().is_some_and(u8::is_ascii_alphabetic);
    let refused = if value.is_nan() {
        unsigned.len() != bytes.len()
    } else {
        value.is_infinite() && !word
    };
    (!refused).then_some(value)
}

/// A timestamp of the text format, in milliseconds; returned in nanoseconds.
pub(crate) fn milliseconds(digits: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(value.saturating_mul(1_000_000))
}

/// A timestamp of OpenMetrics, in seconds; returned in nanoseconds. Decimals are exact, exponents are rounded to a double.
pub(crate) fn seconds(bytes: &[u8]) -> Option<i64> {
    decimal_seconds(bytes).or_else(|| {
        let value = float(bytes)?;
        value.is_finite().then_some((value * 1e9) as i64)
    })
}

fn decimal_seconds(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let point = memchr::memchr(b'.', digits).unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || whole.len() > 10 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let number = |part: &[u8]| part.iter().fold(0i64, |sum, b| sum * 10 + i64::from(b - b'0'));
    let shown = &fraction[..fraction.len().min(9)];
    let nanos = number(shown) * 10i64.pow(9 - shown.len() as u32);
    let value = number(whole).checked_mul(1_000_000_000)?.checked_add(nanos)?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_prometheus_reads_them() {
        let check = |input: &str, expected: Option<f64>| {
            assert_eq!(
                float(input.as_bytes()).map(f64::to_bits),
                expected.map(f64::to_bits),
                "{input:?}"
            );
        };
        check("1", Some(1.0));
        check("-0", Some(-0.0));
        check("+1", Some(1.0));
        check("1.", Some(1.0));
        check(".5", Some(0.5));
        check("0.1", Some(0.1));
        check("1.7856342e+09", Some(1_785_634_200.0));
        check("9223372036854775808", Some(9_223_372_036_854_775_808.0));
        check("0.013300656000000001", Some(0.013300656000000001));
        check("0000000000000000000000000000000000000000001.2e-1", Some(0.12));
        check("Inf", Some(f64::INFINITY));
        check("+inf", Some(f64::INFINITY));
        check("-Infinity", Some(f64::NEG_INFINITY));
        check("NaN", Some(f64::NAN));
        check("nan", Some(f64::NAN));
        for refused in [
            "", ".", "-", "+NaN", "-nan", "1e999", "-1e999", "0x1p-3", "0x1", "1_2", "1e", "e5", "1.1.1",
            "true", "1\r",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn the_fast_path_gives_the_same_double_as_the_slow_path() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let digits = (state >> 4) % 10u64.pow(1 + (state % 17) as u32);
            let text = format!(
                "{}.{:0width$}",
                digits,
                state % 1000,
                width = (state % 6) as usize
            );
            let exact: f64 = text.parse().unwrap();
            assert_eq!(
                float(text.as_bytes()).map(f64::to_bits),
                Some(exact.to_bits()),
                "{text}"
            );
        }
    }

    #[test]
    fn openmetrics_timestamps_are_exact_to_the_nanosecond() {
        let check =
            |input: &str, expected: Option<i64>| assert_eq!(seconds(input.as_bytes()), expected, "{input:?}");
        check("123", Some(123_000_000_000));
        check("123.456", Some(123_456_000_000));
        check("-1.1", Some(-1_100_000_000));
        check("0.0000000010", Some(1));
        check("0.0000000001", Some(0));
        check("1.520430000e+09", Some(1_520_430_000_000_000_000));
        check("9999999999", Some(i64::MAX));
        for refused in ["", "z", "1z", "1_2", "1.1.1", "NaN", "Inf", "-Inf", "0x1p-3"] {
            check(refused, None);
        }
    }
}
