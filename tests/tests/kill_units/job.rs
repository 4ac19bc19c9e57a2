//! What units of the test do.

use std::path::Path;

use receptor_core::rng::Rng;
use receptor_tests::live::noise;

/// A unit to be run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Distinguishes it from the others.
    pub(crate) number: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Gives its stdin back.
    Cat { length: u64 },
    /// Numbered lines in bursts.
    Count { bursts: u64, lines: u64, pause_ms: u64 },
    /// Does not end by itself: it is released while it runs.
    Endless,
}

impl Job {
    /// One of many.
    pub(crate) fn random(number: u64, rng: &mut Rng) -> Self {
        let kind = match rng.below(10) {
            0..4 => Kind::Cat {
                length: rng.below(4).pow(3) * rng.below(20_000),
            },
            4..9 => Kind::Count {
                bursts: 1 + rng.below(10),
                lines: rng.below(3).pow(2) * rng.below(1_000),
                pause_ms: rng.below(150),
            },
            _ => Kind::Endless,
        };
        Self { number, kind }
    }

    /// Whether it is released before its end.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self.kind, Kind::Endless)
    }

    /// The command to submit it with. It notes in a file called `token` that it runs.
    pub(crate) fn command(&self, runs: &Path, token: &str) -> String {
        let script = match self.kind {
            Kind::Cat { .. } => "cat".to_owned(),
            Kind::Count {
                bursts,
                lines,
                pause_ms,
            } => format!(
                "n=0; while [ $n -lt {bursts} ]; do \
                 [ {lines} = 0 ] || seq -f \"{token} %.0f\" $((n * {lines})) $((n * {lines} + {lines} - 1)); \
                 sleep {}; n=$((n + 1)); done",
                pause_ms as f64 / 1e3
            ),
            Kind::Endless => "echo begun; sleep 6000".to_owned(),
        };
        format!(
            "work submit node3 shell 'echo run >>{}/{token}; {script}'",
            runs.display()
        )
    }

    /// What it is fed with.
    pub(crate) fn stdin(&self) -> Vec<u8> {
        match self.kind {
            Kind::Cat { length } => noise(self.number, usize::try_from(length).expect("small")),
            Kind::Count { .. } | Kind::Endless => Vec::new(),
        }
    }

    /// All it will write.
    pub(crate) fn output(&self, token: &str) -> Vec<u8> {
        match self.kind {
            Kind::Cat { .. } => self.stdin(),
            Kind::Count { bursts, lines, .. } => {
                let lines = (0..bursts * lines).map(|number| format!("{token} {number}\n"));
                lines.collect::<String>().into_bytes()
            }
            Kind::Endless => b"begun\n".to_vec(),
        }
    }
}
