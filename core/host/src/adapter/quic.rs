//! The QUIC endpoint in a task of its own: messages both ways, and who waits for them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use receptor_core::deadline::Deadline;
use receptor_core::quic::{Endpoint, EndpointConfig, FromEndpoint, Queue, ToEndpoint};
use receptor_core::time::Instant;
use receptor_core::tls::Configs;

use super::Tls;
use super::ready::Flag;

/// Messages handled, and made, in one pass of the task, each.
const PASS: usize = 256;

/// Messages the driver takes in one pass.
const TAKE: usize = 256;

/// Makes an endpoint with these TLS configs and the two ends of its mailboxes. `seed` as for the node.
///
/// # Errors
/// The cryptography does not work on this machine.
pub fn quic(max_connections: usize, seed: [u8; 32], tls: Arc<Tls>) -> Result<(Quic, QuicTask), String> {
    let config = EndpointConfig {
        max_connections,
        origin: std::time::Instant::now(),
    };
    // Another one than the node's, and as good.
    let mut endpoint = Endpoint::new(config, seed.map(|byte| !byte))?;
    let configs = tls.configs();
    endpoint.set_tls(Arc::clone(&configs));
    let shared = Arc::new(Shared::default());
    let task = QuicTask {
        endpoint,
        tls,
        configs,
        shared: Arc::clone(&shared),
    };
    Ok((Quic { shared }, task))
}

#[derive(Default)]
struct Shared(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    to_endpoint: Queue<ToEndpoint>,
    from_endpoint: Queue<FromEndpoint>,
    task: Option<Waker>,
    flag: Option<Arc<Flag>>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// The driver's end. Dropping it ends the task.
pub struct Quic {
    shared: Arc<Shared>,
}

impl Quic {
    /// Raises this flag when there are messages to [`take`](Self::take).
    pub fn attach(&self, flag: Arc<Flag>) {
        let mut inner = self.shared.lock();
        if !inner.from_endpoint.is_empty() {
            flag.raise();
        }
        inner.flag = Some(flag);
    }

    /// From the node to the endpoint. Datagrams may be lost, as on any path.
    pub fn send(&self, message: ToEndpoint) {
        let mut inner = self.shared.lock();
        inner.to_endpoint.push(message);
        inner.wake_task();
    }

    /// From the endpoint to the node. What is left is announced again.
    pub fn take(&self) -> Vec<FromEndpoint> {
        let mut inner = self.shared.lock();
        let was_full = inner.from_endpoint.is_full();
        let taken = (0..TAKE).map_while(|_| inner.from_endpoint.pop()).collect();
        if was_full && !inner.from_endpoint.is_full() {
            inner.wake_task();
        }
        if !inner.from_endpoint.is_empty()
            && let Some(flag) = &inner.flag
        {
            flag.raise();
        }
        taken
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.closed = true;
        inner.flag = None;
        inner.wake_task();
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quic")
    }
}

/// The task's end: wait for [`poll_messages`](Self::poll_messages) or the deadline, then [`pass`](Self::pass).
pub struct QuicTask {
    endpoint: Endpoint,
    tls: Arc<Tls>,
    /// Those that the endpoint has.
    configs: Arc<Configs>,
    shared: Arc<Shared>,
}

impl QuicTask {
    /// Whether there are messages of the node; `false` if the driver has ended.
    pub fn poll_messages(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut inner = self.shared.lock();
        if inner.closed {
            return Poll::Ready(false);
        }
        if !inner.to_endpoint.is_empty() {
            return Poll::Ready(true);
        }
        match &mut inner.task {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// When a pass is due without messages. None while the node does not take what there is: the task is woken then.
    pub fn next_deadline(&self) -> Deadline {
        if self.shared.lock().from_endpoint.is_full() {
            return Deadline::Idle;
        }
        self.endpoint.next_deadline()
    }

    /// A bounded piece of work.
    pub fn pass(&mut self, now: Instant) {
        let configs = self.tls.configs();
        if !Arc::ptr_eq(&configs, &self.configs) {
            self.endpoint.set_tls(Arc::clone(&configs));
            self.configs = configs;
        }
        let messages: Vec<ToEndpoint> = {
            let mut inner = self.shared.lock();
            (0..PASS).map_while(|_| inner.to_endpoint.pop()).collect()
        };
        for message in messages {
            self.endpoint.handle(now, message);
        }
        // Also when packets are still to be made: acknowledgements and timers must not wait for all of them.
        self.endpoint.handle_timeout(now);
        self.pass_on();
    }

    fn pass_on(&mut self) {
        let room = !self.shared.lock().from_endpoint.is_full();
        if !room {
            return;
        }
        let outputs: Vec<FromEndpoint> = (0..PASS).map_while(|_| self.endpoint.poll_output()).collect();
        if outputs.is_empty() {
            return;
        }
        let mut inner = self.shared.lock();
        for output in outputs {
            // There was room for datagrams, and everything else is always taken.
            inner.from_endpoint.push(output);
        }
        if let Some(flag) = &inner.flag {
            flag.raise();
        }
    }
}

impl fmt::Debug for QuicTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuicTask").field(&self.endpoint.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use receptor_core::id::{NameHash, ServiceName};
    use receptor_core::quic::{ConnectionId, Path};

    use super::super::ready::{ReadySet, Source};
    use super::*;

    #[test]
    fn messages_wake_either_side_and_the_end_is_noticed() {
        let (quic, mut task) = quic(10, [1; 32], Arc::default()).unwrap();
        let ready = Arc::new(ReadySet::default());
        quic.attach(ready.flag(Source::Quic));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(task.poll_messages(&mut cx).is_pending());
        assert_eq!(task.next_deadline(), Deadline::Idle);
        let path = Path {
            remote: NameHash(1),
            remote_service: ServiceName::CONTROL,
            local_service: ServiceName::from_wire(*b"abcdefgh"),
        };
        quic.send(ToEndpoint::Dial(ConnectionId(1), path, None));
        assert_eq!(task.poll_messages(&mut cx), Poll::Ready(true));
        task.pass(Instant::from_millis(1));
        let mut sources = Vec::new();
        assert!(ready.poll_take(&mut cx, 9, &mut sources).is_ready());
        assert_eq!(sources, [Source::Quic]);
        assert!(matches!(quic.take()[..], [FromEndpoint::Datagram(..)]));
        assert!(matches!(task.next_deadline(), Deadline::At(..)));
        drop(quic);
        assert_eq!(task.poll_messages(&mut cx), Poll::Ready(false));
    }
}
