//! `work-limits`.

use std::time::Duration;

use receptor_core::config::WorkLimits;

use super::build::duration_of;
use super::error::ConfigError;
use super::item::Item;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// Reads the entity.
///
/// # Errors
/// What cannot be, by its name.
pub(super) fn limits(item: &Item) -> Result<WorkLimits> {
    Ok(WorkLimits {
        max_units: count(item, "maxunits", 1)?,
        max_running: count(item, "maxrunning", 1)?,
        max_queued: count(item, "maxqueued", 0)?,
        max_stdin: size(item, "maxstdin")?,
        max_stdout: size(item, "maxstdout")?,
        time_limit: time(item, "timelimit")?,
        stdin_timeout: time(item, "stdintimeout")?,
        expire: time(item, "expire")?,
        expire_remote: time(item, "expireremote")?,
    })
}

fn count(item: &Item, name: &str, least: i64) -> Result<Option<usize>> {
    if !item.has(name) {
        return Ok(None);
    }
    let value = item.int(name);
    match usize::try_from(value) {
        Ok(count) if value >= least => Ok(Some(count)),
        _ => Err(ConfigError::new(format!("{name} {value} is less than {least}"))),
    }
}

/// At least a second: less is a mistake.
fn time(item: &Item, name: &str) -> Result<Option<Duration>> {
    let time = duration_of(item, name, name)?;
    match time.filter(|time| *time < Duration::from_secs(1)) {
        Some(_) => Err(ConfigError::new(format!("{name} {} is less than 1s", item.text(name)))),
        None => Ok(time),
    }
}

/// Bytes, or with a unit of 1024: `K`, `M`, `G`, `T`, with or without `iB` behind it.
fn size(item: &Item, name: &str) -> Result<Option<u64>> {
    let text = item.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    match parse_size(text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(ConfigError::new(format!(
            "{name} {text} is not a size -- valid examples include 1048576, '512M', '2GiB'"
        ))),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
        "" if unit.is_empty() => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("3K", 3072),
            ("512M", 512 << 20),
            ("2GiB", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "1 G", "1KB", "1iB", "1k", "99999999999T", "0x10"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
