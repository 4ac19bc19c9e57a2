//! Numbers and durations as Go writes them.

/// Parses an integer with an optional base prefix; a leading `0` means octal.
///
/// # Errors
/// The text of Go's `strconv.ParseInt`.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let value = parse_wide(text).ok_or_else(|| go_error("ParseInt", text, "invalid syntax"))?;
    i64::try_from(value).map_err(|_| go_error("ParseInt", text, "value out of range"))
}

/// As [`parse_int`], without Go's limit of 64 bits, saturating far above it. `None` is a syntax error.
pub(super) fn parse_wide(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // An underscore may follow a prefix or a digit, and a digit must follow it.
    let digits = if radix == 10 {
        digits
    } else {
        digits.strip_prefix('_').unwrap_or(digits)
    };
    let mut value: i128 = 0;
    let mut after_digit = false;
    for byte in digits.bytes() {
        if byte == b'_' && after_digit {
            after_digit = false;
            continue;
        }
        let digit = char::from(byte).to_digit(radix)?;
        value = value
            .saturating_mul(i128::from(radix))
            .saturating_add(i128::from(digit));
        after_digit = true;
    }
    after_digit.then_some(if negative { -value } else { value })
}

/// Parses a decimal floating point number.
///
/// # Errors
/// The text of Go's `strconv.ParseFloat`.
pub fn parse_float(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| go_error("ParseFloat", text, "invalid syntax"))
}

/// Parses a Go duration such as `1h30m`, `1.5h` or `-500ms` into nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse::<i64>().ok()?.into()
        };
        total = total.checked_add(whole * unit)?;
        // Digits below the nanosecond of the largest unit have no effect.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<i128>().ok()? * unit / scale)?;
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn go_error(function: &str, text: &str, why: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_gos() {
        for (text, value) in [
            ("0", 0),
            ("12", 12),
            ("-12", -12),
            ("+7", 7),
            ("0x1f", 31),
            ("0X1F", 31),
            ("-0b101", -5),
            ("0o17", 15),
            ("017", 15),
            ("0600", 384),
            ("1_000", 1000),
            ("0x_1f", 31),
            ("0_7", 7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_int(text), Ok(value), "{text}");
        }
        for text in [
            "", "-", "+", "abc", "1.5", "08", "0x", "1__0", "_1", "1_", "0b2", "--1", "1 ", "é", "0é",
        ] {
            assert!(parse_int(text).unwrap_err().ends_with("invalid syntax"), "{text}");
        }
        assert_eq!(
            parse_int("9223372036854775808").unwrap_err(),
            "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"
        );
        assert!(
            parse_int(&"9".repeat(10_000))
                .unwrap_err()
                .ends_with("value out of range")
        );
    }

    #[test]
    fn durations_are_gos() {
        const S: i64 = 1_000_000_000;
        for (text, value) in [
            ("60s", 60 * S),
            ("1h30m", 5400 * S),
            ("1.5h", 5400 * S),
            (".5s", S / 2),
            ("1.s", S),
            ("-5s", -5 * S),
            ("+5s", 5 * S),
            ("0", 0),
            ("100ms", S / 10),
            ("3µs", 3000),
            ("3us2ns", 3002),
            ("0.100000000000000000000s", S / 10),
        ] {
            assert_eq!(parse_duration(text), Some(value), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-",
            ".s",
            "5 s",
            "5sec",
            "1d",
            "1..5s",
            "99999999999999999999s",
            "9223372037s",
            "h1",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
