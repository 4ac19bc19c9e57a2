//! What a token says, and whether it is good now (`work.md` §15).

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::duration::go_duration;
use crate::time::{Duration, Wall};

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// The claims that count here. Those of other names are ignored.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// Whom it is for; one text or a list of them.
    #[serde(rename = "aud", deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    /// Not good from this time on, in seconds since the Unix epoch.
    #[serde(rename = "exp")]
    pub expires: Option<f64>,
    /// Not good before this time.
    #[serde(rename = "nbf")]
    pub not_before: Option<f64>,
    /// When it was made.
    #[serde(rename = "iat")]
    pub issued_at: Option<f64>,
}

impl Claims {
    /// Reads the middle part of a token, already decoded.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn parse(json: &str) -> Result<Self, String> {
        // A list would do for serde, with its values in the order of the fields.
        if !json.trim_start().starts_with('{') {
            return Err("claims are not a JSON object".into());
        }
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    /// The claims of a token that this node makes, as text: nothing else, so that every classic node takes it.
    pub fn text(audience: &str, expires: Wall) -> String {
        json!({ "aud": [audience], "exp": expires.as_secs() }).to_string()
    }

    /// Whether the token is good at `now`, when the clock of whoever made it may be off by `leeway`.
    ///
    /// # Errors
    /// The classic text.
    pub fn check_times(&self, now: Wall, leeway: Duration) -> Result<(), String> {
        let leeway = i128::try_from(leeway.as_nanos()).unwrap_or(i128::MAX / 4);
        let now = i128::from(now.as_nanos());
        if let Some(expires) = self.expires.map(nanos)
            && now >= expires.saturating_add(leeway)
        {
            let late = i64::try_from(now - expires).unwrap_or(i64::MAX);
            return Err(format!("token is expired by {}", go_duration(late)));
        }
        if let Some(not_before) = self.not_before.map(nanos)
            && now < not_before.saturating_sub(leeway)
        {
            return Err("token is not valid yet".into());
        }
        if let Some(issued_at) = self.issued_at.map(nanos)
            && now < issued_at.saturating_sub(leeway)
        {
            return Err("token used before issued".into());
        }
        Ok(())
    }
}

/// Saturates far outside all times that clocks show.
fn nanos(seconds: f64) -> i128 {
    // Whole seconds are exact; fractions are as good as a float holds them.
    (seconds.clamp(-1e15, 1e15) * 1e3) as i128 * (SECOND / 1000)
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Audience::One(one)) => [one].into(),
        Some(Audience::Many(many)) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        Claims::parse(json).unwrap()
    }

    #[test]
    fn times_count_only_where_they_are() {
        let now = Wall::from_secs(1000);
        let at = |json: &str, leeway: u64| claims(json).check_times(now, Duration::from_secs(leeway));
        assert_eq!(at("{}", 0), Ok(()));
        assert_eq!(at(r#"{"exp":1001}"#, 0), Ok(()));
        assert_eq!(at(r#"{"exp":1000}"#, 0), Err("token is expired by 0s".into()));
        assert_eq!(at(r#"{"exp":1000}"#, 1), Ok(()));
        assert_eq!(at(r#"{"exp":700}"#, 60), Err("token is expired by 5m0s".into()));
        assert_eq!(at(r#"{"exp":939.5}"#, 60), Err("token is expired by 1m0.5s".into()));
        assert_eq!(at(r#"{"nbf":1000}"#, 0), Ok(()));
        assert_eq!(at(r#"{"nbf":1060}"#, 60), Ok(()));
        assert_eq!(at(r#"{"nbf":1061}"#, 60), Err("token is not valid yet".into()));
        assert_eq!(at(r#"{"iat":1061}"#, 60), Err("token used before issued".into()));
        assert_eq!(at(r#"{"iat":null,"exp":null,"nbf":null}"#, 0), Ok(()));
    }

    #[test]
    fn absurd_times_are_times_too() {
        let check = |json: &str, now| claims(json).check_times(now, Duration::MAX);
        let far = [Wall::from_nanos(0), Wall::from_nanos(u64::MAX)];
        for now in far {
            assert_eq!(check(r#"{"exp":1e300,"nbf":-1e300,"iat":-5}"#, now), Ok(()));
        }
        let expired = claims(r#"{"exp":-1e300}"#).check_times(far[1], Duration::ZERO);
        assert_eq!(expired, Err("token is expired by 2562047h47m16.854775807s".into()));
    }

    #[test]
    fn an_audience_is_a_text_or_a_list() {
        assert_eq!(claims(r#"{"aud":"a"}"#).audience, ["a"]);
        assert_eq!(claims(r#"{"aud":["a","b"]}"#).audience, ["a", "b"]);
        assert!(claims(r#"{"aud":null}"#).audience.is_empty());
        assert!(claims(r#"{"sub":1}"#).audience.is_empty());
        for bad in [
            "",
            "null",
            "[]",
            "{",
            r#"{"aud":1}"#,
            r#"{"aud":[1]}"#,
            r#"{"exp":"1"}"#,
            r#"{"exp":{}}"#,
        ] {
            assert!(Claims::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_claims_are_what_classic_nodes_make() {
        let text = Claims::text("exec", Wall::from_nanos(1_700_000_300_999_999_999));
        assert_eq!(text, r#"{"aud":["exec"],"exp":1700000300}"#);
    }
}
