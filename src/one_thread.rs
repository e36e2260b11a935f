//! A thread of its own for tasks that share one core.
//!
//! Of two tasks on one thread the one wakes the other for nothing; on two threads that is a call of the kernel, and what one
//! has in its core's cache the other has to fetch.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread that runs all tasks of its runtime, sockets and timers included, until this is dropped.
#[derive(Debug)]
pub(crate) struct OneThread {
    handle: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl OneThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // It is never sent: it ends when the other side is dropped.
            if runtime.block_on(stopped).is_err() {
                // What blocks is not waited for: reading a line, for instance.
                runtime.shutdown_background();
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { handle, _stop: stop })
    }

    /// Where to spawn tasks. A future that is blocked on by it runs where that is called.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn tasks_share_the_thread_and_whoever_blocks_keeps_their_own() {
        let one = OneThread::start("one").unwrap();
        let on = || async { thread::current().name().map(str::to_owned) };
        let (first, second) = (one.handle().spawn(on()), one.handle().spawn(on()));
        let all = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            (first.await.unwrap(), second.await.unwrap(), on().await)
        };
        let (first, second, here) = one.handle().block_on(all);
        assert_eq!((first.as_deref(), second.as_deref()), (Some("one"), Some("one")));
        assert_eq!(here, thread::current().name().map(str::to_owned));
    }

    #[test]
    fn dropping_it_ends_its_tasks() {
        let one = OneThread::start("one").unwrap();
        let (held, ended) = std::sync::mpsc::channel::<()>();
        drop(one.handle().spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        drop(one);
        // The task is gone, and with it what it held.
        assert!(ended.recv().is_err());
    }
}
