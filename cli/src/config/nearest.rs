//! "Did you mean": the valid name closest to a mistyped one.

/// ` (did you mean NAME?)` for the closest of `names`, or nothing if none is close.
pub(super) fn suggestion<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest(wrong, names).map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Names are at most 31 bytes; a long text is none of them and must not cost a table of its size.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = wrong.to_ascii_lowercase().replace('_', "-");
    let limit = (wrong.chars().count() / 3).max(1);
    names
        .map(|name| (distance(&wrong, name), name))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_suggested() {
        let names = ["tcp-peer", "udp-peer", "tcp-listener", "control-service", "node"];
        let ask = |wrong| nearest(wrong, names.into_iter());
        assert_eq!(ask("tcp-pear"), Some("tcp-peer"));
        assert_eq!(ask("TCP_Listner"), Some("tcp-listener"));
        assert_eq!(ask("control-services"), Some("control-service"));
        assert_eq!(ask("node"), Some("node"));
        assert_eq!(ask("pprof"), None);
        assert_eq!(ask(""), None);
        assert_eq!(ask(&"x".repeat(100_000)), None);
    }
}
