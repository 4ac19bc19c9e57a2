//! Carries so many full segments of one stream between two tables: `segments COUNT [SIZE]`. For `benches/instructions`,
//! which runs it under valgrind.

use bytes::Bytes;
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::rng::Rng;
use receptor_core::stream::{Arrival, Table, TableConfig};
use receptor_core::time::{Duration, Instant};

const HEADROOM: usize = 36;
const NAMES: [NameHash; 2] = [NameHash(1), NameHash(2)];

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().expect("a number"));
    let count = arguments.next().unwrap_or(10_000);
    let size = arguments.next().unwrap_or(16_384) as usize;
    let mut now = Instant::ZERO;
    let mut tables = [1, 2].map(|seed| Table::new(TableConfig::default(), Rng::from_seed([seed; 32])));
    tables[1].listen(ServiceName::CONTROL).expect("nobody listens yet");
    let local = ServiceName::new("dialler").expect("a short name");
    let from = tables[0]
        .dial(now, NAMES[1], ServiceName::CONTROL, local)
        .expect("room for a stream");
    tables[0].set_path(now, NAMES[1], size);
    let data = Bytes::from(vec![7; 64 << 10]);
    let mut to = None;
    let mut packets = 0;
    while packets < count {
        while tables[0].write(now, from, data.clone()).is_ok() {}
        for (sender, receiver) in [(0, 1), (1, 0)] {
            while let Some(outgoing) = tables[sender].poll_transmit(now, HEADROOM) {
                packets += u64::from(outgoing.packet.len() > size / 2);
                let arrival = Arrival {
                    remote: NAMES[sender],
                    remote_service: outgoing.local_service,
                    local_service: outgoing.remote_service,
                    payload: outgoing.packet.freeze().slice(HEADROOM..),
                    marked: false,
                };
                tables[receiver].handle_packet(now, arrival);
            }
            while tables[sender].poll_event().is_some() {}
            to = to.or_else(|| tables[1].accept(ServiceName::CONTROL));
            while let Some(to) = to
                && tables[1].read(now, to).is_some()
            {}
        }
        now = now + Duration::from_micros(200);
        tables.iter_mut().for_each(|table| table.handle_timeout(now));
    }
}
