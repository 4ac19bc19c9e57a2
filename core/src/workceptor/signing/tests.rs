use super::*;

#[test]
fn the_rules_decide_every_case() {
    let long = "x".repeat(MAX_TOKEN + 1);
    let refuse = |text: &str| Ruling::Refuse(text.into());
    let cases = [
        // Nothing is needed and nothing is there.
        ((false, false, false, ""), Ruling::Accept),
        ((false, false, true, ""), Ruling::Accept),
        ((false, true, true, ""), Ruling::Accept),
        // A token that nobody wants, over a Unix socket too.
        (
            (false, false, true, "t"),
            refuse("work type did not expect a signature"),
        ),
        ((false, true, true, "t"), refuse("work type did not expect a signature")),
        (
            (false, true, false, "t"),
            refuse("work type did not expect a signature"),
        ),
        // Over a Unix socket none is needed, and what is there is not looked at.
        ((true, true, true, ""), Ruling::Accept),
        ((true, true, true, "t"), Ruling::Accept),
        ((true, true, false, "t"), Ruling::Accept),
        // Everywhere else one is, and it is looked at or refused: never passed over.
        ((true, false, true, "t"), Ruling::Verify),
        (
            (true, false, true, ""),
            refuse("could not verify signature: signature is empty"),
        ),
        (
            (true, false, false, ""),
            refuse("could not verify signature: signature is empty"),
        ),
        (
            (true, false, false, "t"),
            refuse("could not verify signature: verifying key not specified"),
        ),
        (
            (true, false, true, long.as_str()),
            refuse("could not verify signature: token of 16385 bytes is longer than 16384"),
        ),
        ((true, false, true, &long[1..]), Ruling::Verify),
    ];
    for ((needs, is_local, has_key, token), expected) in cases {
        let found = ruling(needs, is_local, has_key, token);
        assert_eq!(found, expected, "{needs} {is_local} {has_key} {}", token.len());
    }
}

#[test]
fn a_difference_of_clocks_is_named_where_it_is_known() {
    let note = |node: Option<&str>, seconds: Option<f64>| {
        skew_note(&Requester {
            is_local: false,
            node: node.map(Into::into),
            clock_ahead: seconds.map(|seconds| (seconds * 1e9) as i64),
        })
    };
    assert_eq!(
        note(Some("s"), Some(-298.7)),
        " (clock of node s is 4m58s behind this one)"
    );
    assert_eq!(
        note(Some("s"), Some(61.0)),
        " (clock of node s is 1m1s ahead of this one)"
    );
    for (node, seconds) in [
        (None, Some(100.0)),
        (Some("s"), None),
        (Some("s"), Some(0.9)),
        (Some("s"), Some(-0.9)),
    ] {
        assert_eq!(note(node, seconds), "");
    }
}
