//! Types of YAML scalars by the rules of the classic node's YAML 1.1 library.

use super::number::parse_wide;
use super::yaml::Yaml;

/// The type of a scalar without quotes and tag.
pub(super) fn plain(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Yaml::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Yaml::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Yaml::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Yaml::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Yaml::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            if let Some(value) = parse_wide(&digits).filter(|value| fits(*value)) {
                return Yaml::Int(value);
            }
            float(&digits).map_or_else(|| Yaml::Text(text.into()), Yaml::Float)
        }
        b'.' => float(text).map_or_else(|| Yaml::Text(text.into()), Yaml::Float),
        _ => Yaml::Text(text.into()),
    }
}

/// The same as newer libraries have it, whose booleans are `true` and `false`.
pub(super) fn plain_modern(text: &str) -> Yaml {
    match plain(text) {
        Yaml::Bool(_) if !text.eq_ignore_ascii_case("true") && !text.eq_ignore_ascii_case("false") => {
            Yaml::Text(text.into())
        }
        value => value,
    }
}

/// The type of a scalar with an explicit tag of the YAML namespace, quoted or not.
///
/// # Errors
/// The value is not of the tag's type.
pub(super) fn tagged(tag: &str, text: &str) -> Result<Yaml, String> {
    let value = match tag {
        "null" | "bool" | "int" | "float" => plain(text),
        _ => return Ok(Yaml::Text(text.into())),
    };
    match (tag, value) {
        ("null", Yaml::Null) => Ok(Yaml::Null),
        ("bool", Yaml::Bool(value)) => Ok(Yaml::Bool(value)),
        ("int", Yaml::Int(value)) => Ok(Yaml::Int(value)),
        ("float", Yaml::Float(value)) => Ok(Yaml::Float(value)),
        #[expect(clippy::cast_precision_loss)]
        ("float", Yaml::Int(value)) => Ok(Yaml::Float(value as f64)),
        (_, value) => Err(format!("cannot decode {} `{text}` as a !!{tag}", value.tag())),
    }
}

/// Go reads integers as `int64`, else as `uint64`.
fn fits(value: i128) -> bool {
    i64::try_from(value).is_ok() || u64::try_from(value).is_ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, finite.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let shaped = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || unsigned
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    // With the first character a digit or a point, Rust's grammar is that expression.
    if !shaped {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and what go-yaml 2.4 makes of them, in its own words.
    #[test]
    fn plain_scalars_have_the_classic_types() {
        for text in ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"] {
            assert_eq!(plain(text), Yaml::Bool(true), "{text}");
        }
        for text in [
            "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF",
        ] {
            assert_eq!(plain(text), Yaml::Bool(false), "{text}");
        }
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(plain(text), Yaml::Null, "{text}");
        }
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("12", 12),
            ("+12", 12),
            ("-12", -12),
            ("0x10", 16),
            ("0X1F", 31),
            ("-0x10", -16),
            ("0b10", 2),
            ("-0b10", -2),
            ("0o17", 15),
            ("017", 15),
            ("0660", 432),
            ("00", 0),
            ("0_7", 7),
            ("1_000", 1000),
            ("1__0", 10),
            ("18446744073709551615", i128::from(u64::MAX)),
        ] {
            assert_eq!(plain(text), Yaml::Int(value), "{text}");
        }
        for (text, value) in [
            ("1.5", 1.5),
            ("1.", 1.0),
            (".5", 0.5),
            ("-.5", -0.5),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("1_0.5", 10.5),
            ("08", 8.0),
            ("09", 9.0),
            ("9999999999999999999999", 1e22),
            (".inf", f64::INFINITY),
            ("+.INF", f64::INFINITY),
            ("-.Inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(plain(text), Yaml::Float(value), "{text}");
        }
        assert!(matches!(plain(".nan"), Yaml::Float(value) if value.is_nan()));
        for text in [
            "tRue",
            "yEs",
            "nULL",
            "12:34",
            "2024-10-01",
            "2001-12-14t21:59:43.10-05:00",
            "1.2.3",
            "127.0.0.1",
            "-",
            "+",
            "_1",
            "0x",
            "0b2",
            "1e",
            "e5",
            ".",
            "..5",
            "inf",
            "nan",
            "-inf",
            "+nan",
            "1e400",
            "0x1p-2",
            "<<",
            "a",
            "héh",
        ] {
            assert_eq!(plain(text), Yaml::Text(text.into()), "{text}");
        }
    }

    #[test]
    fn tags_force_a_type() {
        assert_eq!(tagged("str", "12"), Ok(Yaml::Text("12".into())));
        assert_eq!(tagged("int", "12"), Ok(Yaml::Int(12)));
        assert_eq!(tagged("float", "12"), Ok(Yaml::Float(12.0)));
        assert_eq!(tagged("bool", "yes"), Ok(Yaml::Bool(true)));
        assert_eq!(tagged("null", ""), Ok(Yaml::Null));
        assert_eq!(tagged("int", "x"), Err("cannot decode !!str `x` as a !!int".into()));
        assert!(tagged("bool", "1").is_err());
    }
}
