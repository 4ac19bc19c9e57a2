//! What a process holds of the machine.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// At one moment, as `/proc` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Open file descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// CPU time used, in clock ticks.
    pub cpu_ticks: u64,
}

impl Usage {
    /// Of a process that runs.
    pub fn of(pid: u32) -> Self {
        let entries = |name: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{name}"));
            entries.expect("the process runs").count()
        };
        let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the process runs");
        let status = text("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let stat = text("stat");
        // The name before may hold anything; fields 14 and 15 of `man 5 proc_pid_stat`.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Self {
            descriptors: entries("fd"),
            threads: entries("task"),
            resident_kib: resident.expect("a number of KiB"),
            cpu_ticks: ticks.sum(),
        }
    }
}

/// Lets this process, and those it starts, open at least so many files. `false` where the machine does not allow it.
pub fn raise_file_limit(least: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= least);
    if is_enough(limit.current) {
        return true;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    is_enough(limit.maximum) && setrlimit(Resource::Nofile, raised).is_ok()
}
