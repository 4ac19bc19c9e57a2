//! What a run does: topology, wires, faults and work, as lines of text that can be read, edited and run again.
//!
//! ```text
//! seed 42
//! secs 120
//! node 1                       (work sessions: 1, or polling as classic nodes do: 0)
//! link 3 0 0 10 1500 300 0 0   (dialler, listener, datagrams, cost × 10, delay and jitter µs, loss ‰, KiB/s or 0)
//! at 1234 kill 3
//! at 1300 ping 3 5
//! ```

use std::fmt;
use std::str::FromStr;

/// A whole run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Decides everything that the plan leaves open.
    pub seed: u64,
    /// How long faults and work go on, in virtual seconds.
    pub secs: u64,
    /// The nodes, `n0`, `n1`, …; all of them listen for connections and for datagrams.
    pub nodes: Vec<NodePlan>,
    /// Who dials whom.
    pub links: Vec<LinkPlan>,
    /// What happens, in the order of time.
    pub steps: Vec<Step>,
}

/// One node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodePlan {
    /// Work is pushed; else it is polled as by classic nodes.
    pub work_sessions: bool,
}

/// One link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkPlan {
    /// Who dials.
    pub from: usize,
    /// Who listens.
    pub to: usize,
    /// Over UDP.
    pub is_datagram: bool,
    /// Cost × 10.
    pub cost: u64,
    /// Least delay in each direction, µs.
    pub delay: u64,
    /// Up to this much more, µs.
    pub jitter: u64,
    /// Frames lost, ‰: data on connections, everything on datagrams.
    pub loss: u64,
    /// KiB/s in each direction; 0 is infinite.
    pub rate: u64,
}

/// Something that happens at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Virtual milliseconds since the start.
    pub at: u64,
    /// What.
    pub action: Action,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $word:literal $variant:ident($($field:ident: $what:literal),*);)*) => {
        /// A fault, its end, or something a user does.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Action {
            $($(#[$doc])* $variant {
                $(#[doc = $what] $field: i64,)*
            },)*
        }

        impl fmt::Display for Action {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$variant { $($field),* } => {
                        f.write_str($word)?;
                        $(write!(f, " {}", $field)?;)*
                        Ok(())
                    })*
                }
            }
        }

        impl FromStr for Action {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let mut words = text.split_whitespace();
                match words.next().unwrap_or_default() {
                    $($word => {
                        let action = Self::$variant { $($field: number(&mut words, stringify!($field))?),* };
                        words.next().map_or(Ok(action), |more| Err(format!("unexpected word {more:?}")))
                    })*
                    other => Err(format!("unknown action {other:?}")),
                }
            }
        }
    };
}

actions! {
    /// SIGKILL.
    "kill" Kill(node: "Which node.");
    /// Power cut.
    "crash" Crash(node: "Which node.");
    /// Started again, if it is down.
    "restart" Restart(node: "Which node.");
    /// The connections between two nodes are reset.
    "reset" Reset(a: "One node.", b: "The other.");
    /// The links there are die without a word.
    "silence" Silence(a: "One node.", b: "The other.");
    /// Nothing passes between two nodes.
    "cut" Cut(a: "One node.", b: "The other.");
    /// Nothing passes in one direction.
    "cut-one-way" CutOneWay(from: "Who is not heard.", to: "By whom.");
    /// Everything passes again.
    "mend" Mend(a: "One node.", b: "The other.");
    /// The process is stopped.
    "freeze" Freeze(node: "Which node.", ms: "For how long, in ms.");
    /// The wall clock is set.
    "clock" Clock(node: "Which node.", ahead: "Seconds ahead of the world.");
    /// Writes fail: no room.
    "disk-full" DiskFull(node: "Which node.");
    /// Reads and writes fail.
    "disk-broken" DiskBroken(node: "Which node.");
    /// Synced writes take longer.
    "disk-slow" DiskSlow(node: "Which node.", times: "So many times.");
    /// The disk is as it should be.
    "disk-well" DiskWell(node: "Which node.");
    /// A runner is killed.
    "kill-runner" KillRunner(node: "Which node.", which: "Which of its runners.");
    /// A ping.
    "ping" Ping(node: "From where.", to: "Where to.");
    /// A traceroute.
    "trace" Traceroute(node: "From where.", to: "Where to.");
    /// A stream that carries bytes both ways.
    "transfer" Transfer(
        node: "From where.",
        to: "Where to.",
        there: "Bytes sent.",
        back: "Bytes sent back after that.",
        reads: "KiB/s that each end takes; 0 is all at once."
    );
    /// A service is advertised.
    "advertise" Advertise(node: "Where.", service: "Its number.");
    /// It is not any more.
    "withdraw" Withdraw(node: "Where.", service: "Its number.");
    /// A unit of work is submitted.
    "submit" Submit(
        node: "From where.",
        to: "Where it runs.",
        program: "0 copies its payload, 1 writes, 2 waits, 3 fails.",
        size: "Bytes, or milliseconds."
    );
    /// The output of the latest of the node's units but so many.
    "results" Results(node: "Where.", back: "How many units back.", offset: "From which byte on.");
    /// The state of a unit.
    "status" Status(node: "Where.", back: "How many units back.");
    /// A unit is cancelled.
    "cancel" Cancel(node: "Where.", back: "How many units back.");
    /// A unit is released.
    "release" Release(node: "Where.", back: "How many units back.");
}

fn number<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>, what: &str) -> Result<T, String> {
    let word = words.next().ok_or_else(|| format!("{what} is missing"))?;
    word.parse().map_err(|_| format!("{what}: {word:?} is not a number"))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\nsecs {}", self.seed, self.secs)?;
        for node in &self.nodes {
            writeln!(f, "node {}", u8::from(node.work_sessions))?;
        }
        for link in &self.links {
            let LinkPlan {
                from,
                to,
                is_datagram,
                cost,
                delay,
                jitter,
                loss,
                rate,
            } = link;
            let is_datagram = u8::from(*is_datagram);
            writeln!(
                f,
                "link {from} {to} {is_datagram} {cost} {delay} {jitter} {loss} {rate}"
            )?;
        }
        for step in &self.steps {
            writeln!(f, "at {} {}", step.at, step.action)?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    /// Lines that are empty or begin with `#` do not count.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for (line, at) in text.lines().zip(1..) {
            if !line.trim().is_empty() && !line.starts_with('#') {
                plan.read(line).map_err(|error| format!("line {at}: {error}"))?;
            }
        }
        for link in &plan.links {
            if link.from.max(link.to) >= plan.nodes.len() {
                return Err(format!("a link between nodes {} and {}", link.from, link.to));
            }
        }
        Ok(plan)
    }
}

impl Plan {
    fn read(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split_whitespace();
        match word {
            "seed" => self.seed = number(&mut words, "seed")?,
            "secs" => self.secs = number(&mut words, "secs")?,
            "node" => self.nodes.push(NodePlan {
                work_sessions: number::<u8>(&mut words, "work sessions")? != 0,
            }),
            "link" => self.links.push(LinkPlan {
                from: number(&mut words, "dialler")?,
                to: number(&mut words, "listener")?,
                is_datagram: number::<u8>(&mut words, "datagrams")? != 0,
                cost: number(&mut words, "cost")?,
                delay: number(&mut words, "delay")?,
                jitter: number(&mut words, "jitter")?,
                loss: number(&mut words, "loss")?,
                rate: number(&mut words, "rate")?,
            }),
            "at" => {
                let (at, action) = rest.split_once(' ').ok_or("an action is missing")?;
                self.steps.push(Step {
                    at: at.parse().map_err(|_| format!("{at:?} is not a time"))?,
                    action: action.parse()?,
                });
            }
            other => return Err(format!("unknown word {other:?}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Swarm;

    #[test]
    fn a_plan_is_its_text() {
        for seed in 0..50 {
            let plan = Swarm::draw(seed).plan(12, 60);
            assert!(plan.steps.len() > 20, "seed {seed}: {} steps", plan.steps.len());
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let read = |text: &str| text.parse::<Plan>().expect_err("it is wrong");
        assert_eq!(read("seed x"), "line 1: seed: \"x\" is not a number");
        assert_eq!(read("node 1\n\nat 5 fly 3"), "line 3: unknown action \"fly\"");
        assert_eq!(read("at 5 kill"), "line 1: node is missing");
        assert_eq!(read("at 5 kill 1 2"), "line 1: unexpected word \"2\"");
        assert_eq!(read("node 1\nlink 0 1 0 1 1 1 1 1"), "a link between nodes 0 and 1");
    }
}
