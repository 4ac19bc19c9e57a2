//! Firewall rules: any text, any names.

use receptor_core::firewall::{Action, Ends, Pattern, Rule, Rules};

/// A rule as lines of `key: value`, a line without a colon being a value that is no text; then, behind a zero byte, the
/// names of a message in the same form.
pub fn firewall(input: &[u8]) {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let rule = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let names: Vec<&[u8]> = parts.next().unwrap_or_default().split(|&byte| byte == b'\n').collect();
    let name = |at: usize| names.get(at).copied().unwrap_or_default();
    let fields = || {
        rule.lines().map(|line| match line.split_once(": ") {
            Some((key, value)) => (key, Some(value)),
            None => (line, None),
        })
    };
    for (_, value) in fields() {
        let _ = Pattern::new(value.unwrap_or_default()).map(|pattern| pattern.matches(name(0)));
    }
    let Ok(rule) = Rule::from_fields(fields()) else {
        return;
    };
    let from_node = String::from_utf8_lossy(name(0));
    let to_node = String::from_utf8_lossy(name(1));
    let ends = Ends {
        from_node: &from_node,
        to_node: &to_node,
        from_service: name(2),
        to_service: name(3),
    };
    let conditions = [
        (&rule.from_node, ends.from_node.as_bytes()),
        (&rule.to_node, ends.to_node.as_bytes()),
        (&rule.from_service, ends.from_service),
        (&rule.to_service, ends.to_service),
    ];
    let matches = conditions
        .iter()
        .all(|(pattern, name)| pattern.as_ref().is_none_or(|pattern| pattern.matches(name)));
    assert_eq!(rule.matches(&ends), matches);
    // What a rule shows of itself is the rule.
    let shown = rule.to_string();
    if !shown.contains('\n') && !shown.contains(", ") {
        let again = shown.split(", ").filter_map(|field| field.split_once(": "));
        let again = Rule::from_fields(again.map(|(key, value)| (key, Some(value))));
        assert_eq!(again.as_ref(), Ok(&rule));
    }
    let expected = if matches { rule.action } else { Action::Accept };
    let rules = Rules::new(vec![rule]).expect("one rule is not too many");
    assert_eq!(rules.decide(&ends).action, expected);
}
