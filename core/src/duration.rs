//! Go's duration text, as in `TimeStr` (`control.md` §5.1) and `ttl` (§6.1).

use alloc::format;
use alloc::string::String;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),  // micro sign
    ("\u{3bc}s", 1_000), // Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// The largest unit that fits, with the fraction digits it needs: `850ns`, `12.5µs`, `3.07ms`, `1.2s`, `1m3s`, `2h0m0s`.
pub fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{nanos}ns"),
        1_000..1_000_000 => format!("{sign}{}\u{b5}s", decimal(nanos, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(nanos, 1_000_000, 6)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000, 9);
            match minutes {
                0 => format!("{sign}{seconds}s"),
                1..60 => format!("{sign}{minutes}m{seconds}s"),
                _ => format!("{sign}{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    }
}

/// `value / unit` with at most `digits` fraction digits and no trailing zeros.
fn decimal(value: u64, unit: u64, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Reads Go's duration text: one or more decimal numbers with a unit each, such as `1h20m30s`, `-1.5h`, `.5s`, or `0`.
///
/// # Errors
/// The text of Go's own parser.
pub fn parse_go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    // The magnitude may reach 2^63, for the most negative value.
    let limit = 1u64 << 63;
    let within = |v: Option<u64>| v.filter(|&v| v <= limit).ok_or_else(invalid);
    let mut total = 0u64;
    while !rest.is_empty() {
        let (whole, after) = split_while(rest, |c| c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_while(after, |c| c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) = split_while(after, |c| c != '.' && !c.is_ascii_digit());
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some(&(_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        let whole = if whole.is_empty() {
            0
        } else {
            within(whole.parse().ok())?
        };
        let part = within(whole.checked_mul(scale))?;
        total = within(
            total
                .checked_add(part)
                .and_then(|v| v.checked_add(fraction_of(fraction, scale))),
        )?;
        rest = after;
    }
    if negative {
        return Ok(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// `0.fraction * unit`, computed in floating point as Go does, so that the last nanosecond agrees too.
fn fraction_of(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes() {
        // Digits that do not fit any more are below a nanosecond by far.
        let Some(next) = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u64::from(digit - b'0')))
        else {
            break;
        };
        if next > 1 << 63 {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formats_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (850, "850ns"),
            (1_100, "1.1µs"),
            (12_500, "12.5µs"),
            (3_070_000, "3.07ms"),
            (1_482_731, "1.482731ms"),
            (1_200_000_000, "1.2s"),
            (63_000_000_000, "1m3s"),
            (60_000_000_000, "1m0s"),
            (245_000_000_000, "4m5s"),
            (4 * 60_000_000_000 + 5_001_000_000, "4m5.001s"),
            (5 * 3_600_000_000_000 + 7 * 60_000_000_000 + 1_000_000, "5h7m0.001s"),
            (8 * 60_000_000_000 + 1, "8m0.000000001s"),
            (7_200_000_000_000, "2h0m0s"),
            (-1_200, "-1.2µs"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn parses_as_go_does() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("1h20m30s", 4_830_000_000_000),
            ("5s", 5_000_000_000),
            ("10h30m", 37_800_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("3ms2ns", 3_000_002),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.830103483285477580700h", 2_988_372_539_827),
        ] {
            assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_texts_of_go() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".", "time: invalid duration \".\""),
            (".s", "time: invalid duration \".s\""),
            ("s", "time: invalid duration \"s\""),
            ("soon", "time: invalid duration \"soon\""),
            ("3", "time: missing unit in duration \"3\""),
            ("1h3", "time: missing unit in duration \"1h3\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            ("3000000h", "time: invalid duration \"3000000h\""),
            (
                "99999999999999999999s",
                "time: invalid duration \"99999999999999999999s\"",
            ),
        ] {
            assert_eq!(parse_go_duration(text).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_parsed_back(nanos: i64) {
            // Fractions go through floating point (as in Go), which is exact to the nanosecond below a minute.
            prop_assert_eq!(parse_go_duration(&go_duration(nanos)), Ok(nanos));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}|[-+]?[0-9.]{0,25}(ns|us|ms|s|m|h|x)?[0-9.]{0,5}(s|h)?") {
            let _ = parse_go_duration(&text);
        }
    }
}
