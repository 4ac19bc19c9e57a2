//! Units of work through control sessions of a world's nodes.

use receptor_core::time::Duration;
use serde_json::Value;

use super::{NodeIndex, World};

/// Virtual time for a submission, and for output however long.
const SUBMIT_LIMIT: Duration = Duration::from_secs(60);
const RESULTS_LIMIT: Duration = Duration::from_secs(600);

impl World {
    /// Submits with a payload: `command` is what follows `work submit`, or the whole command in JSON. The last line of the
    /// answer.
    pub fn submit_line(&mut self, index: NodeIndex, command: &str, payload: &[u8]) -> String {
        let pipe = self.open_control(index);
        let line = if command.starts_with('{') {
            format!("{command}\n")
        } else {
            format!("work submit {command}\n")
        };
        self.write(index, pipe, line.as_bytes());
        let ready = "Send stdin data and EOF.\n";
        self.run_until(SUBMIT_LIMIT, |w| w.text(index, pipe).contains(ready));
        self.write(index, pipe, payload);
        self.finish(index, pipe);
        let done = self.run_until(SUBMIT_LIMIT, |w| w.host(index).pipe(pipe).is_none_or(|p| p.ended()));
        let text = self.text(index, pipe);
        assert!(done, "submit did not end: {text}");
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// The same, of a submission that is not refused; the unit's ID.
    pub fn submit(&mut self, index: NodeIndex, command: &str, payload: &[u8]) -> String {
        let line = self.submit_line(index, command, payload);
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        answer["unitid"].as_str().expect("a unit ID").to_owned()
    }

    /// A unit's output to its end.
    pub fn results(&mut self, index: NodeIndex, unit: &str) -> Vec<u8> {
        let pipe = self.open_control(index);
        self.write(index, pipe, format!("work results {unit}\n").as_bytes());
        let done = self.run_until(RESULTS_LIMIT, |w| w.host(index).pipe(pipe).is_none_or(|p| p.ended()));
        let inbox = self.host(index).pipe(pipe).map(|p| p.inbox.clone());
        let mut inbox = inbox.unwrap_or_default();
        assert!(
            done,
            "results did not end after {} bytes\n{}",
            inbox.len(),
            self.trace.tail()
        );
        let mut line = || {
            let end = inbox.iter().position(|&byte| byte == b'\n').expect("a whole line");
            let rest = inbox.split_off(end + 1);
            String::from_utf8(std::mem::replace(&mut inbox, rest)).expect("text")
        };
        let greeting = line();
        assert!(greeting.starts_with("Receptor Control, node "), "{greeting}");
        assert_eq!(line(), format!("Streaming results for work unit {unit}\n"));
        inbox
    }

    /// A unit's status.
    pub fn unit_status(&mut self, index: NodeIndex, unit: &str) -> Value {
        let answer = self.control(index, &format!("work status {unit}"));
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
    }

    /// The name of a unit's state and its detail.
    pub fn unit_state(&mut self, index: NodeIndex, unit: &str) -> String {
        let value = self.unit_status(index, unit);
        let text = |key: &str| value[key].as_str().unwrap_or("?").to_owned();
        format!("{}: {}", text("StateName"), text("Detail"))
    }
}

/// What the simulated program `produce` prints.
pub fn produced(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}
