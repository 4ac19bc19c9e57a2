//! Units of work: what was accepted, what may become of it, and what must.

use super::{User, Users, name, pattern};
use crate::invariants::Violation;
use crate::plan::Action;
use crate::users::sessions::{Session, Stage};
use crate::world::{NodeIndex, World, produced};

/// One unit, as its submitter knows it.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Where it was submitted.
    pub node: NodeIndex,
    /// Where it runs.
    pub to: NodeIndex,
    pub(super) program: i64,
    pub(super) size: usize,
    /// What it is called, once the submission was answered.
    pub id: Option<String>,
    /// It must succeed whatever happens.
    pub(super) must: bool,
    pub(super) is_cancelled: bool,
    /// From now on it may be gone.
    pub is_released: bool,
    /// Why it may fail.
    pub(super) excuse: Option<String>,
    /// What somebody was told: it does not change any more.
    pub(super) terminal: Option<String>,
    /// The most bytes of output that somebody was told of.
    pub(super) told_size: u64,
}

const PROGRAMS: [&str; 4] = ["cat", "produce", "sleep", "fail"];

impl Unit {
    pub(super) fn program(&self) -> &'static str {
        PROGRAMS[self.program.rem_euclid(4) as usize]
    }

    /// What the program reads.
    pub(super) fn payload(&self, number: usize) -> Vec<u8> {
        match self.program() {
            "cat" => pattern(number as u64, 0, self.size),
            _ => Vec::new(),
        }
    }

    /// What it writes, from an offset on.
    pub(super) fn output(&self, number: usize, from: usize, len: usize) -> Vec<u8> {
        let whole = match self.program() {
            "cat" => self.payload(number),
            "produce" => produced(self.size),
            _ => Vec::new(),
        };
        let from = from.min(whole.len());
        whole[from..(from + len).min(whole.len())].to_vec()
    }

    /// Bytes of its whole output.
    pub(super) fn output_len(&self) -> usize {
        match self.program() {
            "cat" | "produce" => self.size,
            _ => 0,
        }
    }

    /// Whether a state at its end is allowed.
    pub(super) fn allows(&self, state: &str) -> bool {
        let fails = self.program() == "fail";
        match state {
            "Succeeded" => !fails,
            // A remote unit that is cancelled before it has started is Failed, as classic clients know it.
            "Failed" => fails || self.excuse.is_some() || self.is_cancelled && self.to != self.node,
            "Canceled" => self.is_cancelled,
            _ => false,
        }
    }
}

impl Users {
    /// Submits a unit.
    pub fn submit(&mut self, world: &mut World, node: NodeIndex, to: NodeIndex, program: i64, size: usize, must: bool) {
        if !super::is_free(world, node) {
            return;
        }
        let number = self.units.len();
        let unit = Unit {
            node,
            to,
            program,
            size,
            id: None,
            must,
            is_cancelled: false,
            is_released: false,
            excuse: [node, to]
                .iter()
                .any(|&node| self.sick_disks.contains(&(node as i64)))
                .then(|| "a disk failed".to_owned()),
            terminal: None,
            told_size: 0,
        };
        let target = if to == node { "localhost".into() } else { name(to) };
        let what = match unit.program() {
            "fail" => 1 + size % 100,
            _ => size,
        };
        let line = format!("work submit {target} {} {what} unit{number}\n", unit.program());
        self.units.push(unit);
        self.open_session(world, node, Stage::Submitting { unit: number }, &line);
    }

    /// One of the latest units of a node that were accepted.
    pub(super) fn unit_of(&self, node: NodeIndex, back: i64) -> Option<(NodeIndex, usize)> {
        let mut known = (0..self.units.len()).rev().filter(|&number| {
            let unit = &self.units[number];
            unit.node == node && unit.id.is_some() && !unit.must
        });
        Some((node, known.nth(usize::try_from(back).ok()?)?))
    }

    pub(super) fn read_results(&mut self, world: &mut World, node: NodeIndex, unit: usize, offset: u64) {
        let Some(id) = self.units[unit].id.clone() else { return };
        let line = format!("work results {id} {offset}\n");
        let stage = Stage::Reading {
            unit,
            offset,
            received: 0,
        };
        self.open_session(world, node, stage, &line);
    }

    pub(super) fn read_status(&mut self, world: &mut World, node: NodeIndex, unit: usize) {
        let Some(id) = self.units[unit].id.clone() else { return };
        self.open_session(world, node, Stage::Asking { unit }, &format!("work status {id}\n"));
    }

    pub(super) fn cancel(&mut self, world: &mut World, node: NodeIndex, unit: usize) {
        if let Some(id) = self.units[unit].id.clone()
            && super::is_free(world, node)
        {
            self.units[unit].is_cancelled = true;
            self.open_session(world, node, Stage::Telling, &format!("work cancel {id}\n"));
        }
    }

    pub(super) fn release(&mut self, world: &mut World, node: NodeIndex, unit: usize) {
        if let Some(id) = self.units[unit].id.clone()
            && super::is_free(world, node)
        {
            // Whatever the answer will be, and whether it comes or not; a release cancels, too.
            self.units[unit].is_released = true;
            self.units[unit].is_cancelled = true;
            self.open_session(world, node, Stage::Telling, &format!("work release {id}\n"));
        }
    }

    /// A fault that may make units fail: of an executor its death, and that of runners; of either end that of its disk.
    pub(super) fn excuse(&mut self, fault: Action) {
        let (node, is_of_disk, why) = match fault {
            Action::Kill { node } => (node, false, "its executor was killed"),
            Action::Crash { node } => (node, false, "its executor crashed"),
            Action::KillRunner { node, .. } => (node, false, "a runner was killed"),
            Action::DiskFull { node } | Action::DiskBroken { node } => (node, true, "a disk failed"),
            Action::DiskWell { node } => {
                self.sick_disks.remove(&node);
                return;
            }
            _ => return,
        };
        if is_of_disk {
            self.sick_disks.insert(node);
        }
        for unit in &mut self.units {
            let is_hit = unit.to as i64 == node || is_of_disk && unit.node as i64 == node;
            if is_hit && unit.terminal.is_none() {
                unit.excuse.get_or_insert_with(|| why.into());
            }
        }
    }

    /// What a status answer tells.
    pub(super) fn told(&mut self, number: usize, state: &str, detail: &str, size: u64) -> Result<(), Violation> {
        let unit = &mut self.units[number];
        let was_told = unit.told_size;
        unit.told_size = was_told.max(size);
        if let Some(terminal) = &unit.terminal {
            if terminal != state {
                let text = format!("unit {number} was told to be {terminal} and is {state} ({detail}): {unit:?}");
                return Violation::of("unit_state", text);
            }
            return Ok(());
        }
        if matches!(state, "Pending" | "Running") {
            return Ok(());
        }
        if !unit.allows(state) {
            let text = format!("unit {number} is {state} ({detail}), and nothing explains it: {unit:?}");
            return Violation::of("unit_state", text);
        }
        unit.terminal = Some(state.to_owned());
        if state == "Succeeded" {
            self.counts.units[1] += 1;
            if size != unit.output_len() as u64 {
                let text = format!("unit {number} succeeded with {size} bytes of output: {unit:?}");
                return Violation::of("unit_state", text);
            }
        }
        Ok(())
    }

    /// Accepted units that nobody has released.
    pub fn kept_units(&self) -> Vec<usize> {
        (0..self.units.len())
            .filter(|&number| self.units[number].id.is_some() && !self.units[number].is_released)
            .collect()
    }

    /// Asks for the state of every unit that was not told to be over. How many there are.
    pub fn ask_for_states(&mut self, world: &mut World) -> usize {
        let open: Vec<_> = self
            .kept_units()
            .into_iter()
            .filter(|&n| self.units[n].terminal.is_none())
            .collect();
        for &number in &open {
            let node = self.units[number].node;
            self.read_status(world, node, number);
        }
        open.len()
    }

    /// Reads the output and the state of every unit once more.
    pub fn read_all(&mut self, world: &mut World) {
        for number in self.kept_units() {
            let node = self.units[number].node;
            self.read_status(world, node, number);
            self.read_results(world, node, number, 0);
        }
    }

    /// The units that are not over.
    pub fn open_units(&self) -> Vec<String> {
        let open = self
            .kept_units()
            .into_iter()
            .filter(|&n| self.units[n].terminal.is_none());
        open.map(|number| format!("unit {number}: {:?}", self.units[number]))
            .collect()
    }

    pub(super) fn open_session(&mut self, world: &mut World, node: NodeIndex, stage: Stage, line: &str) {
        if !super::is_free(world, node) {
            return;
        }
        let pipe = world.open_control(node);
        let session = Session::new(stage);
        self.pipes.insert((node, pipe), User::Session(session));
        world.write(node, pipe, line.as_bytes());
    }
}
