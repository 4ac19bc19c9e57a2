//! Adoption: this node takes over a unit that runs elsewhere and was submitted by another node, which may be gone for ever.
//!
//! The executor is asked first. Only when it has the unit is anything written here, so that an adoption that fails leaves
//! nothing, and one that was answered is durable. Asking again is harmless.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};

use super::api::{AdoptRequest, ClientKey, WorkReply};
use super::extra::{Extra, RemoteExtra};
use super::id::UnitId;
use super::record::Record;
use super::remote::Remote;
use super::submit::check_size;
use super::target::Target;
use super::task::UnitTask;
use super::timer::Timer;
use super::unit::{Stage, Unit};
use super::{Client, Purpose, Workceptor, unknown_unit};
use crate::id::NodeId;
use crate::time::Duration;

/// How long the executor is waited for.
const ADOPT_WAIT: Duration = Duration::from_secs(15);

/// Detail until the executor has told its own.
const ADOPTED: &str = "Adopted";

impl Workceptor {
    pub(super) fn adopt_unit(&mut self, client: ClientKey, request: AdoptRequest) -> Result<(), String> {
        check_size(&request.node, "", core::iter::empty())?;
        let remote_id = UnitId::parse(&request.unit).ok_or_else(|| unknown_unit(&request.unit))?;
        if request.node == self.node_id.as_str() || NodeId::is_localhost(&request.node) {
            // Whoever asks finds it here.
            self.known(&request.unit).ok_or_else(|| self.unknown(&request.unit))?;
            self.already_adopted(client, remote_id);
            return Ok(());
        }
        let tls_client = request.tls_client.as_deref().unwrap_or_default();
        self.check_remote(tls_client, request.sign_work)?;
        if let Some((id, stage)) = self.half_of(&request.node, &remote_id) {
            match stage {
                Stage::Live | Stage::Removing => self.already_adopted(client, id),
                Stage::Adopting | Stage::Creating { .. } => self.wait_for_adoption(client, &id),
            }
            return Ok(());
        }
        // By the name that everybody knows it by, if that is free.
        let id = self.new_id(Some(remote_id.as_str())).or_else(|_| self.new_id(None))?;
        let extra = RemoteExtra {
            remote_node: request.node,
            remote_unit_id: remote_id.to_string(),
            remote_started: true,
            sign_work: request.sign_work,
            tls_client: tls_client.into(),
            stdin_complete: true,
            contacted: true,
            boot_id: self.boot_id.clone(),
            adopted: true,
            output_from: request.start,
            ..RemoteExtra::default()
        };
        let target = Target::of(&extra);
        let mut record = Record::remote(extra);
        record.detail = ADOPTED.into();
        record.stdout_size = request.start;
        let mut remote = Remote::new(target);
        remote.submitted = true;
        remote.start_seen = true;
        remote.file = super::spool::Writer::at(request.start);
        let mut unit = Unit::new(self.fresh_key(), record, Stage::Adopting);
        unit.remote = Some(Box::new(remote));
        self.units.insert(id.clone(), unit);
        let at = self.after(ADOPT_WAIT);
        self.timers.set(Timer::Adopt(id.clone()), at);
        self.wait_for_adoption(client, &id);
        self.want_peer(&id);
        Ok(())
    }

    /// The local half of a unit.
    fn half_of(&self, node: &str, remote_id: &UnitId) -> Option<(UnitId, Stage)> {
        let is_half = |id: &UnitId, unit: &Unit| {
            let Some(extra) = unit.record.extra.remote().filter(|extra| extra.remote_node == node) else {
                return false;
            };
            if extra.remote_unit_id.is_empty() {
                // Its executor takes our ID, unless it says otherwise.
                return id == remote_id && extra.contacted && unit.stage == Stage::Live;
            }
            extra.remote_unit_id == remote_id.as_str()
        };
        let mut halves = self.units.iter().filter(|(id, unit)| is_half(id, unit));
        halves.next().map(|(id, unit)| (id.clone(), unit.stage))
    }

    fn already_adopted(&mut self, client: ClientKey, unit: UnitId) {
        self.reply(client, WorkReply::Adopted { unit, fresh: false });
    }

    fn wait_for_adoption(&mut self, client: ClientKey, id: &UnitId) {
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
            remote.adopters.push(client);
            self.clients.insert(client, Client::Adopting(id.clone()));
        }
    }

    /// A client does not wait any longer. The adoption goes on.
    pub(super) fn forget_adopter(&mut self, id: &UnitId, client: ClientKey) {
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
            remote.adopters.retain(|adopter| *adopter != client);
        }
    }

    /// The executor has the unit, and says what it is.
    pub(super) fn adoption_granted(&mut self, id: &UnitId, about: Option<(String, String)>) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.stage != Stage::Adopting {
            return;
        }
        unit.stage = Stage::Creating { generated: false };
        if let (Extra::Remote(extra), Some((work_type, params))) = (&mut unit.record.extra, about) {
            extra.remote_work_type = work_type;
            if !params.is_empty() {
                extra.remote_params.insert("params".into(), params);
            }
        }
        let record = unit.record.clone();
        self.timers.clear(&Timer::Adopt(id.clone()));
        self.task(id, Purpose::Create, UnitTask::Create { record, sync: true });
    }

    /// The record of an adopted unit is durable.
    pub(super) fn adopted(&mut self, id: &UnitId) {
        for (position, client) in self.take_adopters(id).into_iter().enumerate() {
            let (unit, fresh) = (id.clone(), position == 0);
            self.reply(client, WorkReply::Adopted { unit, fresh });
        }
    }

    /// The unit is not to be had: nothing of it stays here.
    pub(super) fn adoption_failed(&mut self, id: &UnitId, text: &str) {
        for client in self.take_adopters(id) {
            self.refuse(client, text);
        }
        self.forget(id);
    }

    pub(super) fn adoption_is_slow(&mut self, id: &UnitId) {
        if let Some(remote) = self.units.get(id).and_then(|unit| unit.remote.as_ref()) {
            let text = format!("node {} cannot be reached", remote.node);
            self.adoption_failed(id, &text);
        }
    }

    /// Those who still wait for an adoption, in the order in which they came.
    fn take_adopters(&mut self, id: &UnitId) -> alloc::vec::Vec<ClientKey> {
        let remote = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut());
        let mut adopters = remote
            .map(|remote| core::mem::take(&mut remote.adopters))
            .unwrap_or_default();
        adopters.retain(|client| self.clients.remove(client).is_some());
        adopters
    }
}
