//! Command lines to requests (`control.md` §2.1, §2.2, §3 to §5). Errors are the text of the error line.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::parse_work;
use super::request::{ConnectRequest, Request};
use super::text;

/// Parses one line, which is not empty. Bytes that are not UTF-8 become U+FFFD, as they would in a JSON answer.
pub(super) fn request(line: &[u8]) -> Result<Request, String> {
    let line = String::from_utf8_lossy(line);
    if line.starts_with('{') {
        let value: Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
        let Value::Object(members) = value else {
            return Err(text::JSON_WITHOUT_COMMAND.into());
        };
        return from_json(members);
    }
    let (name, parameters) = line.split_once(' ').unwrap_or((&line, ""));
    from_text(&name.to_lowercase(), parameters)
}

fn from_text(name: &str, parameters: &str) -> Result<Request, String> {
    match name {
        "status" if parameters.is_empty() => Ok(Request::Status { fields: None }),
        "status" => Err(text::STATUS_TAKES_NO_PARAMETERS.into()),
        "ping" if parameters.is_empty() => Err(text::NO_PING_TARGET.into()),
        "ping" => Ok(Request::Ping {
            target: parameters.into(),
        }),
        "traceroute" if parameters.is_empty() => Err(text::NO_TRACEROUTE_TARGET.into()),
        "traceroute" => Ok(Request::Traceroute {
            target: parameters.into(),
        }),
        "connect" => {
            let parameters: Vec<&str> = parameters.split(' ').collect();
            let (node, service, tls) = match parameters[..] {
                [node, service] => (node, service, ""),
                [node, service, tls] => (node, service, tls),
                [] | [_] => return Err(text::NO_CONNECT_TARGET.into()),
                _ => return Err(text::CONNECT_TOO_MANY.into()),
            };
            Ok(Request::Connect(ConnectRequest {
                node: node.into(),
                service: service.into(),
                tls: non_empty(tls),
            }))
        }
        "reload" => Ok(Request::Reload),
        "work" => parse_work::from_text(parameters).map(Request::Work),
        _ => Err(format!("{}{name}", text::UNKNOWN_COMMAND)),
    }
}

fn from_json(members: Map<String, Value>) -> Result<Request, String> {
    let name = string(
        &members,
        "command",
        text::JSON_WITHOUT_COMMAND,
        text::COMMAND_NOT_STRING,
    )?;
    match name {
        "status" => Ok(Request::Status {
            fields: requested_fields(&members)?,
        }),
        "ping" => string(&members, "target", text::NO_PING_TARGET, text::PING_TARGET_NOT_STRING)
            .map(|target| Request::Ping { target: target.into() }),
        "traceroute" => string(
            &members,
            "target",
            text::NO_TRACEROUTE_TARGET,
            text::TRACEROUTE_TARGET_NOT_STRING,
        )
        .map(|target| Request::Traceroute { target: target.into() }),
        "connect" => {
            let node = string(&members, "node", text::NO_CONNECT_NODE, text::CONNECT_NODE_NOT_STRING)?;
            let service = string(
                &members,
                "service",
                text::NO_CONNECT_SERVICE,
                text::CONNECT_SERVICE_NOT_STRING,
            )?;
            let tls = match members.get("tls") {
                None => "",
                Some(tls) => tls.as_str().ok_or(text::CONNECT_TLS_NOT_STRING)?,
            };
            Ok(Request::Connect(ConnectRequest {
                node: node.into(),
                service: service.into(),
                tls: non_empty(tls),
            }))
        }
        "reload" => Ok(Request::Reload),
        "work" => parse_work::from_json(&members).map(Request::Work),
        _ => Err(format!("{}{name}", text::UNKNOWN_COMMAND)),
    }
}

fn requested_fields(members: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let Some(value) = members.get("requested_fields") else {
        return Ok(None);
    };
    let list = value.as_array().ok_or(text::REQUESTED_FIELDS_NOT_LIST)?;
    let field = |v: &Value| {
        v.as_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| text::REQUESTED_FIELD_NOT_STRING.to_owned())
    };
    list.iter().map(field).collect::<Result<_, _>>().map(Some)
}

fn string<'a>(members: &'a Map<String, Value>, name: &str, missing: &str, wrong: &str) -> Result<&'a str, String> {
    members.get(name).ok_or(missing)?.as_str().ok_or_else(|| wrong.into())
}

/// An empty text counts as an absent option.
pub(super) fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.into())
}
