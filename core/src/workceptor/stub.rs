//! temporary
#![allow(missing_docs, unused_variables, clippy::all)]
use super::*;
use crate::{config::WorkType, deadline::Deadline, id::NodeId, rng::Rng, time::Now};
use alloc::{collections::VecDeque, string::String, vec::Vec};
use bytes::Bytes;
#[derive(Debug)]
pub struct Workceptor { outputs: VecDeque<WorkOutput> }
impl Workceptor {
    pub fn new(node: NodeId, types: Vec<WorkType>, units: usize, rng: Rng) -> Self { Self { outputs: VecDeque::new() } }
    pub fn handle_request(&mut self, now: Now, client: ClientKey, request: WorkRequest) {
        self.outputs.push_back(WorkOutput::Reply(client, WorkReply::Error("no".into())));
    }
    pub fn stdin(&mut self, now: Now, client: ClientKey, data: Bytes) {}
    pub fn stdin_end(&mut self, now: Now, client: ClientKey) {}
    pub fn stdin_failed(&mut self, now: Now, client: ClientKey, error: &str) {}
    pub fn client_gone(&mut self, now: Now, client: ClientKey) {}
    pub fn results_drained(&mut self, now: Now, client: ClientKey, n: usize) {}
    pub fn session_opened(&mut self, now: Now, key: SessionKey, peer: Option<NodeId>) {}
    pub fn session_data(&mut self, now: Now, key: SessionKey, data: Bytes) {}
    pub fn session_drained(&mut self, now: Now, key: SessionKey, n: usize) {}
    pub fn session_closed(&mut self, now: Now, key: SessionKey) {}
    pub fn peer_opened(&mut self, now: Now, key: PeerKey) {}
    pub fn peer_data(&mut self, now: Now, key: PeerKey, data: Bytes) {}
    pub fn peer_drained(&mut self, now: Now, key: PeerKey, n: usize) {}
    pub fn peer_closed(&mut self, now: Now, key: PeerKey, reason: &str) {}
    pub fn handle_done(&mut self, now: Now, key: TaskKey, result: UnitTaskResult) {}
    pub fn handle_runner(&mut self, now: Now, unit: UnitId, event: RunnerEvent) {}
    pub fn handle_scan(&mut self, now: Now, units: Vec<StoredUnit>) {}
    pub fn routes_changed(&mut self, now: Now) {}
    pub fn poll_output(&mut self) -> Option<WorkOutput> { self.outputs.pop_front() }
    pub fn next_deadline(&self) -> Deadline { Deadline::Idle }
    pub fn handle_timeout(&mut self, now: Now) {}
    pub fn advertised_types(&self) -> Vec<(String, bool)> { Vec::new() }
}
