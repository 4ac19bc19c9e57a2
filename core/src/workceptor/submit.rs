//! Submission: checks, then a directory for the unit (`work.md` §7).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};

use super::api::{ClientKey, Requester, SubmitRequest, WorkOutput, WorkReply, WorkRequest};
use super::extra::{Extra, RemoteExtra, is_secret};
use super::id::UnitId;
use super::record::Record;
use super::remote::Remote;
use super::signing::Ruling;
use super::spool::{Source, Spool};
use super::target::Target;
use super::task::{UnitError, UnitTask, UnitTaskResult};
use super::timer::Timer;
use super::unit::{Asker, Run, Stage, Unit, Verb};
use super::{Client, Purpose, STDIN_WINDOW, Workceptor, failure};
use crate::config::WorkKind;
use crate::id::NodeId;
use crate::time::Now;
use crate::wire::classic::format_rfc3339;

/// Most parameters of one unit.
const MAX_PARAMS: usize = 1024;

/// Most bytes of all parameters of one unit, names included: they travel in one message of a work session.
const MAX_PARAMS_LEN: usize = 240 << 10;

/// Longest name of a work type or node in bytes, as in a message of a work session.
const MAX_NAME_LEN: usize = 1024;

impl Workceptor {
    /// A client wants something.
    pub fn handle_request(&mut self, now: Now, client: ClientKey, from: &Requester, request: WorkRequest) {
        self.now = now;
        if self.clients.contains_key(&client) {
            return self.refuse(client, "another work command of this session is not answered yet");
        }
        match self.rule(&request, from.is_local) {
            Ruling::Accept => self.grant(client, request),
            Ruling::Refuse(text) => self.refuse(client, text),
            Ruling::Verify => self.verify_client(client, from.clone(), request),
        }
    }

    /// Carries out a request of which the signature is good, or was not needed.
    pub(super) fn grant(&mut self, client: ClientKey, request: WorkRequest) {
        match request {
            WorkRequest::Submit(request) => {
                if let Err(text) = self.submit(client, *request) {
                    self.refuse(client, text);
                }
            }
            WorkRequest::List { unit: None } => {
                let shown = self.units.iter().filter(|(_, unit)| unit.is_shown());
                let list = shown.map(|(id, unit)| (id.to_string(), self.view(unit))).collect();
                self.reply(client, WorkReply::List(list));
            }
            WorkRequest::List { unit: Some(text) } => {
                let view = self.known(&text).map(|unit| self.view(unit));
                let reply = view.map_or_else(
                    || WorkReply::Error(self.unknown(&text)),
                    |view| WorkReply::List(BTreeMap::from([(text.clone(), view)])),
                );
                self.reply(client, reply);
            }
            WorkRequest::Status { unit: text } => {
                let view = self.known(&text).map(|unit| self.view(unit));
                let reply = view.map_or_else(
                    || WorkReply::Error(self.unknown(&text)),
                    |view| WorkReply::Status(Box::new(view)),
                );
                self.reply(client, reply);
            }
            WorkRequest::Cancel { unit, .. } => self.finish_for(client, unit, Verb::Cancel, false),
            WorkRequest::Release { unit, force, .. } => self.finish_for(client, unit, Verb::Release, force),
            WorkRequest::Adopt(request) => {
                if let Err(text) = self.adopt_unit(client, *request) {
                    self.refuse(client, text);
                }
            }
            WorkRequest::Results { unit, start, .. } => self.results(client, unit, start),
        }
    }

    pub(super) fn known(&self, text: &str) -> Option<&Unit> {
        let unit = self.units.get(&self.find(text)?)?;
        unit.is_shown().then_some(unit)
    }

    fn view(&self, unit: &Unit) -> super::api::UnitView {
        unit.view(self.types.contains_key(&unit.record.work_type))
    }

    fn finish_for(&mut self, client: ClientKey, unit: String, verb: Verb, force: bool) {
        let Some(id) = self.known(&unit).and_then(|_| self.find(&unit)) else {
            return match verb {
                // As often as anybody likes: a client may not have seen the first answer.
                Verb::Release if self.is_released(&unit) => {
                    self.reply(client, WorkReply::Released { unit, pending: false });
                }
                Verb::Cancel | Verb::Release => self.refuse(client, self.unknown(&unit)),
            };
        };
        self.clients.insert(client, Client::Waiting(id.clone()));
        self.finish(&id, Asker::Client(client, unit), verb, force);
    }

    fn submit(&mut self, client: ClientKey, request: SubmitRequest) -> Result<(), String> {
        check_size(&request.node, &request.work_type, request.params.iter())?;
        let is_local = request.node == self.node_id.as_str() || NodeId::is_localhost(&request.node);
        let record = if is_local {
            if request.ttl.is_some() {
                return Err("ttl option is intended for remote work only".into());
            }
            self.command_record(
                &request.work_type,
                request.params.get("params").map_or("", String::as_str),
                "",
            )?
        } else {
            self.remote_record(&request)?
        };
        if is_local {
            self.check_queue()?;
        }
        let id = self.new_id(request.work_unit_id.as_deref())?;
        let generated = request.work_unit_id.is_none();
        self.clients.insert(client, Client::Creating(id.clone()));
        self.create(id, record, generated, Source::Client(client));
        Ok(())
    }

    /// The first record of a unit that this node runs.
    pub(super) fn command_record(&self, work_type: &str, params: &str, submitter: &str) -> Result<Record, String> {
        match self.types.get(work_type).map(|t| &t.kind) {
            None => Err(format!("unknown work type {work_type}")),
            Some(WorkKind::Unavailable { reason }) => Err(format!("work type {work_type} is not available: {reason}")),
            Some(WorkKind::Command {
                allow_runtime_params: false,
                ..
            }) if !params.is_empty() => Err("extra params provided but not allowed".into()),
            Some(WorkKind::Command { params: base, .. }) => {
                let both = match (base.as_str(), params) {
                    (base, "") => base.into(),
                    ("", params) => params.into(),
                    (base, params) => format!("{base} {params}"),
                };
                let mut record = Record::command(work_type, both);
                if let Extra::Command(extra) = &mut record.extra {
                    extra.submitter = submitter.into();
                }
                Ok(record)
            }
        }
    }

    /// The first record of the local half of a unit that runs elsewhere (`work.md` §11.1).
    fn remote_record(&self, request: &SubmitRequest) -> Result<Record, String> {
        let tls_client = request.tls_client.as_deref().unwrap_or_default();
        self.check_remote(tls_client, request.sign_work)?;
        if tls_client.is_empty() && request.params.keys().any(|name| is_secret(name)) {
            return Err("cannot send secrets over a non-TLS connection".into());
        }
        let mut extra = RemoteExtra {
            remote_node: request.node.clone(),
            remote_work_type: request.work_type.clone(),
            remote_params: request.params.clone(),
            tls_client: tls_client.into(),
            sign_work: request.sign_work,
            boot_id: self.boot_id.clone(),
            ..RemoteExtra::default()
        };
        // The executor hears of it as soon as the record is durable.
        let peer = self.peers.get(&Target::of(&extra));
        extra.contacted = peer.is_some_and(super::peer::Peer::is_connected);
        if let Some(ttl) = request.ttl {
            extra.expiration = format_rfc3339(self.now.wall + ttl);
        }
        Ok(Record::remote(extra))
    }

    /// What requests to an executor need must be there.
    pub(super) fn check_remote(&self, tls_client: &str, sign_work: bool) -> Result<(), String> {
        if !tls_client.is_empty() && !self.tls_clients.contains(tls_client) {
            return Err(format!("unknown TLS config {tls_client}"));
        }
        if sign_work { self.check_signing() } else { Ok(()) }
    }

    /// Checks a wanted ID or makes one, within the limit of units.
    pub(super) fn new_id(&mut self, wanted: Option<&str>) -> Result<UnitId, String> {
        let limit = self.unit_limit();
        if self.units.len() >= limit {
            return Err(format!("too many work units: the limit of this node is {limit}"));
        }
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
            loop {
                let id = UnitId::random(&mut self.rng);
                if !self.units.contains_key(&id) && self.released.get(&id).is_none() {
                    return Ok(id);
                }
            }
        };
        let id = UnitId::parse(wanted).ok_or_else(|| {
            format!(
                "invalid workunit ID: at most {} letters and digits are allowed",
                UnitId::MAX_LEN
            )
        })?;
        let has_run = self.released.get(&id).is_some_and(|tombstone| tombstone.has_run);
        if has_run || self.units.contains_key(&id) {
            return Err(in_use(&id));
        }
        Ok(id)
    }

    pub(super) fn create(&mut self, id: UnitId, mut record: Record, generated: bool, source: Source) {
        record.extra.stamp_created(self.now.wall);
        let mut unit = Unit::new(self.fresh_key(), record.clone(), Stage::Creating { generated });
        unit.spool = Some(Spool::new(source));
        if let Extra::Remote(extra) = &record.extra {
            unit.remote = Some(Box::new(Remote::new(Target::of(extra))));
        }
        self.released.remove(&id);
        self.units.insert(id.clone(), unit);
        // Another node sends a submission again that it finds lost here; the first barrier is that of the start.
        let sync = !matches!(source, Source::Channel(..));
        self.task(&id, Purpose::Create, UnitTask::Create { record, sync });
        // The session is opened while the client still sends.
        self.advance_remote(&id);
    }

    pub(super) fn created(&mut self, id: &UnitId, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let source = unit.spool.as_ref().map_or(Source::Nobody, |spool| spool.source);
        match result {
            UnitTaskResult::Done => {
                unit.stage = Stage::Live;
                match source {
                    Source::Client(client) => {
                        self.clients.insert(client, Client::Spooling(id.clone()));
                        self.reply(client, WorkReply::SubmitReady { unit: id.clone() });
                        self.out.push_back(WorkOutput::StdinCredit(client, STDIN_WINDOW));
                    }
                    // A submitter that went may come back; a client that went before it heard of the unit may not.
                    Source::Nobody if unit.cancelling && !unit.is_submitted() => {
                        self.fail(id, "Error reading input data: the client has gone".into());
                    }
                    Source::Channel(..) | Source::Nobody => {}
                }
                self.adopted(id);
                self.set_expiration(id);
                self.expect_stdin(id);
                self.advance(id);
            }
            UnitTaskResult::Failed(UnitError::Exists) if matches!(unit.stage, Stage::Creating { generated: true }) => {
                // A directory that the scan did not take for a unit has that name.
                let Some(unit) = self.forget(id) else { return };
                if let Ok(id) = self.new_id(None) {
                    if let Source::Client(client) = source {
                        if !self.clients.contains_key(&client) {
                            return;
                        }
                        self.clients.insert(client, Client::Creating(id.clone()));
                    }
                    self.create(id, unit.record, true, source);
                }
            }
            other => {
                let exists = other == UnitTaskResult::Failed(UnitError::Exists);
                let text = if exists { in_use(id) } else { failure(other) };
                self.create_failed(id, source, text);
            }
        }
    }

    fn create_failed(&mut self, id: &UnitId, source: Source, text: String) {
        self.answer_all(id, Verb::Cancel, &Ok(false));
        self.answer_all(id, Verb::Release, &Ok(false));
        let channels = self.units.get(id).map(|unit| unit.channels.clone()).unwrap_or_default();
        self.adoption_failed(id, &text);
        for (session, channel) in channels {
            self.refuse_channel(session, channel, text.clone());
        }
        if let Source::Client(client) = source
            && self.clients.remove(&client).is_some()
        {
            self.refuse(client, text);
        }
    }

    /// Drops a unit from the table.
    pub(super) fn forget(&mut self, id: &UnitId) -> Option<Unit> {
        self.unwant_peer(id);
        self.timers.clear_unit(id);
        let gone = self.units.remove(id);
        if gone.as_ref().is_some_and(|unit| unit.run == Run::Queued) {
            self.leave_queue(id);
        }
        self.start_queued();
        gone
    }

    /// Sets the timer of a unit that must start in time.
    pub(super) fn set_expiration(&mut self, id: &UnitId) {
        let Some(wall) = self
            .units
            .get(id)
            .and_then(|unit| super::remote::expiration(&unit.record))
        else {
            return;
        };
        let left = wall.as_nanos().saturating_sub(self.now.wall.as_nanos());
        // The wall clock may be set meanwhile: look again every hour.
        let wait = crate::time::Duration::from_nanos(left).min(crate::time::Duration::from_secs(3600));
        let at = self.after(wait);
        self.timers.set(Timer::Expire(id.clone()), at);
    }
}

pub(super) fn in_use(id: &UnitId) -> String {
    format!("workunit ID {id} is already in use, cannot use the same workunit ID more than once")
}

pub(super) fn check_size<'a>(
    node: &str,
    work_type: &str,
    params: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), String> {
    for (what, text) in [("node ID", node), ("work type", work_type)] {
        if text.len() > MAX_NAME_LEN {
            return Err(format!("{what} of {} bytes is longer than {MAX_NAME_LEN}", text.len()));
        }
    }
    let (count, len) = params.fold((0, 0), |(count, len), (name, value)| {
        (count + 1, len + name.len() + value.len())
    });
    if count > MAX_PARAMS {
        return Err(format!("{count} work parameters are more than {MAX_PARAMS}"));
    }
    if len > MAX_PARAMS_LEN {
        return Err(format!(
            "work parameters of {len} bytes are longer than {MAX_PARAMS_LEN}"
        ));
    }
    Ok(())
}
