//! Times of advertisements: RFC 3339 text as Go reads and writes it (`wire.md` §9).

use alloc::string::String;
use core::cmp::Ordering;
use core::fmt::Write as _;

use crate::time::Wall;
use crate::wire::WireError;

const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Longest text that is kept as it came, in bytes. Go writes at most 35; longer ones have needless digits in the fraction.
const MAX_TEXT: usize = 40;

/// First and last second that four digits of year can express, from the Unix epoch.
const YEAR_0000: i64 = -62_167_219_200;
const YEAR_9999_END: i64 = 253_402_300_799;

/// The time of an advertisement: the text as it came, for passing on, and the instant it means, for comparing.
///
/// Equality and order are those of the instant. The default is Go's zero time, the start of the year 1.
#[derive(Clone, Debug)]
pub struct AdvertTime {
    text: String,
    nanos: i128,
}

impl AdvertTime {
    /// Reads RFC 3339 text, as strictly as Go does: capital `T` and `Z`; also a one-digit hour and a decimal comma.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &[u8]) -> Result<Self, WireError> {
        let nanos = parse(text).ok_or(WireError::Malformed("service advertisement: time is not RFC 3339"))?;
        let nanos = nanos.clamp(
            i128::from(YEAR_0000) * SECOND,
            (i128::from(YEAR_9999_END) + 1) * SECOND - 1,
        );
        let text = match core::str::from_utf8(text) {
            Ok(text) if text.len() <= MAX_TEXT => text.into(),
            _ => format(nanos),
        };
        Ok(Self { text, nanos })
    }

    /// The present time of a node, in UTC.
    pub fn from_wall(wall: Wall) -> Self {
        Self {
            text: format_rfc3339(wall),
            nanos: i128::from(wall.as_nanos()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Nanoseconds since the Unix epoch; negative before it.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The instant as wall-clock time, held within what that can express.
    pub fn wall(&self) -> Wall {
        Wall::from_nanos(u64::try_from(self.nanos.max(0)).unwrap_or(u64::MAX))
    }
}

impl serde::Serialize for AdvertTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for AdvertTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

impl Default for AdvertTime {
    fn default() -> Self {
        Self {
            text: "0001-01-01T00:00:00Z".into(),
            nanos: -62_135_596_800 * SECOND,
        }
    }
}

impl PartialEq for AdvertTime {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for AdvertTime {}

impl PartialOrd for AdvertTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AdvertTime {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The RFC 3339 text of a time in UTC, as Go writes it: nanoseconds without trailing zeros, no fraction at all if it is zero.
pub fn format_rfc3339(wall: Wall) -> String {
    format(i128::from(wall.as_nanos()))
}

fn format(nanos: i128) -> String {
    let secs = i64::try_from(nanos.div_euclid(SECOND)).unwrap_or(0);
    let fraction = nanos.rem_euclid(SECOND);
    let (year, month, day) = civil_from_days(secs.div_euclid(DAY));
    let second_of_day = secs.rem_euclid(DAY);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let mut text = String::with_capacity(30);
    // Writing to a string cannot fail.
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        let _ = write!(text, ".{fraction:09}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
    text
}

/// Nanoseconds since the Unix epoch.
fn parse(text: &[u8]) -> Option<i128> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    literal(&mut rest, b'-')?;
    let month = number(&mut rest, 2).filter(|m| (1..=12).contains(m))?;
    literal(&mut rest, b'-')?;
    let day = number(&mut rest, 2).filter(|&d| d >= 1 && d <= days_in(year, month))?;
    literal(&mut rest, b'T')?;
    // Go takes one digit here, and only here.
    let hour_digits = if rest.get(1).is_some_and(u8::is_ascii_digit) {
        2
    } else {
        1
    };
    let hour = number(&mut rest, hour_digits).filter(|&h| h < 24)?;
    literal(&mut rest, b':')?;
    let minute = number(&mut rest, 2).filter(|&m| m < 60)?;
    literal(&mut rest, b':')?;
    let second = number(&mut rest, 2).filter(|&s| s < 60)?;
    let fraction = fraction(&mut rest);
    let offset = zone(rest)?;
    let secs = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(i128::from(secs) * SECOND + i128::from(fraction))
}

/// The offset from UTC in seconds; nothing may follow it.
fn zone(mut rest: &[u8]) -> Option<i64> {
    if rest == b"Z" {
        return Some(0);
    }
    let sign = match rest.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    rest = &rest[1..];
    // Go lets 24 hours and 60 minutes pass.
    let hours = number(&mut rest, 2).filter(|&h| h <= 24)?;
    literal(&mut rest, b':')?;
    let minutes = number(&mut rest, 2).filter(|&m| m <= 60)?;
    rest.is_empty().then_some(sign * (hours * 3600 + minutes * 60))
}

/// Nanoseconds; 0 if no fraction stands here. Digits after the ninth are dropped.
fn fraction(rest: &mut &[u8]) -> i64 {
    if !matches!(rest.first(), Some(b'.' | b',')) || !rest.get(1).is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    let nanos = (0..9).fold(0, |nanos, i| {
        nanos * 10 + if i < digits { i64::from(rest[1 + i] - b'0') } else { 0 }
    });
    *rest = &rest[1 + digits..];
    nanos
}

fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    let value = head.iter().try_fold(0, |value, b| {
        b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0'))
    })?;
    *rest = tail;
    Some(value)
}

fn literal(rest: &mut &[u8], byte: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[byte])?;
    Some(())
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch of a date in the Gregorian calendar. Years start in March here, so that the leap day is last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn nanos(text: &str) -> Option<i128> {
        AdvertTime::parse(text.as_bytes()).ok().map(|t| t.nanos())
    }

    #[test]
    fn known_instants() {
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos("2024-10-24T16:36:52Z"), Some(1_729_787_812 * SECOND));
        assert_eq!(
            nanos("2024-10-24T16:36:52.123456-04:00"),
            Some(1_729_802_212_123_456_000)
        );
        assert_eq!(
            nanos("2000-02-29T23:59:59.000000001+05:30"),
            Some(951_848_999 * SECOND + 1)
        );
        assert_eq!(AdvertTime::default().nanos(), nanos("0001-01-01T00:00:00Z").unwrap());
        assert_eq!(nanos("0000-01-01T00:00:00Z"), Some(i128::from(YEAR_0000) * SECOND));
        assert_eq!(nanos("9999-12-31T23:59:59Z"), Some(i128::from(YEAR_9999_END) * SECOND));
    }

    #[test]
    fn go_takes_these_too() {
        assert_eq!(nanos("2024-10-24T6:36:52Z"), nanos("2024-10-24T06:36:52Z"));
        assert_eq!(nanos("2024-10-24T16:36:52,5Z"), nanos("2024-10-24T16:36:52.5Z"));
        assert_eq!(
            nanos("2024-10-24T16:36:52.1234567899Z"),
            nanos("2024-10-24T16:36:52.123456789Z")
        );
        assert!(nanos("2024-10-24T16:36:52+24:60").is_some());
    }

    #[test]
    fn go_refuses_these() {
        for text in [
            "",
            "2024",
            "2024-10-24",
            "2024-10-24 16:36:52Z",
            "2024-10-24t16:36:52Z",
            "2024-10-24T16:36:52z",
            "2024-10-24T16:36:52",
            "2024-10-24T16:36:52.Z",
            "2024-10-24T16:36:52+0400",
            "2024-10-24T16:36:52+04",
            "2024-10-24T16:36:52+25:00",
            "2024-10-24T16:36:52Z ",
            " 2024-10-24T16:36:52Z",
            "2024-13-24T16:36:52Z",
            "2024-00-24T16:36:52Z",
            "2023-02-29T16:36:52Z",
            "1900-02-29T16:36:52Z",
            "2024-10-00T16:36:52Z",
            "2024-10-24T24:36:52Z",
            "2024-10-24T16:60:52Z",
            "2024-10-24T16:36:60Z",
            "2024-1-24T16:36:52Z",
            "+2024-10-24T16:36:52Z",
            "2024-10-24T16:36:52ZZ",
            "2024-10-24T16:36:5Z",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn the_text_is_kept_unless_it_is_needlessly_long() {
        let text = "2024-10-24T16:36:52.123456-04:00";
        assert_eq!(AdvertTime::parse(text.as_bytes()).unwrap().as_str(), text);
        let long = "2024-10-24T16:36:52.123456789000000000000000000-04:00";
        assert_eq!(
            AdvertTime::parse(long.as_bytes()).unwrap().as_str(),
            "2024-10-24T20:36:52.123456789Z"
        );
    }

    #[test]
    fn trailing_zeros_are_dropped() {
        assert_eq!(format_rfc3339(Wall::from_secs(1_729_787_812)), "2024-10-24T16:36:52Z");
        assert_eq!(
            format_rfc3339(Wall::from_nanos(1_729_787_812_120_000_000)),
            "2024-10-24T16:36:52.12Z"
        );
        assert_eq!(format_rfc3339(Wall::from_nanos(1)), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn wall_time_is_held_in_range() {
        assert_eq!(AdvertTime::default().wall(), Wall::from_nanos(0));
        assert_eq!(
            AdvertTime::parse(b"9999-01-01T00:00:00Z").unwrap().wall(),
            Wall::from_nanos(u64::MAX)
        );
    }

    proptest! {
        #[test]
        fn walls_round_trip(n in any::<u64>()) {
            let time = AdvertTime::from_wall(Wall::from_nanos(n));
            let again = AdvertTime::parse(time.as_str().as_bytes()).unwrap();
            prop_assert_eq!(again.wall(), Wall::from_nanos(n));
            prop_assert_eq!(again.as_str().to_string(), format_rfc3339(Wall::from_nanos(n)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = AdvertTime::parse(&text);
        }
    }
}
