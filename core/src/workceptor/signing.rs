//! Signed work: which requests need a signature, and the way of tokens from and to whoever holds the keys (`work.md` §15).
//!
//! Keys are read and used by tasks, a few at a time: a signature costs about a millisecond. What the tasks do not see is
//! decided here: whom a token is for, until when it is good, and what is said of one that is not.

mod claims;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString as _};

use super::api::{ClientKey, PeerKey, Requester, SessionKey, TaskKey, WorkOutput, WorkRequest};
use super::extra::Extra;
use super::id::UnitId;
use super::unit::Unit;
use super::{Client, Workceptor};
use crate::duration::go_duration;
use crate::id::NodeId;
use crate::time::{Instant, Now};
use crate::wire::work::Message;

pub use claims::Claims;

/// Signatures that are made or verified at a time.
const MAX_JOBS: usize = 8;

/// Longest token that is looked at, in bytes: 16 KiB.
pub const MAX_TOKEN: usize = 16 << 10;

/// A difference of clocks that is worth a word, in nanoseconds.
const NOTABLE_SKEW: i64 = 1_000_000_000;

const UNEXPECTED: &str = "work type did not expect a signature";
const NO_VERIFYING_KEY: &str = "could not verify signature: verifying key not specified";
const NO_SIGNING_KEY: &str = "cannot sign work: signing key is empty";

/// What [`WorkOutput::Verify`] came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verified {
    /// The signature is good; here are the claims, as the text that was signed.
    Claims(String),
    /// It is not, or this is no token; why, in Go's words where there are any.
    Refused(String),
    /// The key cannot be used, whatever the token.
    NoKey(String),
}

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ruling {
    Accept,
    Refuse(String),
    /// Its token has to be looked at.
    Verify,
}

/// The rules (`security.md` §15.4). `needs`: the unit or the work type wants its requests signed.
pub(super) fn ruling(needs: bool, is_local: bool, has_key: bool, signature: &str) -> Ruling {
    let refuse = |text: &str| Ruling::Refuse(text.into());
    match (needs, is_local, signature) {
        (false, _, "") | (true, true, _) => Ruling::Accept,
        (false, _, _) => refuse(UNEXPECTED),
        (true, false, "") => refuse("could not verify signature: signature is empty"),
        (true, false, _) if !has_key => refuse(NO_VERIFYING_KEY),
        (true, false, token) if token.len() > MAX_TOKEN => Ruling::Refuse(format!(
            "could not verify signature: token of {} bytes is longer than {MAX_TOKEN}",
            token.len()
        )),
        (true, false, _) => Ruling::Verify,
    }
}

/// Whose request a token came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bearer {
    Client(ClientKey),
    Channel(SessionKey, u32),
}

/// What a token is made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Signer {
    /// The next request about a unit on its channel; the number is the unit's serial.
    Line(UnitId, u64),
    /// The one command of a call.
    Call(PeerKey),
    /// A release that is owed, on its channel.
    Owed(UnitId, u32),
}

#[derive(Debug)]
enum Job {
    Sign {
        signer: Signer,
        audience: String,
    },
    Verify {
        bearer: Bearer,
        from: Requester,
        token: String,
    },
}

/// Work with keys, under way and waiting.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    active: BTreeMap<TaskKey, Job>,
    waiting: VecDeque<(TaskKey, Job)>,
}

/// The token of a unit's next request.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) enum Token {
    #[default]
    None,
    /// Is being made.
    Asked,
    /// Was made then.
    Ready(String, Instant),
    /// Could not be made; tried again later.
    Failed,
}

impl Workceptor {
    /// A signature was made, or why not.
    pub fn handle_signed(&mut self, now: Now, key: TaskKey, result: Result<String, String>) {
        self.now = now;
        if let Some(Job::Sign { signer, .. }) = self.jobs.active.remove(&key) {
            let result = result.map_err(|error| format!("could not load signing key file: {error}"));
            self.signed(signer, result);
        }
        self.start_jobs();
    }

    /// A token was looked at.
    pub fn handle_verified(&mut self, now: Now, key: TaskKey, result: Verified) {
        self.now = now;
        if let Some(Job::Verify { bearer, from, .. }) = self.jobs.active.remove(&key) {
            let verdict = self.judge(&from, result);
            self.verified(bearer, key, verdict);
        }
        self.start_jobs();
    }

    /// A client's request: whether it may go on.
    pub(super) fn rule(&self, request: &WorkRequest, is_local: bool) -> Ruling {
        let (needs, signature) = match request {
            WorkRequest::List { .. } | WorkRequest::Status { .. } => return Ruling::Accept,
            WorkRequest::Submit(submit) => (self.type_verifies(&submit.work_type), &submit.signature),
            // As for everything else that this node would sign for.
            WorkRequest::Adopt(adopt) => (adopt.sign_work, &adopt.signature),
            WorkRequest::Cancel { unit, signature }
            | WorkRequest::Release { unit, signature, .. }
            | WorkRequest::Results { unit, signature, .. } => match self.known(unit) {
                // Whoever carries it out says so.
                None => return Ruling::Accept,
                Some(unit) => (self.unit_verifies(unit), signature),
            },
        };
        let signature = signature.as_deref().unwrap_or_default();
        ruling(needs, is_local, self.keys.verification.is_some(), signature)
    }

    /// A submitter's message: whether it may go on.
    pub(super) fn rule_message(&self, message: &Message, is_local: bool) -> Ruling {
        let (needs, signature) = match message {
            Message::Submit(submit) => (self.type_verifies(&submit.work_type), &submit.signature),
            Message::Attach { unit, signature, .. }
            | Message::Cancel { unit, signature }
            | Message::Release { unit, signature, .. } => match self.find(unit).and_then(|id| self.units.get(&id)) {
                // Whoever carries it out says so.
                None => return Ruling::Accept,
                Some(unit) => (self.unit_verifies(unit), signature),
            },
            _ => return Ruling::Accept,
        };
        ruling(needs, is_local, self.keys.verification.is_some(), signature)
    }

    fn type_verifies(&self, work_type: &str) -> bool {
        self.types.get(work_type).is_some_and(|t| t.verify_signature)
    }

    fn unit_verifies(&self, unit: &Unit) -> bool {
        match &unit.record.extra {
            Extra::Remote(extra) => extra.sign_work,
            _ => self.type_verifies(&unit.record.work_type),
        }
    }

    /// Has a client's token looked at; the request waits.
    pub(super) fn verify_client(&mut self, client: ClientKey, from: Requester, request: WorkRequest) {
        let token = match &request {
            WorkRequest::Submit(submit) => submit.signature.clone(),
            WorkRequest::Adopt(adopt) => adopt.signature.clone(),
            WorkRequest::Cancel { signature, .. }
            | WorkRequest::Release { signature, .. }
            | WorkRequest::Results { signature, .. } => signature.clone(),
            WorkRequest::List { .. } | WorkRequest::Status { .. } => None,
        };
        self.clients.insert(client, Client::Verifying(Box::new(request)));
        self.verify(Bearer::Client(client), from, token.unwrap_or_default());
    }

    /// Has a token looked at; the answer comes with the key returned.
    pub(super) fn verify(&mut self, bearer: Bearer, from: Requester, token: String) -> TaskKey {
        self.add_job(Job::Verify { bearer, from, token })
    }

    /// Has a token made for requests to a node.
    pub(super) fn sign(&mut self, signer: Signer, audience: &str) {
        let audience = audience.to_string();
        self.add_job(Job::Sign { signer, audience });
    }

    fn add_job(&mut self, job: Job) -> TaskKey {
        let key = TaskKey(self.fresh_key());
        self.jobs.waiting.push_back((key, job));
        self.start_jobs();
        key
    }

    fn start_jobs(&mut self) {
        while self.jobs.active.len() < MAX_JOBS
            && let Some((key, job)) = self.jobs.waiting.pop_front()
        {
            // Keys may have come or gone since the job was asked for.
            let output = match &job {
                Job::Sign { audience, .. } => self.keys.signing.as_ref().map(|signing| WorkOutput::Sign {
                    key,
                    key_file: signing.private_key.clone(),
                    claims: Claims::text(audience, self.now.wall + signing.expiration),
                }),
                Job::Verify { token, .. } => self.keys.verification.as_ref().map(|verification| WorkOutput::Verify {
                    key,
                    key_file: verification.public_key.clone(),
                    token: token.clone(),
                }),
            };
            match (output, job) {
                (Some(output), job) => {
                    self.jobs.active.insert(key, job);
                    self.out.push_back(output);
                }
                (None, Job::Sign { signer, .. }) => self.signed(signer, Err(NO_SIGNING_KEY.into())),
                (None, Job::Verify { bearer, .. }) => self.verified(bearer, key, Err(NO_VERIFYING_KEY.into())),
            }
        }
    }

    /// Tokens that nobody waits for any more need not be looked at.
    pub(super) fn drop_jobs_of(&mut self, session: SessionKey) {
        let is_of = |job: &Job| matches!(job, Job::Verify { bearer: Bearer::Channel(of, _), .. } if *of == session);
        self.jobs.waiting.retain(|(_, job)| !is_of(job));
    }

    fn judge(&self, from: &Requester, result: Verified) -> Result<(), String> {
        let failed = |text: String| format!("could not verify signature: {text}");
        let claims = match result {
            Verified::Claims(json) => Claims::parse(&json).map_err(failed)?,
            Verified::Refused(text) => return Err(failed(text)),
            Verified::NoKey(text) => return Err(format!("could not load verifying key file: {text}")),
        };
        let leeway = self.keys.verification.as_ref().map(|v| v.leeway).unwrap_or_default();
        claims
            .check_times(self.now.wall, leeway)
            .map_err(|text| failed(text + &skew_note(from)))?;
        if !claims.audience.iter().any(|name| name == self.node_id.as_str()) {
            return Err("token audience did not match node ID".into());
        }
        Ok(())
    }

    fn verified(&mut self, bearer: Bearer, key: TaskKey, verdict: Result<(), String>) {
        match bearer {
            Bearer::Channel(session, channel) => self.channel_verified(session, channel, key, verdict),
            Bearer::Client(client) => {
                if !matches!(self.clients.get(&client), Some(Client::Verifying(_))) {
                    return;
                }
                let Some(Client::Verifying(request)) = self.clients.remove(&client) else {
                    return;
                };
                match verdict {
                    Ok(()) => self.grant(client, *request),
                    Err(text) => self.refuse(client, text),
                }
            }
        }
    }

    fn signed(&mut self, signer: Signer, result: Result<String, String>) {
        match signer {
            Signer::Line(id, serial) => self.line_signed(&id, serial, result),
            Signer::Call(key) => self.call_signed(key, result),
            Signer::Owed(id, channel) => self.owed_signed(&id, channel, result),
        }
    }

    /// Whether work can be signed here at all.
    ///
    /// # Errors
    /// The classic text.
    pub(super) fn check_signing(&self) -> Result<(), String> {
        match &self.keys.signing {
            Some(signing) if !signing.private_key.is_empty() => Ok(()),
            _ => Err(NO_SIGNING_KEY.into()),
        }
    }
}

/// What a difference of clocks may have to do with a token that is not good now.
fn skew_note(from: &Requester) -> String {
    let (Some(node), Some(ahead)) = (&from.node, from.clock_ahead) else {
        return String::new();
    };
    let off = go_duration(ahead.saturating_abs() / NOTABLE_SKEW * NOTABLE_SKEW);
    match ahead {
        ahead if ahead >= NOTABLE_SKEW => note(node, &off, "ahead of"),
        ahead if ahead <= -NOTABLE_SKEW => note(node, &off, "behind"),
        _ => String::new(),
    }
}

fn note(node: &NodeId, off: &str, how: &str) -> String {
    format!(" (clock of node {node} is {off} {how} this one)")
}

#[cfg(test)]
mod tests;
