//! Results: a unit's output for clients, as it comes (`work.md` §12). Nothing polls.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::api::{ClientKey, Severity, WorkOutput, WorkReply};
use super::id::UnitId;
use super::task::{UnitError, UnitTask, UnitTaskResult};
use super::unit::Unit;
use super::{Client, Purpose, READ_MAX, RESULTS_WINDOW, Workceptor, failure};
use crate::time::Now;

/// One client that reads output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reader {
    unit: UnitId,
    pos: u64,
    /// Bytes that may be sent.
    window: usize,
    reading: bool,
    /// The unit was over when the read under way was asked for, so a short answer is the end.
    last: bool,
    /// The file ended where it should not: wait until something happens to the unit.
    parked: bool,
}

impl Reader {
    pub(super) fn unit(&self) -> &UnitId {
        &self.unit
    }
}

impl Workceptor {
    pub(super) fn results(&mut self, client: ClientKey, unit: String, start: i64) {
        let Some(id) = self
            .find(&unit)
            .filter(|id| self.units.get(id).is_some_and(Unit::is_shown))
        else {
            return self.refuse(client, self.unknown(&unit));
        };
        let unit_extra = self.units.get(&id).and_then(|unit| unit.record.extra.remote());
        let from = unit_extra.map_or(0, |extra| extra.output_from);
        if u64::try_from(start).is_ok_and(|start| start < from) {
            let text = format!("output of unit {unit} before byte {from} is not here: it was adopted from there on");
            return self.refuse(client, text);
        }
        self.reply(client, WorkReply::ResultsStart { unit });
        let Ok(pos) = u64::try_from(start) else {
            return self.out.push_back(WorkOutput::ResultsEnd(client));
        };
        let reader = Reader {
            unit: id.clone(),
            pos,
            window: RESULTS_WINDOW,
            reading: false,
            last: false,
            parked: false,
        };
        self.clients.insert(client, Client::Reading(reader));
        if let Some(unit) = self.units.get_mut(&id) {
            unit.readers.insert(client);
        }
        self.drive_reader(client);
    }

    /// The client took `n` more bytes of output.
    pub fn results_drained(&mut self, now: Now, client: ClientKey, n: usize) {
        self.now = now;
        if let Some(Client::Reading(reader)) = self.clients.get_mut(&client) {
            reader.window = (reader.window + n).min(RESULTS_WINDOW);
            self.drive_reader(client);
        }
    }

    /// Something happened to the unit.
    pub(super) fn wake_readers(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        let readers: Vec<ClientKey> = unit.readers.iter().copied().collect();
        for client in readers {
            if let Some(Client::Reading(reader)) = self.clients.get_mut(&client) {
                reader.parked = false;
            }
            self.drive_reader(client);
        }
    }

    /// Output was written: readers that wait at its beginning get it without reading the file again.
    pub(super) fn pass_results(&mut self, id: &UnitId, offset: u64, data: &Bytes) {
        let Some(unit) = self.units.get(id) else { return };
        for client in unit.readers.iter().copied().collect::<Vec<_>>() {
            if let Some(Client::Reading(reader)) = self.clients.get_mut(&client)
                && reader.pos == offset
                && !reader.reading
            {
                let piece = data.slice(..data.len().min(reader.window));
                reader.pos += piece.len() as u64;
                reader.window -= piece.len();
                if !piece.is_empty() {
                    self.out.push_back(WorkOutput::ResultsData(client, piece));
                }
            }
        }
    }

    fn drive_reader(&mut self, client: ClientKey) {
        let Some(Client::Reading(reader)) = self.clients.get_mut(&client) else {
            return;
        };
        if reader.reading || reader.parked || reader.window == 0 {
            return;
        }
        let Some(unit) = self.units.get(&reader.unit) else {
            return;
        };
        let left = readable(unit).saturating_sub(reader.pos);
        if left > 0 {
            let max = READ_MAX
                .min(reader.window)
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            reader.reading = true;
            reader.last = unit.is_complete();
            let (id, offset) = (reader.unit.clone(), reader.pos);
            self.task(
                &id,
                Purpose::Results { client, max },
                UnitTask::ReadOutput { offset, max },
            );
        } else if unit.is_complete() {
            self.end_results(client);
        }
    }

    pub(super) fn results_read(&mut self, client: ClientKey, max: usize, result: UnitTaskResult) {
        let Some(Client::Reading(reader)) = self.clients.get_mut(&client) else {
            return;
        };
        reader.reading = false;
        let UnitTaskResult::Data(data) = result else {
            // Unless the unit is being removed, its file cannot be read: there is nothing more to come.
            if result != UnitTaskResult::Failed(UnitError::Missing) {
                let text = format!("unit {}: cannot read its output: {}", reader.unit, failure(result));
                self.log(Severity::Error, text);
            }
            return self.end_results(client);
        };
        let is_short = data.len() < max;
        reader.pos += data.len() as u64;
        reader.window = reader.window.saturating_sub(data.len());
        let is_complete = self.units.get(&reader.unit).is_some_and(Unit::is_complete);
        let is_end = is_short && reader.last;
        reader.parked = data.is_empty() && !is_complete;
        if !data.is_empty() {
            self.out.push_back(WorkOutput::ResultsData(client, data));
        }
        if is_end {
            self.end_results(client);
        } else {
            self.drive_reader(client);
        }
    }

    pub(super) fn end_results(&mut self, client: ClientKey) {
        let Some(Client::Reading(reader)) = self.clients.get(&client) else {
            return;
        };
        if let Some(unit) = self.units.get_mut(&reader.unit) {
            unit.readers.remove(&client);
        }
        self.clients.remove(&client);
        self.out.push_back(WorkOutput::ResultsEnd(client));
    }
}

/// How far the output may be read. A unit that ended here is read to the end of its file: what a classic node recorded
/// may fall short of it (`work.md` §10.4). A file that is still being fetched may hold more than is meant.
fn readable(unit: &Unit) -> u64 {
    if unit.remote.is_none() && (unit.is_complete() || unit.is_foreign()) {
        u64::MAX
    } else {
        unit.output
    }
}
