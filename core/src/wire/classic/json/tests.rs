use super::reader::MAX_DEPTH;
use super::*;
use crate::wire::WireError;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

fn string(text: &[u8]) -> Result<String, WireError> {
    let mut reader = Reader::new(text, "test");
    let value = reader.string()?.unwrap_or_default().into_owned();
    reader.end()?;
    Ok(value)
}

fn unsigned(text: &str) -> Result<Option<u64>, WireError> {
    let mut reader = Reader::new(text.as_bytes(), "test");
    let value = reader.unsigned()?;
    reader.end()?;
    Ok(value)
}

fn float(text: &str) -> Result<Option<f64>, WireError> {
    let mut reader = Reader::new(text.as_bytes(), "test");
    let value = reader.float()?;
    reader.end()?;
    Ok(value)
}

fn skips(text: &[u8]) -> bool {
    let mut reader = Reader::new(text, "test");
    reader.skip().is_ok() && reader.end().is_ok()
}

fn written(value: f64) -> String {
    let mut out = String::new();
    write_float(&mut out, value);
    out
}

#[test]
fn integers_are_exact_and_strict() {
    assert_eq!(unsigned("18446744073709551615"), Ok(Some(u64::MAX)));
    assert_eq!(unsigned(" \t\r\n28521267211259375 "), Ok(Some(28_521_267_211_259_375)));
    assert_eq!(unsigned("null"), Ok(None));
    for text in [
        "1.0",
        "1e3",
        "-1",
        "-0",
        "\"1\"",
        "18446744073709551616",
        "01",
        "+1",
        "",
        "true",
        "[1]",
        "1 1",
    ] {
        assert!(unsigned(text).is_err(), "{text}");
    }
}

#[test]
fn floats_are_any_finite_number() {
    assert_eq!(float("1"), Ok(Some(1.0)));
    assert_eq!(float("-2.5e-3"), Ok(Some(-0.0025)));
    assert_eq!(float("0.1"), Ok(Some(0.1)));
    // Needs correct rounding, which fast float readers lack.
    assert_eq!(
        float("2.2250738585072011e-308"),
        Ok(Some(f64::from_bits(0x000f_ffff_ffff_ffff)))
    );
    for text in ["1e999", "NaN", "Infinity", "1.", ".5", "1e", "\"1\"", "0x1", "00", "-"] {
        assert!(float(text).is_err(), "{text}");
    }
}

#[test]
fn floats_are_written_as_go_does() {
    for (value, text) in [
        (1.0, "1"),
        (2.5, "2.5"),
        (0.0, "0"),
        (-0.0, "-0"),
        (100_000_000_000_000_000_000.0, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-1.25e-9, "-1.25e-9"),
        (0.1, "0.1"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::NAN, "null"),
    ] {
        assert_eq!(written(value), text);
    }
}

#[test]
fn strings_are_unquoted_as_go_does() {
    assert_eq!(
        string(br#""a\"\\\/\b\f\n\r\t\u00e9""#).unwrap(),
        "a\"\\/\u{8}\u{c}\n\r\t\u{e9}"
    );
    assert_eq!(string(br#""\ud83d\ude00""#).unwrap(), "\u{1f600}");
    assert_eq!(string(br#""\ud83dx""#).unwrap(), "\u{fffd}x");
    assert_eq!(string(br#""\ud83d\u0041""#).unwrap(), "\u{fffd}A");
    assert_eq!(string(br#""\ude00\ud83d\ude00""#).unwrap(), "\u{fffd}\u{1f600}");
    assert_eq!(string(b"\"\xff\xe2\x82x\"").unwrap(), "\u{fffd}\u{fffd}\u{fffd}x");
    assert_eq!(string(b"\"\xff\\n\xff\"").unwrap(), "\u{fffd}\n\u{fffd}");
    for text in [
        &b"\"a\nb\""[..],
        b"\"a",
        b"\"\\x\"",
        b"\"\\u12g4\"",
        b"\"\\u12",
        b"'a'",
        b"\"\\",
        b"a",
    ] {
        assert!(string(text).is_err(), "{text:?}");
    }
}

#[test]
fn strings_are_written_as_go_does() {
    let mut out = String::new();
    write_string(&mut out, "a<b>&\"\\\n\u{1}\u{7f}\u{2028}\u{2029}é");
    assert_eq!(
        out,
        "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001\u{7f}\\u2028\\u2029é\""
    );
}

#[test]
fn keys_are_compared_without_case() {
    assert!(key_is("nodeid", "NodeID"));
    assert!(key_is("NODEID", "NodeID"));
    assert!(key_is("ta\u{17f}s", "tass"));
    assert!(key_is("wor\u{212a}Commands", "WorkCommands"));
    assert!(!key_is("node_id", "NodeID"));
    assert!(!key_is("nodeid\u{e9}", "NodeID"));
}

#[test]
fn any_value_can_be_skipped() {
    for text in [
        "1",
        "-1.5e+3",
        "\"a\\u0000\"",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1,[2,{\"a\":[]}],3]",
        " {\"a\":1, \"b\" : {\"c\":[true,null]} } ",
    ] {
        assert!(skips(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "[",
        "{",
        "[1",
        "[1,",
        "[1,]",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{1:2}",
        "[}",
        "{]",
        "nul",
        "[1 2]",
    ] {
        assert!(!skips(text.as_bytes()), "{text}");
    }
}

#[test]
fn nesting_is_bounded_and_does_not_recurse() {
    let nested = |depth: usize| {
        let mut text = vec![b'['; depth];
        text.extend(vec![b']'; depth]);
        text
    };
    assert!(skips(&nested(MAX_DEPTH)));
    assert!(!skips(&nested(MAX_DEPTH + 2)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = skips(&text);
        let _ = string(&text);
    }

    #[test]
    fn strings_round_trip(text in any::<String>()) {
        let mut out = String::new();
        write_string(&mut out, &text);
        prop_assert_eq!(string(out.as_bytes()).unwrap(), text);
    }

    #[test]
    fn floats_round_trip(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        prop_assert_eq!(float(&written(value)).unwrap().unwrap().to_bits(), bits);
        prop_assert!(written(value).to_string().len() <= 25);
    }
}
