//! Any order of inputs into a whole node, with outputs left undrained.

use bytes::Bytes;
use receptor_core::id::{PortId, ServiceName};
use receptor_core::node::io::Command;
use receptor_core::time::Duration;

use crate::rig::Rig;
use crate::rig::frames::{NAMES, frame, hello, work_message};
use crate::source::Source;

/// What clients say on control connections.
const LINES: &[&str] = &[
    "status\n",
    "ping a\n",
    "ping nobody\n",
    "traceroute b\n",
    "connect a control\n",
    "connect localhost control\n",
    "work submit localhost cat\n",
    "work submit node cat some params\n",
    "work submit a cat\n",
    "work submit node other\n",
    "work list\n",
    "{\"command\":\"work\",\"subcommand\":\"upgrade\",\"version\":1}\n",
    "{\"command\":\"work\",\"subcommand\":\"submit\",\"node\":\"a\",\"worktype\":\"cat\",\"ttl\":\"5s\",\"workUnitID\":\"unit\"}\n",
    "{\"command\":\"work\",\"subcommand\":\"submit\",\"node\":\"node\",\"worktype\":\"cat\",\"workUnitID\":\"unit\"}\n",
    "work status unit\n",
    "work results unit\n",
    "work cancel unit\n",
    "work release unit\n",
    "work force-release unit\n",
    "reload\n",
    "Receptor Control, node a\n",
    "Receptor Control, node a\n{\"upgraded\":1}\n",
];

/// Services of the node that streams are opened to.
const SERVICES: [ServiceName; 2] = [ServiceName::CONTROL, ServiceName::from_wire(*b"svc\0\0\0\0\0")];

/// The first byte is about the node, then one operation after the other.
pub fn node(input: &[u8]) {
    let mut source = Source::new(input);
    let setup = source.byte();
    let mut rig = Rig::new(setup & 1 != 0);
    if setup & 2 == 0 {
        rig.start();
    }
    if setup & 4 == 0 {
        let link = rig.link_up(false).0;
        rig.frame(link, &hello(&mut Source::new(&[0, 0, 1, setup >> 3, 0])));
        // Time for paths.
        rig.settle();
        rig.timeout(Duration::from_millis(200));
    }
    while !source.is_empty() {
        operation(&mut rig, &mut source);
    }
    rig.finish();
}

fn operation(rig: &mut Rig, source: &mut Source<'_>) {
    match source.below(24) {
        0 => drop(rig.link_up(source.flag())),
        1 => rig.link_down(rig.some_link(source.below(8))),
        2..=4 => {
            let link = rig.some_link(source.below(4));
            rig.frame(link, &frame(source));
        }
        5 => {
            let command = command(rig, source);
            rig.command(command);
        }
        6 => rig.open_control(),
        7 | 8 => {
            if let Some(pipe) = rig.some_pipe(source.below(8)) {
                let data = text(source);
                rig.write_pipe(pipe, data);
            }
        }
        9 => pipe_operation(rig, source),
        10 => {
            let millis = source.number() % 100_000;
            rig.timeout(Duration::from_millis(millis));
        }
        11 => {
            let limit = rig.now() + Duration::from_secs(60);
            rig.sleep(limit);
        }
        12 => {
            let _ = (0..=source.below(8)).all(|_| rig.poll());
        }
        13 => rig.drain(),
        14 => {
            let link = rig.some_link(source.below(4));
            rig.pull(link, source.number() as usize);
        }
        15 => rig.answer(source.below(8)),
        16 => rig.fail(source.below(8)),
        17 => rig.connect(),
        18 => rig.runner(source.below(4), source.below(4)),
        19 => rig.settle(),
        20 => rig.remote_dial(source.pick(&SERVICES)),
        21 => {
            let data = match source.below(3) {
                0 => work_message(source),
                _ => text(source).to_vec(),
            };
            rig.remote_write(&data);
        }
        22 => {
            let link = rig.some_link(source.below(4));
            rig.remote_send(link);
        }
        _ => rare_operation(rig, source),
    }
}

fn pipe_operation(rig: &mut Rig, source: &mut Source<'_>) {
    let Some(pipe) = rig.some_pipe(source.below(8)) else {
        return;
    };
    match source.below(4) {
        0 => rig.end_pipe(pipe),
        1 => rig.close_pipe(pipe),
        _ => rig.drain_pipe(pipe),
    }
}

fn rare_operation(rig: &mut Rig, source: &mut Source<'_>) {
    match source.below(4) {
        0 => rig.misuse(u64::from(source.byte())),
        1 => rig.set_wall(source.number()),
        2 => rig.remote_end(source.flag()),
        // More than a window, in pieces or at once.
        _ => {
            if let Some(pipe) = rig.some_pipe(source.below(8)) {
                rig.write_pipe(pipe, &vec![b'z'; source.number() as usize % (300 << 10)]);
            }
        }
    }
}

fn text<'a>(source: &mut Source<'a>) -> &'a [u8] {
    if source.flag() {
        source.bytes()
    } else {
        source.pick(LINES).as_bytes()
    }
}

fn command(rig: &mut Rig, source: &mut Source<'_>) -> Command {
    let target = source.pick(NAMES).to_owned();
    let service = source
        .pick(&["svc", "control", "", "port", "ping", "toolongname"])
        .to_owned();
    let advertise = source.flag().then(|| vec![("type".to_owned(), target.clone())]);
    let port = PortId(source.below(4) as u64);
    match source.below(9) {
        0 => Command::Status,
        1 => Command::Ping { target },
        2 => Command::Traceroute { target },
        3 => Command::Dial {
            pipe: rig.new_pipe(),
            node: target,
            service,
            tls: None,
        },
        4 => Command::Listen {
            service,
            advertise,
            tls: None,
        },
        5 => Command::Unlisten {
            service: ServiceName::new(&service).unwrap_or_default(),
        },
        6 => Command::OpenPort {
            port,
            service,
            advertise,
        },
        7 => Command::Send {
            port,
            node: target,
            service,
            data: Bytes::copy_from_slice(source.bytes()),
            hops: source.byte(),
        },
        _ => Command::ClosePort { port },
    }
}
