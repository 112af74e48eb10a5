//! One thread of the forward proxy: a ring, a listener, its connections, and the one task that does
//! what is due.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use monoio::io::Canceller;
use monoio::net::TcpListener;

use super::accept;
use super::hub::Hub;
use super::registry::Registry;
use super::waits::Waits;
use crate::clock::{self, Instant};
use crate::io::deadline::{Alarm, Deadlines};
use crate::io::runtime::{Chosen, WorkerRuntime};
use crate::io::{Bell, Seldom};

/// How often connections are looked through, at the most and at the least: a second for what metrics
/// say, a tenth of a second so that a short idle timeout is not overdrawn.
const SWEEP_MAX: Duration = Duration::from_secs(1);
const SWEEP_MIN: Duration = Duration::from_millis(100);

/// How often an ending worker looks whether it can.
const END_CHECK: Duration = Duration::from_millis(10);

/// Such moments that cut connections get to end in: a second.
const CUT_CHECKS: u32 = 100;

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) hub: Arc<Hub>,
    pub(super) deadlines: Deadlines,
    pub(super) alarm: Rc<Alarm>,
    pub(super) registry: Rc<Registry>,
    pub(super) waits: Rc<Waits>,
    /// What is said now and then.
    pub(super) strangers: Seldom,
    pub(super) full: Seldom,
    pub(super) troubles: Seldom,
    accepting: RefCell<Canceller>,
    drained: Cell<bool>,
    /// Rung when nobody may wait any more.
    pub(super) refusing: Bell,
    ending: Cell<bool>,
}

/// Runs a worker on the calling thread until the proxy ends. `ready` is called once its runtime
/// stands.
///
/// # Errors
/// The runtime or the listener cannot be set up.
pub(super) fn run(
    index: usize,
    hub: Arc<Hub>,
    listener: std::net::TcpListener,
    driver: Chosen,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let mut runtime = WorkerRuntime::build(driver)?;
    ready();
    runtime.block_on(async move {
        listener.set_nonblocking(driver == Chosen::Epoll)?;
        let listener = TcpListener::from_std(listener)?;
        let now = clock::now();
        let alarm = Rc::new(Alarm::default());
        let worker = Rc::new(Worker {
            index,
            hub,
            deadlines: Deadlines::new(now, alarm.clone()),
            alarm,
            registry: Rc::default(),
            waits: Rc::default(),
            strangers: Seldom::default(),
            full: Seldom::default(),
            troubles: Seldom::default(),
            accepting: RefCell::default(),
            drained: Cell::new(false),
            refusing: Bell::default(),
            ending: Cell::new(false),
        });
        let ticker = monoio::spawn(tick(worker.clone()));
        let cancel = worker.accepting.borrow().handle();
        monoio::spawn(accept::run(worker.clone(), listener, cancel)).await;
        worker.ended().await;
        for (wait, word) in worker.hub.posts[index].close() {
            worker.waits.tell(wait, word);
        }
        worker.ending.set(true);
        worker.alarm.ring();
        ticker.await;
        Ok(())
    })
}

impl Worker {
    /// How often to look through the connections.
    fn sweep_every(&self) -> Duration {
        (self.hub.settings.idle_timeout / 8).clamp(SWEEP_MIN, SWEEP_MAX)
    }

    /// Waits until the connections have ended, or must.
    async fn ended(&self) {
        while self.registry.len() > 0 {
            if self.hub.is_aborting() {
                let count = self.registry.len();
                self.hub.cut.fetch_add(count, Ordering::Relaxed);
                tracing::warn!(connections = count, "forwarded connections are cut");
                for _ in 0..CUT_CHECKS {
                    self.registry.cut();
                    if self.registry.len() == 0 {
                        return;
                    }
                    monoio::time::sleep(END_CHECK).await;
                }
                return;
            }
            monoio::time::sleep(END_CHECK).await;
        }
    }

    fn deliver(&self) {
        for (wait, word) in self.hub.posts[self.index].take() {
            self.waits.tell(wait, word);
        }
    }

    /// Stops accepting, and ends those that wait for a request.
    fn drain(&self) {
        if !self.drained.replace(true) {
            let canceller = self.accepting.take();
            self.accepting.replace(canceller.cancel());
        }
        self.registry.end_idle();
    }
}

/// The ticker: does what is due, then sleeps until something is.
async fn tick(worker: Rc<Worker>) {
    let mut sweep = clock::now() + worker.sweep_every();
    while !worker.ending.get() {
        let now = clock::now();
        worker.deadlines.expire(now);
        if sweep <= now {
            worker.registry.sweep(now, worker.hub.settings.idle_timeout);
            sweep = now + worker.sweep_every();
        }
        // Only those who wait need anybody's deadline looked at.
        let waits: Option<Instant> = if worker.waits.is_empty() {
            None
        } else {
            worker.hub.expire_waits()
        };
        worker.deliver();
        if worker.hub.is_draining() && !worker.drained.get() {
            worker.drain();
        }
        if worker.hub.is_refusing() && !worker.refusing.is_rung() {
            worker.refusing.ring();
        }
        let has_connections = worker.registry.len() > 0;
        let next = [
            worker.deadlines.next(),
            waits,
            has_connections.then_some(sweep),
        ];
        let next = next.into_iter().flatten().min();
        let has_work = |waker: &Waker| {
            worker.hub.posts[worker.index].wake_by(waker)
                || worker.hub.is_draining() && !worker.drained.get()
                || worker.hub.is_refusing() && !worker.refusing.is_rung()
        };
        worker.alarm.sleep_until(next, has_work).await;
    }
    worker.alarm.forget();
}
