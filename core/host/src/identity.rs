//! Who a process is: [`ProcessIdentity`] from `/proc`.

use std::fs;
use std::io;

use receptor_core::workceptor::ProcessIdentity;

use crate::process_table::Process;

/// The identity of a process that exists (a zombie does).
pub fn of(pid: u32) -> io::Result<ProcessIdentity> {
    Ok(ProcessIdentity {
        boot_id: boot_id()?,
        pid,
        start_time: Process::read(pid)?.start_time,
    })
}

/// Whether that very process still runs. A zombie does not.
pub fn is_alive(identity: &ProcessIdentity) -> bool {
    is_of_this_boot(identity)
        && Process::read(identity.pid)
            .is_ok_and(|process| process.start_time == identity.start_time && process.is_running())
}

/// Whether the machine was not started anew since.
pub fn is_of_this_boot(identity: &ProcessIdentity) -> bool {
    boot_id().is_ok_and(|boot_id| boot_id == identity.boot_id)
}

/// The kernel's random boot ID.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim_end()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_alive_until_it_ends() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = of(child.id()).unwrap();
        assert!(is_alive(&identity));
        assert!(!is_alive(&ProcessIdentity {
            start_time: identity.start_time + 1,
            ..identity.clone()
        }));
        assert!(!is_alive(&ProcessIdentity {
            boot_id: "another".into(),
            ..identity.clone()
        }));
        child.kill().unwrap();
        while is_alive(&identity) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(of(child.id()).is_ok(), "a zombie still has an identity");
        child.wait().unwrap();
        assert!(of(child.id()).is_err());
    }
}
