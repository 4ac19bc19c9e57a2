//! Tasks, on the executor of the embedding program and on threads for what blocks.

use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use futures_lite::FutureExt as _;
use futures_lite::future::{or, yield_now};

/// Turns of a task in one go; then the other tasks of a single-threaded executor get theirs.
const TURNS: u32 = 16;

/// A task for an executor.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The executor of the embedding program.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<dyn Fn(BoxFuture) + Send + Sync>);

impl Spawner {
    pub(crate) fn new(spawn: impl Fn(BoxFuture) + Send + Sync + 'static) -> Self {
        Self(Arc::new(spawn))
    }

    /// Runs a future to its end. Its death is nobody else's.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        (self.0)(Box::pin(async {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!("a task of the adapter died");
            }
        }));
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner")
    }
}

/// Tasks that end when this is dropped.
#[derive(Debug)]
pub(crate) struct JoinSet {
    spawner: Spawner,
    /// Closed to end the tasks.
    abort: async_channel::Sender<Infallible>,
    aborted: async_channel::Receiver<Infallible>,
    /// Closed when the last task is gone.
    alive: Option<async_channel::Sender<Infallible>>,
    gone: async_channel::Receiver<Infallible>,
}

impl JoinSet {
    pub(crate) fn new(spawner: Spawner) -> Self {
        let (abort, aborted) = async_channel::bounded(1);
        let (alive, gone) = async_channel::bounded(1);
        Self {
            spawner,
            abort,
            aborted,
            alive: Some(alive),
            gone,
        }
    }

    pub(crate) fn spawn<T>(&self, future: impl Future<Output = T> + Send + 'static) {
        let (aborted, alive) = (self.aborted.clone(), self.alive.clone());
        self.spawner.spawn(async move {
            let aborted = async {
                let _ = aborted.recv().await;
            };
            let whole = async {
                let _ = future.await;
            };
            or(aborted, whole).await;
            // Only now, so that what the future held is gone before.
            drop(alive);
        });
    }

    pub(crate) fn abort_all(&self) {
        self.abort.close();
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn join_all(mut self) {
        self.join().await;
    }

    /// Ends all tasks and waits for that.
    pub(crate) async fn shutdown(&mut self) {
        self.abort_all();
        self.join().await;
    }

    async fn join(&mut self) {
        self.alive = None;
        // Nothing is ever sent.
        let _ = self.gone.recv().await;
    }
}

/// Runs what blocks on a thread for that; to its end, also if nobody waits for it.
pub(crate) fn spawn_blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let task = blocking::unblock(|| catch_unwind(AssertUnwindSafe(job)));
    JoinHandle(Some(task))
}

/// Waits for a blocking job; an error is its panic.
pub(crate) struct JoinHandle<T>(Option<blocking::Task<thread::Result<T>>>);

impl<T> Future for JoinHandle<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &mut self.0 else { return Poll::Pending };
        let result = ready!(task.poll(cx));
        self.0 = None;
        Poll::Ready(result)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// What a task without end has left of its turns.
#[derive(Default, Debug)]
pub(crate) struct Budget(u32);

impl Budget {
    /// Uses one turn up.
    pub(crate) async fn consume(&mut self) {
        self.0 = (self.0 + 1) % TURNS;
        if self.0 == 0 {
            yield_now().await;
        }
    }
}
