//! `ansible-runner worker` as the command of a work type, as AWX has it: what `ansible-runner transmit` packs crosses two hops,
//! runs there, and comes back into `ansible-runner process`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use receptor_tests::live::{
    Builder, Node, PATIENCE, Scratch, UNIT_LIMIT, ansible_runner, free_port, until, wait_for_routes,
};
use serde_json::{Value, json};

/// Writes a fact into a file and says it.
const PLAYBOOK: &str = "
- hosts: all
  gather_facts: true
  tasks:
    - copy: {content: '{{ greeting }} from {{ ansible_connection }}', dest: '{{ target }}'}
    - debug: {msg: 'the greeting is {{ greeting }}, the system {{ ansible_system }}'}
";

/// Does not end by itself.
const ENDLESS: &str = "
- hosts: all
  gather_facts: false
  tasks:
    - command: sh -c 'echo begun >{{ target }}; sleep 6000'
";

struct Ansible {
    bin: PathBuf,
    scratch: Scratch,
}

impl Ansible {
    /// The chain over whose two hops it works: `node3` has the work type.
    fn chain(&self) -> Vec<Node> {
        let path = format!(
            "PATH={}:{}",
            self.bin.display(),
            std::env::var("PATH").expect("there is one")
        );
        let temporary = self.scratch.join("tmp");
        fs::create_dir(&temporary).expect("a scratch directory can be made");
        let temporary = format!("TMPDIR={}", temporary.display());
        let home = format!("HOME={}", self.scratch.path().display());
        let mut previous = None;
        let start = |id: &&str| {
            let port = free_port();
            let mut builder = Builder::new(&self.scratch, id)
                .through(&["env", &path, &temporary, &home])
                .listen(port, 1.0)
                .entity(
                    "work-command",
                    &[
                        ("worktype", "ansible"),
                        ("command", "ansible-runner"),
                        ("params", "worker"),
                    ],
                );
            if let Some(previous) = previous.replace(port) {
                builder = builder.peer(previous, 1.0);
            }
            builder.start()
        };
        let nodes: Vec<Node> = ["node1", "node2", "node3"].iter().map(start).collect();
        wait_for_routes(&nodes);
        nodes
    }

    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Vec<u8> {
        let child = Command::new(self.bin.join("ansible-runner"))
            .args(arguments)
            .env("HOME", self.scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("it can be started");
        let mut input = child.stdin.take().expect("piped");
        let stdin = stdin.to_owned();
        let feeding = std::thread::spawn(move || input.write_all(&stdin));
        let output = child.wait_with_output().expect("it ends");
        assert!(
            output.status.success(),
            "ansible-runner {arguments:?}: {}",
            output.status
        );
        feeding.join().expect("no panic").expect("it takes its input");
        output.stdout
    }

    /// A playbook against localhost, packed for a worker.
    fn transmit(&self, playbook: &str, variables: &Value) -> Vec<u8> {
        let directory = self.scratch.join("private");
        let python = self.bin.join("python");
        let host = format!(
            "localhost ansible_connection=local ansible_python_interpreter={}\n",
            python.display()
        );
        for (name, content) in [
            ("project/play.yml", playbook),
            ("inventory/hosts", &host),
            ("env/extravars", &variables.to_string()),
        ] {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("below the directory")).expect("it can be made");
            fs::write(path, content).expect("it can be written");
        }
        self.run(&["transmit", &directory.display().to_string(), "-p", "play.yml"], b"")
    }
}

fn ansible() -> Option<Ansible> {
    Some(Ansible {
        bin: ansible_runner()?,
        scratch: Scratch::new(),
    })
}

fn finished(status: &Value) -> bool {
    matches!(status["State"].as_u64(), Some(2..=4))
}

/// Processes of the test that are no daemons.
fn others(scratch: &Scratch, nodes: &[Node]) -> Vec<String> {
    let daemons: Vec<u32> = nodes.iter().map(Node::pid).collect();
    let processes = scratch.processes().into_iter();
    let others = processes.filter(|process| !daemons.contains(&process.pid));
    others.map(|process| process.command_line).collect()
}

fn wait_for_file(path: &Path) {
    until(&path.display().to_string(), UNIT_LIMIT, || {
        if path.exists() { Ok(()) } else { Err("not there".into()) }
    });
}

#[test]
fn a_playbook_runs_over_two_hops() {
    let Some(ansible) = ansible() else { return };
    let nodes = ansible.chain();
    let target = ansible.scratch.join("target");
    let payload = ansible.transmit(PLAYBOOK, &json!({ "greeting": "hello", "target": target }));
    let unit = nodes[0].submit("node3", "ansible", &payload).unit;
    let results = nodes[0].control().results(&unit, 0).expect("results of a known unit");
    let status = nodes[0].control().wait_for_unit(&unit, UNIT_LIMIT, finished);
    assert_eq!(
        (&status["StateName"], &status["Detail"]),
        (&"Succeeded".into(), &"exit status 0".into()),
        "{}",
        String::from_utf8_lossy(&results)
    );
    assert_eq!(
        fs::read_to_string(&target).expect("the play has written it"),
        "hello from local"
    );

    let processed = ansible.scratch.join("processed");
    let arguments = ["process", &processed.display().to_string(), "-i", "play"];
    let printed = String::from_utf8_lossy(&ansible.run(&arguments, &results)).into_owned();
    assert!(printed.contains("the greeting is hello, the system Linux"), "{printed}");
    let artifact = |name: &str| fs::read_to_string(processed.join("artifacts/play").join(name));
    assert_eq!(artifact("rc").expect("an artifact").trim(), "0");
    assert_eq!(artifact("status").expect("an artifact").trim(), "successful");
    assert!(artifact("stdout").expect("an artifact").contains("failed=0"));

    let released = nodes[0].control().json(&format!("work release {unit}"));
    assert_eq!(released, Ok(json!({ "released": unit })));
    assert_eq!(others(&ansible.scratch, &nodes), [] as [String; 0]);
}

#[test]
fn a_play_that_is_cancelled_leaves_no_process() {
    let Some(ansible) = ansible() else { return };
    let nodes = ansible.chain();
    let target = ansible.scratch.join("target");
    let payload = ansible.transmit(ENDLESS, &json!({ "target": target }));
    let unit = nodes[0].submit("node3", "ansible", &payload).unit;
    wait_for_file(&target);
    let cancelled = nodes[0].control().json(&format!("work cancel {unit}"));
    assert_eq!(cancelled, Ok(json!({ "cancelled": unit })));
    let status = nodes[0].control().wait_for_unit(&unit, UNIT_LIMIT, finished);
    assert_eq!(status["StateName"], "Canceled", "{status}");
    until("no process is left", PATIENCE, || {
        match others(&ansible.scratch, &nodes) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    let released = nodes[0].control().json(&format!("work release {unit}"));
    assert_eq!(released, Ok(json!({ "released": unit })));
    for node in &nodes {
        assert_eq!(node.unit_directories(), [] as [PathBuf; 0]);
    }
}
