//! Values of parameters and their conversion from text and from YAML (`config.md` §4).

use std::collections::BTreeMap;

use super::entity::Kind;
use super::number::{parse_float, parse_int};
use super::yaml::{Node, Yaml};

/// The value of a parameter.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Text.
    Text(String),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A list of texts.
    Texts(Vec<String>),
    /// Numbers by name.
    Costs(BTreeMap<String, f64>),
    /// Maps of texts, keys as they were given; `None` is a value that is no text.
    Maps(Vec<Vec<(String, Option<String>)>>),
    /// A structure that no part of this program reads yet; its form was checked.
    Unread {
        /// Whether there is nothing in it.
        empty: bool,
    },
}

impl Value {
    /// Converts text: a value of the command line, or a string of a file. `previous` is what an earlier mention of
    /// the parameter gave; only lists keep it.
    ///
    /// # Errors
    /// Why the text is not of this kind.
    pub fn from_text(kind: Kind, text: &str, previous: Option<&Self>) -> Result<Self, String> {
        Ok(match kind {
            Kind::Text => Self::Text(text.into()),
            Kind::Int => Self::Int(parse_int(text)?),
            Kind::Float => Self::Float(parse_float(text)?),
            Kind::Bool => Self::Bool(parse_bool(text)?),
            Kind::Texts if text.starts_with('[') => Self::Texts(from_json(text)?),
            Kind::Texts => {
                let mut list = match previous {
                    Some(Self::Texts(list)) => list.clone(),
                    _ => Vec::new(),
                };
                list.push(text.into());
                Self::Texts(list)
            }
            Kind::CostMap => Self::Costs(from_json(json_object(text)?)?),
            Kind::AnyMap => {
                let map: BTreeMap<String, serde_json::Value> = from_json(json_object(text)?)?;
                Self::Unread { empty: map.is_empty() }
            }
            Kind::Maps => return Err(mismatch(kind)),
        })
    }

    /// Converts a YAML value. `None` is a null where null means absent.
    ///
    /// # Errors
    /// Why the value is not of this kind.
    pub fn from_yaml(kind: Kind, node: &Node) -> Result<Option<Self>, String> {
        Ok(Some(match (kind, &node.value) {
            (Kind::Texts | Kind::CostMap | Kind::AnyMap | Kind::Maps, Yaml::Null) => return Ok(None),
            (_, Yaml::Null) => return Err("value cannot be nil".into()),
            (_, Yaml::Text(text)) => Self::from_text(kind, text, None)?,
            (Kind::Text, _) => Self::Text(scalar_text(node).ok_or_else(|| mismatch(kind))?),
            (Kind::Int, Yaml::Int(value)) => {
                Self::Int(i64::try_from(*value).map_err(|_| format!("{value} is out of range"))?)
            }
            // The classic node truncates; the cast saturates where Go's result is undefined.
            #[expect(clippy::cast_possible_truncation)]
            (Kind::Int, Yaml::Float(value)) if value.is_finite() => Self::Int(*value as i64),
            (Kind::Float, _) => Self::Float(number(node).ok_or_else(|| mismatch(kind))?),
            (Kind::Bool, Yaml::Bool(value)) => Self::Bool(*value),
            (Kind::Texts, Yaml::List(nodes)) => {
                let texts: Option<_> = nodes.iter().map(scalar_text).collect();
                Self::Texts(texts.ok_or_else(|| mismatch(kind))?)
            }
            (Kind::CostMap, Yaml::Map(entries)) => {
                let costs: Option<_> = entries
                    .iter()
                    .map(|(key, value)| Some((scalar_text(key)?, number(value)?)))
                    .collect();
                Self::Costs(costs.ok_or_else(|| mismatch(kind))?)
            }
            (Kind::AnyMap, Yaml::Map(entries)) => Self::Unread {
                empty: entries.is_empty(),
            },
            (Kind::Maps, Yaml::List(nodes)) => {
                let maps: Option<_> = nodes.iter().map(text_map).collect();
                Self::Maps(maps.ok_or_else(|| mismatch(kind))?)
            }
            _ => return Err(mismatch(kind)),
        }))
    }
}

pub(super) fn mismatch(kind: Kind) -> String {
    format!("type error (expected {})", kind.label())
}

/// A scalar as text: floats in fixed notation with six decimals, as the classic node writes them. The reference turns
/// numbers in lists and map keys into characters; they are text here.
pub(super) fn scalar_text(node: &Node) -> Option<String> {
    match &node.value {
        Yaml::Text(text) => Some(text.clone()),
        Yaml::Int(value) => Some(value.to_string()),
        Yaml::Float(value) if value.is_infinite() => Some(if *value > 0.0 { "+Inf" } else { "-Inf" }.into()),
        Yaml::Float(value) => Some(format!("{value:.6}")),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
    }
}

/// A map with scalar keys. Only texts are values: what looks like one may have been meant as another.
pub(super) fn text_map(node: &Node) -> Option<Vec<(String, Option<String>)>> {
    let Yaml::Map(entries) = &node.value else { return None };
    let entry = |(key, value): &(Node, Node)| {
        let text = match &value.value {
            Yaml::Text(text) => Some(text.clone()),
            _ => None,
        };
        Some((scalar_text(key)?, text))
    };
    entries.iter().map(entry).collect()
}

pub(super) fn number(node: &Node) -> Option<f64> {
    match node.value {
        #[expect(clippy::cast_precision_loss)]
        Yaml::Int(value) => Some(value as f64),
        Yaml::Float(value) => Some(value),
        _ => None,
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "Y" | "true" | "TRUE" | "True" | "yes" | "Yes" | "YES" => Ok(true),
        "0" | "f" | "F" | "N" | "false" | "FALSE" | "False" | "no" | "No" | "NO" => Ok(false),
        _ => Err(format!("could not parse {text} as boolean")),
    }
}

fn json_object(text: &str) -> Result<&str, String> {
    if text.starts_with('{') {
        Ok(text)
    } else {
        Err("not a JSON object".into())
    }
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind, text: &str) -> Result<Value, String> {
        Value::from_text(kind, text, None)
    }

    fn yaml(kind: Kind, document: &str) -> Result<Option<Value>, String> {
        let node = super::super::yaml::parse(document.as_bytes()).unwrap().unwrap();
        Value::from_yaml(kind, &node)
    }

    #[test]
    fn text_becomes_what_the_parameter_wants() {
        assert_eq!(text(Kind::Text, "a=b"), Ok(Value::Text("a=b".into())));
        assert_eq!(text(Kind::Int, "0600"), Ok(Value::Int(384)));
        assert_eq!(text(Kind::Float, "1.5"), Ok(Value::Float(1.5)));
        assert!(text(Kind::Float, "x").is_err());
        assert_eq!(text(Kind::Texts, "a,b"), Ok(Value::Texts(vec!["a,b".into()])));
        assert_eq!(
            text(Kind::Texts, "[\"a\", \"b\"]"),
            Ok(Value::Texts(vec!["a".into(), "b".into()]))
        );
        assert!(text(Kind::Texts, "[1]").is_err());
        assert_eq!(
            text(Kind::CostMap, "{\"a\": 2}"),
            Ok(Value::Costs([("a".into(), 2.0)].into()))
        );
        assert!(text(Kind::CostMap, "a=2").is_err());
        assert_eq!(text(Kind::AnyMap, "{}"), Ok(Value::Unread { empty: true }));
        assert!(text(Kind::Maps, "[]").is_err());
    }

    #[test]
    fn lists_on_the_command_line_append_and_json_replaces() {
        let first = text(Kind::Texts, "a").unwrap();
        let second = Value::from_text(Kind::Texts, "b", Some(&first)).unwrap();
        assert_eq!(second, Value::Texts(vec!["a".into(), "b".into()]));
        let third = Value::from_text(Kind::Texts, "[]", Some(&second)).unwrap();
        assert_eq!(third, Value::Texts(Vec::new()));
    }

    #[test]
    fn booleans_are_the_classic_words() {
        for word in ["1", "t", "T", "Y", "true", "TRUE", "True", "yes", "Yes", "YES"] {
            assert_eq!(text(Kind::Bool, word), Ok(Value::Bool(true)), "{word}");
        }
        for word in ["0", "f", "F", "N", "false", "FALSE", "False", "no", "No", "NO"] {
            assert_eq!(text(Kind::Bool, word), Ok(Value::Bool(false)), "{word}");
        }
        for word in ["y", "n", "on", "off", "", "2", "tRue"] {
            assert_eq!(
                text(Kind::Bool, word),
                Err(format!("could not parse {word} as boolean"))
            );
        }
    }

    #[test]
    fn yaml_becomes_what_the_parameter_wants() {
        let to_text = |document| yaml(Kind::Text, document);
        assert_eq!(to_text("no"), Ok(Some(Value::Text("false".into()))));
        assert_eq!(to_text("'no'"), Ok(Some(Value::Text("no".into()))));
        assert_eq!(to_text("1.5"), Ok(Some(Value::Text("1.500000".into()))));
        assert_eq!(to_text("0x10"), Ok(Some(Value::Text("16".into()))));
        assert_eq!(
            to_text("18446744073709551615"),
            Ok(Some(Value::Text("18446744073709551615".into())))
        );
        assert_eq!(to_text("~"), Err("value cannot be nil".into()));
        assert_eq!(to_text("[a]"), Err("type error (expected string)".into()));
        assert_eq!(yaml(Kind::Int, "0600"), Ok(Some(Value::Int(384))));
        assert_eq!(yaml(Kind::Int, "600"), Ok(Some(Value::Int(600))));
        assert_eq!(yaml(Kind::Int, "\"0600\""), Ok(Some(Value::Int(384))));
        assert_eq!(yaml(Kind::Int, "7.9"), Ok(Some(Value::Int(7))));
        assert!(yaml(Kind::Int, "yes").is_err());
        assert!(yaml(Kind::Int, ".inf").is_err());
        assert!(yaml(Kind::Int, "18446744073709551615").is_err());
        assert_eq!(yaml(Kind::Float, "2"), Ok(Some(Value::Float(2.0))));
        assert_eq!(yaml(Kind::Bool, "off"), Ok(Some(Value::Bool(false))));
        assert_eq!(yaml(Kind::Bool, "\"YES\""), Ok(Some(Value::Bool(true))));
        assert!(yaml(Kind::Bool, "1").is_err());
    }

    #[test]
    fn yaml_collections() {
        assert_eq!(
            yaml(Kind::Texts, "[a, 7]"),
            Ok(Some(Value::Texts(vec!["a".into(), "7".into()])))
        );
        assert_eq!(yaml(Kind::Texts, "a"), Ok(Some(Value::Texts(vec!["a".into()]))));
        assert_eq!(yaml(Kind::Texts, "[]"), Ok(Some(Value::Texts(Vec::new()))));
        assert_eq!(yaml(Kind::Texts, "~"), Ok(None));
        assert!(yaml(Kind::Texts, "[[a]]").is_err());
        assert!(yaml(Kind::Texts, "3").is_err());
        assert_eq!(
            yaml(Kind::CostMap, "{a: 1, 7: .5}"),
            Ok(Some(Value::Costs([("a".into(), 1.0), ("7".into(), 0.5)].into())))
        );
        assert!(yaml(Kind::CostMap, "{a: '1'}").is_err());
        assert_eq!(yaml(Kind::CostMap, "~"), Ok(None));
        assert_eq!(
            yaml(Kind::Maps, "[{action: drop, tonode: 1}, {}]"),
            Ok(Some(Value::Maps(vec![
                vec![("action".into(), Some("drop".into())), ("tonode".into(), None)],
                vec![]
            ])))
        );
        assert!(yaml(Kind::Maps, "[drop]").is_err());
        assert!(yaml(Kind::Maps, "'[]'").is_err());
    }
}
