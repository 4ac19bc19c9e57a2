//! Two ways to open a stream: a native dial that is not answered soon gets a QUIC dial beside it, and the first to
//! succeed has the stream. What is known of the target may be out of date, and QUIC is what every node understands.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use super::Node;
use super::conn::Conn;
use crate::deadline::Deadline;
use crate::id::{NameHash, ServiceName};
use crate::quic::ConnectionId;
use crate::stream::StreamId;
use crate::time::{Instant, Now};

/// How long a native dial is alone. Several round trips of a wide mesh; a classic node answers within one that there is
/// nothing native to be had, or not at all.
const HEAD_START: Duration = Duration::from_secs(1);

/// A native dial that is not yet answered.
#[derive(Clone, Copy, Debug)]
struct Race {
    at: Instant,
    target: NameHash,
    service: ServiceName,
    rival: Option<ConnectionId>,
}

/// All of them; bounded by the streams there may be.
#[derive(Debug, Default)]
pub(super) struct Races {
    by_stream: BTreeMap<StreamId, Race>,
    by_rival: BTreeMap<ConnectionId, StreamId>,
    due: BTreeSet<(Instant, StreamId)>,
}

impl Races {
    pub(super) fn next_deadline(&self) -> Deadline {
        Deadline::at(self.due.first().map(|due| due.0), "a dial is tried over QUIC, too")
    }

    fn remove(&mut self, stream: StreamId) -> Option<Race> {
        let race = self.by_stream.remove(&stream)?;
        self.due.remove(&(race.at, stream));
        if let Some(rival) = race.rival {
            self.by_rival.remove(&rival);
        }
        Some(race)
    }
}

impl Node {
    /// A native dial has begun.
    pub(super) fn start_race(&mut self, now: Now, stream: StreamId, target: NameHash, service: ServiceName) {
        let at = now.mono + HEAD_START;
        let race = Race {
            at,
            target,
            service,
            rival: None,
        };
        self.races.by_stream.insert(stream, race);
        self.races.due.insert((at, stream));
    }

    /// Begins the QUIC dials whose time has come.
    pub(super) fn race_timeouts(&mut self, now: Now) {
        while let Some(&(at, stream)) = self.races.due.first()
            && at <= now.mono
        {
            self.races.due.pop_first();
            let Some(race) = self.races.by_stream.get(&stream).copied() else {
                continue;
            };
            let Some(&owner) = self.owners.get(&Conn::Stream(stream)) else {
                continue;
            };
            let tls = self.dial_tls_of(Conn::Stream(stream));
            // At a limit the native dial stays alone.
            if let Ok(conn) = self.dial_quic(race.target, race.service, tls)
                && let Conn::Quic(rival) = conn
            {
                self.races.by_stream.insert(
                    stream,
                    Race {
                        rival: Some(rival),
                        ..race
                    },
                );
                self.races.by_rival.insert(rival, stream);
                self.owners.insert(conn, owner);
            }
        }
    }

    /// A connection has won, or its owner lets it go: nobody needs the other way any more.
    pub(super) fn drop_rival(&mut self, now: Now, conn: Conn) {
        match conn {
            Conn::Stream(stream) => {
                if let Some(Race { rival: Some(rival), .. }) = self.races.remove(stream) {
                    self.conn_release(now, Conn::Quic(rival));
                }
            }
            Conn::Quic(rival) => {
                if let Some(&stream) = self.races.by_rival.get(&rival) {
                    self.races.remove(stream);
                    self.conn_abort(now, Conn::Stream(stream), "opened another way");
                }
            }
            Conn::Pipe(_) => {}
        }
    }

    /// A connection has failed: what still runs in its place, if anything does. Then nothing has happened yet.
    pub(super) fn rival_left(&mut self, conn: Conn) -> Option<Conn> {
        match conn {
            Conn::Stream(stream) => self.races.remove(stream)?.rival.map(Conn::Quic),
            Conn::Quic(rival) => {
                let stream = self.races.by_rival.remove(&rival)?;
                self.races.by_stream.get_mut(&stream)?.rival = None;
                Some(Conn::Stream(stream))
            }
            Conn::Pipe(_) => None,
        }
    }
}
