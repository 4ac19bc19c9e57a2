//! The service advertisement (`wire.md` §9).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::ext::Ext;
use super::json::{Reader, key_is, write_map, write_string, write_unsigned};
use super::route::{merge, read_text};
use super::time::AdvertTime;
use crate::wire::{KIND_ADVERT, WireError};

const WHAT: &str = "service advertisement";

/// One service of one node, or its withdrawal. The order of the fields is also that of the extended message.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Advertisement {
    /// The advertising node.
    pub node_id: String,
    /// The service name.
    pub service: String,
    /// When the origin wrote the message; newer ones replace older ones.
    pub time: AdvertTime,
    /// 0 datagram, 1 stream with built-in TLS, 2 stream with user TLS.
    pub conn_type: u8,
    /// Free-form; `None` is Go's nil map, written `null`.
    pub tags: Option<BTreeMap<String, String>>,
    /// Work types of a control service; `None` is Go's nil list, written `null`.
    pub work_commands: Option<Vec<WorkCommand>>,
    /// Whether the service is gone.
    pub cancel: bool,
    /// Present if the origin is one of our nodes.
    pub ext: Option<Ext>,
}

/// A work type that a node can be asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct WorkCommand {
    /// Its name.
    pub work_type: String,
    /// Whether submissions must be signed.
    pub secure: bool,
}

impl Advertisement {
    /// Reads a frame, kind byte included.
    ///
    /// # Errors
    /// What makes a classic node discard the message (text that is not JSON, a value of the wrong type), and what makes it
    /// crash: a body with none of the six main keys, which must never be passed on (`wire.md` §23).
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        let mut advert = Self::default();
        let mut main_keys = false;
        let mut reader = Reader::new(super::body(frame, KIND_ADVERT, WHAT)?, WHAT);
        reader.object(|value, key| {
            if key_is(key, "Cancel") {
                advert.cancel = value.boolean()?.unwrap_or(advert.cancel);
                Ok(())
            } else if key_is(key, "Ext") {
                advert.ext = Ext::read(value)?;
                Ok(())
            } else if advert.read_main(value, key)? {
                main_keys = true;
                Ok(())
            } else {
                value.skip().map(drop)
            }
        })?;
        reader.end()?;
        if !main_keys {
            return Err(WireError::Malformed(
                "service advertisement without any of its main keys",
            ));
        }
        Ok(advert)
    }

    /// Reads one of the six keys that the reference keeps behind a pointer; `false` if it is another.
    fn read_main(&mut self, value: &mut Reader<'_>, key: &str) -> Result<bool, WireError> {
        match key {
            _ if key_is(key, "NodeID") => read_text(value, &mut self.node_id)?,
            _ if key_is(key, "Service") => read_text(value, &mut self.service)?,
            _ if key_is(key, "Time") => {
                // Go parses the text between the quotes without undoing escapes.
                if let Some(raw) = value.raw_string()? {
                    self.time = AdvertTime::parse(raw)?;
                }
            }
            _ if key_is(key, "ConnType") => {
                if let Some(number) = value.unsigned()? {
                    self.conn_type = u8::try_from(number)
                        .map_err(|_| WireError::Malformed("service advertisement: ConnType above 255"))?;
                }
            }
            _ if key_is(key, "Tags") => {
                let mut tags = BTreeMap::new();
                let some = value.object(|tag, name| {
                    tags.insert(name.into(), tag.string()?.unwrap_or_default().into_owned());
                    Ok(())
                })?;
                merge(&mut self.tags, some.then_some(tags));
            }
            _ if key_is(key, "WorkCommands") => {
                let mut commands = Vec::new();
                let some = value.array(|item| {
                    commands.push(WorkCommand::read(item)?);
                    Ok(())
                })?;
                self.work_commands = some.then_some(commands);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The frame, kind byte included.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = String::with_capacity(256);
        out.push(char::from(KIND_ADVERT));
        out.push_str("{\"NodeID\":");
        write_string(&mut out, &self.node_id);
        out.push_str(",\"Service\":");
        write_string(&mut out, &self.service);
        out.push_str(",\"Time\":");
        write_string(&mut out, self.time.as_str());
        out.push_str(",\"ConnType\":");
        write_unsigned(&mut out, u64::from(self.conn_type));
        out.push_str(",\"Tags\":");
        write_map(&mut out, self.tags.as_ref(), |out, tag| write_string(out, tag));
        out.push_str(",\"WorkCommands\":");
        match &self.work_commands {
            None => out.push_str("null"),
            Some(commands) => {
                out.push('[');
                for (i, command) in commands.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    command.write(&mut out);
                }
                out.push(']');
            }
        }
        out.push_str(if self.cancel {
            ",\"Cancel\":true"
        } else {
            ",\"Cancel\":false"
        });
        if let Some(ext) = &self.ext {
            ext.write(&mut out);
        }
        out.push('}');
        out.into_bytes()
    }
}

impl WorkCommand {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut command = Self::default();
        reader.object(|value, key| {
            if key_is(key, "WorkType") {
                read_text(value, &mut command.work_type)
            } else if key_is(key, "Secure") {
                command.secure = value.boolean()?.unwrap_or(command.secure);
                Ok(())
            } else {
                value.skip().map(drop)
            }
        })?;
        Ok(command)
    }

    fn write(&self, out: &mut String) {
        out.push_str("{\"WorkType\":");
        write_string(out, &self.work_type);
        out.push_str(if self.secure {
            ",\"Secure\":true}"
        } else {
            ",\"Secure\":false}"
        });
    }
}
