//! One daemon, and small meshes of them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::scratch::MARK;
use super::{Control, PATIENCE, Scratch, Submitted, free_port, receptor, until};

/// How long a daemon may take until it answers, and a small mesh until all its routes are there.
const START_LIMIT: Duration = PATIENCE;
/// As much of a log as a failing test prints.
const LOG_LINES: usize = 120;

/// The work types that [`Builder::work`] adds: `shell` runs its `params`, a quoted shell command.
pub const WORK_TYPES: [&str; 5] = ["cat", "upper", "shell", "noparams", "missing"];

/// What a daemon is started with: entities with their parameters, in order.
#[derive(Clone, Debug)]
pub struct Builder {
    scratch: Scratch,
    id: String,
    binary: PathBuf,
    entities: Vec<(String, Vec<(String, String)>)>,
    prefix: Vec<String>,
    listen: Option<u16>,
}

/// A daemon of a test. Killed when dropped; its log is printed when the test fails.
#[derive(Debug)]
pub struct Node {
    /// Its node ID.
    pub id: String,
    scratch: Scratch,
    command: Vec<String>,
    child: Option<Child>,
    listen: Option<u16>,
}

/// How a daemon that was expected to end ended.
#[derive(Clone, Debug)]
pub struct Exited {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// Everything it printed.
    pub output: String,
}

impl Builder {
    /// A daemon of ours with a control socket and its data in the scratch directory.
    pub fn new(scratch: &Scratch, id: &str) -> Self {
        let data = scratch.join("data").display().to_string();
        let socket = scratch.join(&format!("{id}.sock")).display().to_string();
        let builder = Self {
            scratch: scratch.clone(),
            id: id.to_owned(),
            binary: receptor().to_owned(),
            entities: Vec::new(),
            prefix: Vec::new(),
            listen: None,
        };
        builder
            .entity("node", &[("id", id), ("datadir", &data)])
            .entity("log-level", &[("level", "info")])
            .entity("control-service", &[("service", "control"), ("filename", &socket)])
    }

    /// Another binary than ours.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = path.to_owned();
        self
    }

    /// A program, with its arguments, that starts the daemon.
    #[must_use]
    pub fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// One more entity of the configuration.
    #[must_use]
    pub fn entity(mut self, name: &str, parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        self.entities.push((name.to_owned(), parameters.collect()));
        self
    }

    /// Changes a parameter of an entity that is already there.
    #[must_use]
    pub fn with(mut self, name: &str, key: &str, value: &str) -> Self {
        let entity = self.entities.iter_mut().find(|(entity, _)| entity == name);
        let parameters = &mut entity.unwrap_or_else(|| panic!("there is no {name}")).1;
        parameters.retain(|(existing, _)| existing != key);
        parameters.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Firewall rules, as a YAML list on one line.
    #[must_use]
    pub fn firewall(self, rules: &str) -> Self {
        self.with("node", "firewallrules", rules)
    }

    /// No connections at all.
    #[must_use]
    pub fn local_only(self) -> Self {
        self.entity("local-only", &[])
    }

    /// A TCP listener on 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, port: u16, cost: f64) -> Self {
        self.listen = Some(port);
        let (port, cost) = (port.to_string(), cost.to_string());
        self.entity(
            "tcp-listener",
            &[("bindaddr", "127.0.0.1"), ("port", &port), ("cost", &cost)],
        )
    }

    /// A connection to such a listener.
    #[must_use]
    pub fn peer(self, port: u16, cost: f64) -> Self {
        let (address, cost) = (format!("127.0.0.1:{port}"), cost.to_string());
        self.entity("tcp-peer", &[("address", &address), ("cost", &cost)])
    }

    /// The work types of [`WORK_TYPES`].
    #[must_use]
    pub fn work(self) -> Self {
        self.entity("work-command", &[("workType", "cat"), ("command", "cat")])
            .entity(
                "work-command",
                &[
                    ("worktype", "upper"),
                    ("command", "sh"),
                    ("params", "-c \"tr a-z A-Z\""),
                ],
            )
            .entity(
                "work-command",
                &[
                    ("worktype", "shell"),
                    ("command", "sh"),
                    ("params", "-c"),
                    ("allowruntimeparams", "true"),
                ],
            )
            .entity(
                "work-command",
                &[("worktype", "noparams"), ("command", "echo"), ("params", "fixed")],
            )
            .entity(
                "work-command",
                &[("worktype", "missing"), ("command", "/nonexistent/program")],
            )
    }

    /// Starts it from a configuration file and waits until it answers.
    pub fn start(self) -> Node {
        let mut node = self.spawn();
        node.wait_until_up();
        node
    }

    /// Starts it from the command line and waits until it answers.
    pub fn start_by_arguments(self) -> Node {
        let mut arguments = Vec::new();
        for (name, parameters) in &self.entities {
            arguments.push(format!("--{name}"));
            arguments.extend(parameters.iter().map(|(key, value)| format!("{key}={value}")));
        }
        let mut node = self.launch(arguments);
        node.wait_until_up();
        node
    }

    /// Starts it from this file of dialect 2 instead of its entities, and waits until it answers.
    pub fn start_with_sections(self, sections: &str) -> Node {
        let file = self.scratch.write(&format!("{}.yml", self.id), sections);
        let arguments = ["--config-v2", "--config", &file.display().to_string()];
        let mut node = self.launch(arguments.map(str::to_owned).into());
        node.wait_until_up();
        node
    }

    /// Starts it from a configuration file, whatever comes of it.
    pub fn spawn(self) -> Node {
        let file = self.scratch.write(&format!("{}.yml", self.id), self.yaml());
        self.launch(vec!["--config".to_owned(), file.display().to_string()])
    }

    /// Runs it to its end, which must come within the limit for starts.
    pub fn run(self) -> Exited {
        self.spawn().wait_for_exit()
    }

    /// Runs it with these arguments instead of its configuration, to its end.
    pub fn run_with_arguments(self, arguments: &[&str]) -> Exited {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        self.launch(arguments.collect()).wait_for_exit()
    }

    fn yaml(&self) -> String {
        let mut text = "---\n".to_owned();
        for (name, parameters) in &self.entities {
            // JSON strings are YAML strings.
            let parameters = parameters.iter().map(|(key, value)| match value.parse::<bool>() {
                Ok(value) => format!("{key}: {value}"),
                Err(_) if key == "firewallrules" => format!("{key}: {value}"),
                Err(_) => format!("{key}: {}", Value::from(value.as_str())),
            });
            let parameters: Vec<_> = parameters.collect();
            text += &format!("- {name}: {{{}}}\n", parameters.join(", "));
        }
        text
    }

    fn launch(self, arguments: Vec<String>) -> Node {
        let mut command = self.prefix;
        command.push(self.binary.display().to_string());
        command.extend(arguments);
        let mut node = Node {
            id: self.id,
            scratch: self.scratch,
            command,
            child: None,
            listen: self.listen,
        };
        node.launch();
        node
    }
}

impl Node {
    fn launch(&mut self) {
        assert!(self.child.is_none(), "{} already runs", self.id);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log: File = log.expect("a log file can be made");
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .env(MARK, self.scratch.path())
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be duplicated"))
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("starting {:?}: {error}", self.command)));
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Starts it again, as it was started first, and waits until it answers.
    pub fn start_again(&mut self) {
        self.launch();
        self.wait_until_up();
    }

    /// Waits until it answers on its control socket.
    pub fn wait_until_up(&mut self) {
        until(&format!("{} answers", self.id), START_LIMIT, || {
            assert!(!self.has_ended(), "{} ended instead of starting", self.id);
            self.try_status().map(drop)
        });
    }

    /// Waits for its end.
    pub fn wait_for_exit(mut self) -> Exited {
        let mut child = self.child.take().expect("it was started");
        let mut poll = || {
            child
                .try_wait()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "it runs".to_owned())
        };
        let status = until(&format!("{} ends", self.id), START_LIMIT, &mut poll);
        Exited {
            code: status.code(),
            output: self.log(),
        }
    }

    /// The ID of its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("it was started");
        child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Panics if its process has ended, does not answer, or has panicked anywhere.
    pub fn assert_alive(&mut self) {
        let child = self.child.as_mut().expect("it was started");
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            panic!("{} ended: {status}", self.id);
        }
        self.status();
        assert!(!self.log().contains("panicked at"), "{} panicked", self.id);
    }

    /// The port of its listener.
    pub fn port(&self) -> u16 {
        self.listen.expect("it has a listener")
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join(&format!("{}.sock", self.id))
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.scratch.join(&format!("{}.yml", self.id))
    }

    /// The directories of its units. Files beside them are the node's own.
    pub fn unit_directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data_directory()).into_iter().flatten();
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.is_dir()).collect()
    }

    /// Where its units are, unless its `datadir` was changed.
    pub fn data_directory(&self) -> PathBuf {
        self.scratch.join("data").join(&self.id)
    }

    /// Everything it printed since it was first started.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Waits until its log has a line with all of `words`, in any case.
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        until(&format!("{} logs {words:?}", self.id), START_LIMIT, || {
            let log = self.log();
            let matches = |line: &&str| {
                let line = line.to_lowercase();
                words.iter().all(|word| line.contains(&word.to_lowercase()))
            };
            log.lines()
                .find(matches)
                .map(str::to_owned)
                .ok_or_else(|| "no such line".to_owned())
        })
    }

    /// A new session with its control service.
    pub fn control(&self) -> Control {
        let control = Control::connect(&self.socket());
        let control = control.unwrap_or_else(|error| panic!("control socket of {}: {error}", self.id));
        assert_eq!(control.greeting, format!("Receptor Control, node {}", self.id));
        control
    }

    /// Its `status`.
    pub fn status(&self) -> Value {
        self.try_status()
            .unwrap_or_else(|error| panic!("status of {}: {error}", self.id))
    }

    /// Its `status`, if it answers.
    pub fn try_status(&self) -> Result<Value, String> {
        let mut control = Control::connect(&self.socket()).map_err(|error| error.to_string())?;
        control.json("status")
    }

    /// Submits to `target` and must not be refused.
    pub fn submit(&self, target: &str, work_type_and_params: &str, stdin: &[u8]) -> Submitted {
        let line = format!("work submit {target} {work_type_and_params}");
        let submitted = self.control().submit(&line, stdin);
        submitted.unwrap_or_else(|error| panic!("{line} at {}: {error}", self.id))
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.join(&format!("{}.log", self.id))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
            let _ = writeln!(
                std::io::stderr(),
                "--- last {} of {} lines from {} ({})\n{}\n---",
                shown.len(),
                lines.len(),
                self.id,
                self.command[0],
                shown.join("\n")
            );
        }
    }
}

/// A chain of our daemons with all routes there: each but the first dials the one before it, and all have the work types.
pub fn chain(scratch: &Scratch, ids: &[&str]) -> Vec<Node> {
    let mut previous = None;
    let start = |id: &&str| {
        let port = free_port();
        let mut builder = Builder::new(scratch, id).listen(port, 1.0).work();
        if let Some(previous) = previous.replace(port) {
            builder = builder.peer(previous, 1.0);
        }
        builder.start()
    };
    let nodes: Vec<_> = ids.iter().map(start).collect();
    wait_for_routes(&nodes);
    nodes
}

/// A node's routing table.
pub fn routes(status: &Value) -> BTreeMap<String, String> {
    let table = status["RoutingTable"].as_object();
    let table = table.into_iter().flatten();
    table
        .map(|(to, via)| (to.clone(), via.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// The IDs of a node's neighbours.
pub fn neighbours(status: &Value) -> Vec<&str> {
    let connections = status["Connections"].as_array().into_iter().flatten();
    connections
        .filter_map(|connection| connection["NodeID"].as_str())
        .collect()
}

/// Waits until every node has a route to every other one and knows all links, as the tests of the Python client wait.
pub fn wait_for_routes<'a>(nodes: impl IntoIterator<Item = &'a Node>) {
    let nodes: Vec<_> = nodes.into_iter().collect();
    for node in &nodes {
        until(&format!("{} knows the mesh", node.id), START_LIMIT, || {
            let status = node.try_status()?;
            let table = routes(&status);
            let known = status["KnownConnectionCosts"]
                .as_object()
                .map_or(0, serde_json::Map::len);
            let reached = nodes
                .iter()
                .filter(|other| other.id != node.id)
                .all(|other| table.contains_key(&other.id));
            if reached && known == nodes.len() {
                Ok(())
            } else {
                Err(status.to_string())
            }
        });
    }
}
