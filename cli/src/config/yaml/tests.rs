use proptest::prelude::*;

use super::*;

fn root(text: &str) -> Yaml {
    parse(text.as_bytes()).unwrap().unwrap().value
}

fn error(text: &str) -> YamlError {
    parse(text.as_bytes()).unwrap_err()
}

fn list(text: &str) -> Vec<Yaml> {
    let Yaml::List(nodes) = root(text) else {
        panic!("not a list: {text}")
    };
    nodes.into_iter().map(|node| node.value).collect()
}

/// A map as `key=value` texts, after the last duplicate won.
fn pairs(text: &str) -> BTreeMap<String, Yaml> {
    let Yaml::Map(entries) = root(text) else {
        panic!("not a map: {text}")
    };
    entries
        .into_iter()
        .map(|(key, value)| (format!("{:?}", key.value), value.value))
        .collect()
}

fn text(text: &str) -> Yaml {
    Yaml::Text(text.into())
}

#[test]
fn quotes_make_text() {
    let values = list("[yes, 'yes', \"no\", 0660, '0660', ~, '', 1e3, \"a\\tb\"]");
    assert_eq!(
        values,
        [
            Yaml::Bool(true),
            text("yes"),
            text("no"),
            Yaml::Int(0o660),
            text("0660"),
            Yaml::Null,
            text(""),
            Yaml::Float(1000.0),
            text("a\tb")
        ]
    );
}

#[test]
fn block_scalars_are_text() {
    assert_eq!(list("- |\n  12\n- >-\n  a\n  b\n"), [text("12\n"), text("a b")]);
}

#[test]
fn tags_are_obeyed() {
    assert_eq!(
        list("[!!str 12, !!int '12', !!float 3, ! 12, !mine 12, !!bool 'yes']"),
        [
            text("12"),
            Yaml::Int(12),
            Yaml::Float(3.0),
            Yaml::Int(12),
            text("12"),
            Yaml::Bool(true)
        ]
    );
    assert_eq!(error("- a\n- !!int x").line, 2);
}

#[test]
fn only_the_first_document_is_read() {
    assert_eq!(list("---\n- a\n...\n---\n- b: [\n"), [text("a")]);
    assert_eq!(list("%YAML 1.1\n---\n- a\n"), [text("a")]);
    assert_eq!(parse(b""), Ok(None));
    assert_eq!(parse(b"# nothing\n"), Ok(None));
    assert_eq!(root("---\n"), Yaml::Null);
}

#[test]
fn the_last_duplicate_wins() {
    assert_eq!(pairs("{a: 1, a: 2}")["Text(\"a\")"], Yaml::Int(2));
}

#[test]
fn aliases_and_merges_are_expanded() {
    let document = "base: &base {cost: 2, redial: no}\nuse:\n  <<: *base\n  cost: 3\n";
    let Yaml::Map(used) = pairs(document)["Text(\"use\")"].clone() else {
        panic!()
    };
    let values: Vec<_> = used.into_iter().map(|(key, value)| (key.value, value.value)).collect();
    assert_eq!(
        values,
        [
            (text("cost"), Yaml::Int(2)),
            (text("redial"), Yaml::Bool(false)),
            (text("cost"), Yaml::Int(3))
        ]
    );
    assert_eq!(list("[&a x, *a]"), [text("x"), text("x")]);
    assert_eq!(pairs("{<<: [{a: 1}, {a: 2, b: 3}]}")["Text(\"a\")"], Yaml::Int(1));
    assert_eq!(pairs("{'<<': 1}")["Text(\"<<\")"], Yaml::Int(1));
    assert!(error("{<<: 1}").text.contains("map merge requires"));
}

#[test]
fn lines_are_those_of_an_editor() {
    let Yaml::List(nodes) = root("---\n# comment\n- a\n-\n  b: 1\n") else {
        panic!()
    };
    assert_eq!(nodes.iter().map(|node| node.line).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(error("- a\n- {b: [}\n").line, 2);
    assert_eq!(error("- a\n- *nobody\n").line, 2);
    assert_eq!(parse(b"- a\n- \xff\n"), Err(YamlError::new(2, "invalid UTF-8")));
}

#[test]
fn files_of_other_editors_are_read() {
    assert_eq!(list("\u{feff}- a\r\n- b\r\n"), [text("a"), text("b")]);
}

#[test]
fn self_reference_is_refused() {
    assert_eq!(error("- &a [*a]\n").text, "anchor value contains itself");
}

#[test]
fn expansion_is_bounded() {
    let mut bomb = String::from("- &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..30 {
        bomb += &format!("- &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    assert!(error(&bomb).text.contains("excessive aliasing"));

    let long = format!("- &a {}\n{}", "x".repeat(1 << 20), "- *a\n".repeat(1000));
    assert!(error(&long).text.contains("excessive aliasing"));

    let mut tower = String::from("- &a0 x\n");
    for level in 1..1000 {
        tower += &format!("- &a{level} [*a{}]\n", level - 1);
    }
    assert!(error(&tower).text.contains("nested deeper"));
    let nested = "[".repeat(100) + &"]".repeat(100);
    assert!(error(&nested).text.contains("nested deeper"));
    assert!(parse("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(parse("- ".repeat(1 << 16).as_bytes()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_end_in_a_tree_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_yaml_like_text_ends_in_a_tree_or_an_error(
        text in "([-?:,{}\\[\\]&*!|>'\"%@#`~<=a0 \n\t.]|&a |\\*a|- |: |\n  |<<: |---\n|!!int |\u{feff}|é){0,80}"
    ) {
        let _ = parse(text.as_bytes());
    }
}
