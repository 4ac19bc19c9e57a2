//! Control sessions, as their clients see them.

use receptor_core::id::PipeId;
use serde_json::Value;

use super::Users;
use crate::invariants::Violation;
use crate::world::{NodeIndex, World};

/// What a session is about, and how far it is.
#[derive(Debug)]
pub(super) enum Stage {
    Submitting { unit: usize },
    Sent { unit: usize },
    Reading { unit: usize, offset: u64, received: u64 },
    Asking { unit: usize },
    Telling,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    stage: Stage,
    text: Vec<u8>,
    /// Lines before output that are still to come: the greeting, and what is streamed.
    head_lines: u8,
    /// This end has said that it is done.
    is_finished: bool,
}

impl Session {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            stage,
            text: Vec::new(),
            head_lines: 2,
            is_finished: false,
        }
    }

    /// Which unit it is about.
    pub(super) fn unit(&self) -> Option<usize> {
        match self.stage {
            Stage::Submitting { unit }
            | Stage::Sent { unit }
            | Stage::Reading { unit, .. }
            | Stage::Asking { unit } => Some(unit),
            Stage::Telling => None,
        }
    }

    /// Takes the next line, without its end.
    fn line(&mut self) -> Option<String> {
        let end = self.text.iter().position(|&byte| byte == b'\n')?;
        let rest = self.text.split_off(end + 1);
        let line = std::mem::replace(&mut self.text, rest);
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}

impl Users {
    /// Something came. What remains of the session.
    pub(super) fn on_session(
        &mut self,
        world: &mut World,
        (node, pipe): (NodeIndex, PipeId),
        mut session: Session,
    ) -> Result<Option<Session>, Violation> {
        session.text.extend(world.take_received(node, pipe));
        let (eof, closed) = world.host(node).pipe(pipe).map_or((false, true), |p| (p.eof, p.closed));
        match session.stage {
            Stage::Submitting { unit } => {
                while let Some(line) = session.line() {
                    if line.contains("Send stdin data and EOF.") {
                        world.write(node, pipe, &self.units[unit].payload(unit));
                        world.finish(node, pipe);
                        session.is_finished = true;
                        session.stage = Stage::Sent { unit };
                        break;
                    }
                    self.refused(unit, &line)?;
                    if line.starts_with("ERROR") {
                        finish(world, (node, pipe), &mut session.is_finished);
                    }
                }
            }
            Stage::Sent { unit } => {
                while let Some(line) = session.line() {
                    let answer: Option<Value> = serde_json::from_str(&line).ok();
                    if let Some(id) = answer.as_ref().and_then(|answer| answer["unitid"].as_str()) {
                        self.accepted(unit, id);
                    } else {
                        self.refused(unit, &line)?;
                    }
                }
            }
            Stage::Reading {
                unit,
                offset,
                ref mut received,
            } => {
                let mut is_refused = false;
                while session.head_lines > 0 {
                    let end = session.text.iter().position(|&byte| byte == b'\n');
                    let Some(end) = end else { break };
                    let rest = session.text.split_off(end + 1);
                    let line = std::mem::replace(&mut session.text, rest);
                    session.head_lines -= 1;
                    is_refused |= line.starts_with(b"ERROR");
                }
                if is_refused {
                    session.stage = Stage::Telling;
                    finish(world, (node, pipe), &mut session.is_finished);
                } else if session.head_lines == 0 {
                    let got = std::mem::take(&mut session.text);
                    let from = offset + *received;
                    *received += got.len() as u64;
                    let so_far = *received;
                    self.read(world, unit, from, &got)?;
                    if eof {
                        self.read_to_end(world, unit, offset + so_far)?;
                    }
                }
            }
            Stage::Asking { unit } => {
                while let Some(line) = session.line() {
                    if let Ok(answer) = serde_json::from_str::<Value>(&line)
                        && let Some(state) = answer["StateName"].as_str()
                    {
                        let detail = answer["Detail"].as_str().unwrap_or_default().to_owned();
                        let size = answer["StdoutSize"].as_u64().unwrap_or(0);
                        self.told(unit, state, &detail, size)?;
                        finish(world, (node, pipe), &mut session.is_finished);
                    } else if line.starts_with("ERROR") {
                        self.unknown(unit, &line)?;
                        finish(world, (node, pipe), &mut session.is_finished);
                    }
                }
            }
            Stage::Telling => {
                while let Some(line) = session.line() {
                    if line.starts_with('{') || line.starts_with("ERROR") {
                        finish(world, (node, pipe), &mut session.is_finished);
                    }
                }
            }
        }
        if closed {
            world.forget(node, pipe);
            return Ok(None);
        }
        if eof {
            finish(world, (node, pipe), &mut session.is_finished);
        }
        Ok(Some(session))
    }

    fn refused(&mut self, unit: usize, line: &str) -> Result<(), Violation> {
        if line.starts_with("ERROR") && self.units[unit].must {
            return Violation::of("fresh_service", format!("submission of unit {unit}: {line}"));
        }
        Ok(())
    }

    fn accepted(&mut self, unit: usize, id: &str) {
        self.counts.units[0] += 1;
        self.units[unit].id = Some(id.to_owned());
    }

    /// A unit that was accepted stays known until it is released, whatever happens to its node.
    fn unknown(&mut self, unit: usize, line: &str) -> Result<(), Violation> {
        let known = &self.units[unit];
        if line.contains("unknown work unit") && !known.is_released && known.excuse.is_none() {
            let text = format!("unit {unit} was accepted, and its node does not know it: {line}; {known:?}");
            return Violation::of("unit_state", text);
        }
        Ok(())
    }

    fn read(&self, world: &World, unit: usize, from: u64, got: &[u8]) -> Result<(), Violation> {
        let known = &self.units[unit];
        let expected = known.output(unit, from as usize, got.len());
        if got != expected && !(known.is_released && got.len() <= expected.len() && expected.starts_with(got)) {
            let at = got
                .iter()
                .zip(&expected)
                .position(|(a, b)| a != b)
                .unwrap_or(expected.len());
            let text = format!(
                "output of unit {unit} is not what its program wrote, from byte {} on; {known:?}; at {:?}",
                from as usize + at,
                world.elapsed()
            );
            return Violation::of("bytes", text);
        }
        Ok(())
    }

    /// Output that ends, of a unit that succeeded, is whole.
    fn read_to_end(&self, world: &World, unit: usize, end: u64) -> Result<(), Violation> {
        let known = &self.units[unit];
        // A disk that cannot be read ends the output, too; the protocol has no word for it.
        let is_readable = !self.sick_disks.contains(&(known.node as i64));
        if known.terminal.as_deref() == Some("Succeeded")
            && is_readable
            && !known.is_released
            && end < known.output_len() as u64
        {
            let text = format!(
                "output of unit {unit} ended at {end}; {known:?}; at {:?}",
                world.elapsed()
            );
            return Violation::of("bytes", text);
        }
        Ok(())
    }
}

fn finish(world: &mut World, (node, pipe): (NodeIndex, PipeId), is_finished: &mut bool) {
    if !std::mem::replace(is_finished, true) && world.host(node).pipe(pipe).is_some_and(|pipe| !pipe.closed) {
        world.finish(node, pipe);
    }
}
