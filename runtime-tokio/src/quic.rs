//! The QUIC endpoint in a task of its own, so that its cryptography does not hold up the node.

use std::future::poll_fn;
use std::task::Poll;

use receptor_host::adapter::QuicTask;

use crate::clock::Clock;
use crate::driver::timer::Timer;

/// Runs until the driver has ended.
pub(crate) async fn run(mut task: QuicTask, clock: Clock) {
    let mut timer = Timer::default();
    loop {
        // Work without end must not starve the other tasks of a single-threaded runtime.
        tokio::task::coop::consume_budget().await;
        let goes_on = poll_fn(|cx| {
            let due = timer.poll_due(cx, clock, task.next_deadline());
            match task.poll_messages(cx) {
                Poll::Pending if due => Poll::Ready(true),
                other => other,
            }
        })
        .await;
        if !goes_on {
            return;
        }
        task.pass(clock.now().mono);
    }
}
