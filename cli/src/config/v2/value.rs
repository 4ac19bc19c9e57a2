//! Values of dialect 2. They are converted more freely than in dialect 1, but not into something else than was written.

use std::collections::BTreeMap;

use super::super::entity::{Kind, Param};
use super::super::number::{parse_float, parse_int};
use super::super::value::{Value, mismatch, number, scalar_text, text_map};
use super::super::yaml::{Node, Yaml, YamlError};

/// Reads a value. `None` is absent: a null, and nothing or zero where there is a default, which the classic node cannot
/// tell apart.
///
/// # Errors
/// Why the value is not of the parameter's kind.
pub(super) fn read(param: &Param, node: &Node) -> Result<Option<Value>, String> {
    if node.value == Yaml::Null {
        return Ok(None);
    }
    let kind = param.kind;
    let value = match (kind, &node.value) {
        (Kind::Text, Yaml::Float(value)) => Value::Text(value.to_string()),
        (Kind::Text, Yaml::Bool(_)) => return Err(format!("{}; write it in quotes", mismatch(kind))),
        (Kind::Text, _) => Value::Text(scalar_text(node).ok_or_else(|| mismatch(kind))?),
        (Kind::Int, Yaml::Int(value)) => {
            Value::Int(i64::try_from(*value).map_err(|_| format!("{value} is out of range"))?)
        }
        (Kind::Int, Yaml::Text(text)) => Value::Int(parse_int(text)?),
        (Kind::Float, Yaml::Text(text)) => Value::Float(parse_float(text)?),
        (Kind::Float, _) => Value::Float(number(node).ok_or_else(|| mismatch(kind))?),
        (Kind::Bool, Yaml::Bool(value)) => Value::Bool(*value),
        (Kind::Bool, Yaml::Text(text)) => Value::Bool(parse_bool(text)?),
        (Kind::Texts, Yaml::List(nodes)) => {
            let texts: Option<_> = nodes.iter().map(scalar_text).collect();
            Value::Texts(texts.ok_or_else(|| mismatch(kind))?)
        }
        (Kind::Texts, Yaml::Text(text)) if text.is_empty() => Value::Texts(Vec::new()),
        (Kind::Texts, Yaml::Text(text)) => Value::Texts(text.split(',').map(|part| part.trim().to_owned()).collect()),
        (Kind::Texts, _) => Value::Texts(vec![scalar_text(node).ok_or_else(|| mismatch(kind))?]),
        (Kind::CostMap, Yaml::Map(entries)) => Value::Costs(costs(entries)?),
        (Kind::Maps, Yaml::List(nodes)) => {
            let maps: Option<_> = nodes.iter().map(text_map).collect();
            Value::Maps(maps.ok_or_else(|| mismatch(kind))?)
        }
        (Kind::Maps, Yaml::Map(_)) => Value::Maps(vec![text_map(node).ok_or_else(|| mismatch(kind))?]),
        (Kind::AnyMap, _) => return Value::from_yaml(kind, node),
        _ => return Err(mismatch(kind)),
    };
    let is_zero = match &value {
        Value::Text(text) => text.is_empty(),
        Value::Int(0) => true,
        Value::Float(value) => *value == 0.0,
        _ => false,
    };
    Ok(Some(value).filter(|_| !is_zero || param.default.is_none()))
}

/// Node IDs keep their letter case, which they lose in the classic node, so that no cost is found for them there.
fn costs(entries: &[(Node, Node)]) -> Result<BTreeMap<String, f64>, String> {
    let cost = |(key, value): &(Node, Node)| {
        let cost = match &value.value {
            Yaml::Text(text) => parse_float(text)?,
            _ => number(value).ok_or_else(|| mismatch(Kind::CostMap))?,
        };
        Ok((scalar_text(key).ok_or_else(|| mismatch(Kind::CostMap))?, cost))
    };
    entries.iter().map(cost).collect()
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("could not parse {text} as boolean: write true or false")),
    }
}

/// A JSON document as a tree. Where in the file a value stands gets lost.
pub(super) fn from_json(bytes: &[u8]) -> Result<Node, YamlError> {
    let document: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| YamlError {
        line: error.line().max(1),
        text: format!("json: {error}"),
    })?;
    Ok(tree(document))
}

/// The depth is bounded by `serde_json`.
fn tree(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Yaml::Null,
        Json::Bool(value) => Yaml::Bool(value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Yaml::Int(value.into()),
            (_, Some(value)) => Yaml::Int(value.into()),
            _ => Yaml::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Yaml::Text(text),
        Json::Array(values) => Yaml::List(values.into_iter().map(tree).collect()),
        Json::Object(entries) => {
            let entry = |(key, value)| {
                let key = Node {
                    line: 1,
                    value: Yaml::Text(key),
                };
                (key, tree(value))
            };
            Yaml::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { line: 1, value }
}
