//! Deadlines of sockets, pauses of tasks, and the one sleep of a worker.
//!
//! A worker has a single sleeping task. Everything that must happen at a time, the shard's timers
//! as well as every socket's deadline and every [`Pause`], sits in a timing wheel (32 bytes an entry, a few
//! nanoseconds to arm and disarm), and the task sleeps until the earliest of them. [`Alarm`] wakes
//! it when an earlier one is added.
//!
//! A deadline that passes does not cancel the operation it guards, because a cancelled read may
//! have completed and its bytes would be lost; it shuts the socket down, whereupon the operation
//! ends by itself and finds [`Armed::expired`] true.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::socket::{Half, shut_raw};
use crate::clock::{self, Instant};
use crate::limit::timer::{TimerKey, Wheel};

/// The armed deadlines of one worker's sockets.
#[derive(Clone)]
pub struct Deadlines {
    shared: Rc<Shared>,
}

struct Shared {
    wheel: RefCell<Wheel<Action>>,
    alarm: Rc<Alarm>,
    /// Who is to be woken; `None` once that has been done.
    pauses: RefCell<Slab<Option<Waker>>>,
}

/// What a passed deadline does.
#[derive(Clone, Copy)]
enum Action {
    Shut {
        /// Open as long as the [`Armed`] lives, since that borrows the socket's owner's scope and
        /// disarms when dropped.
        fd: RawFd,
        half: Half,
    },
    /// Wakes who lies here among the pauses.
    Wake(u32),
}

/// Ends at a time. An eighth of the state of monoio's `Sleep`, and a tenth of its work, for pauses of which
/// nearly all are dropped before they end; a millisecond late at the most.
#[must_use]
pub struct Pause {
    shared: Rc<Shared>,
    at: Instant,
    armed: Option<(TimerKey, u32)>,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let pause = &mut *self;
        let mut pauses = pause.shared.pauses.borrow_mut();
        let Some((_, place)) = pause.armed else {
            let place = pauses.insert(Some(cx.waker().clone()));
            // There are no more than connections.
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let wake = Action::Wake(place);
            let key = pause.shared.wheel.borrow_mut().insert(pause.at, wake);
            pause.armed = Some((key, place));
            pause.shared.alarm.ring_at(pause.at);
            return Poll::Pending;
        };
        match pauses.get_mut(place as usize) {
            Some(Some(waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Some(None) | None => Poll::Ready(()),
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some((key, place)) = self.armed {
            self.shared.wheel.borrow_mut().cancel(key);
            self.shared.pauses.borrow_mut().try_remove(place as usize);
        }
    }
}

/// One armed deadline; dropping it disarms.
#[must_use]
pub struct Armed {
    shared: Rc<Shared>,
    key: TimerKey,
}

impl Deadlines {
    /// No deadlines; `alarm` is told of each that is earlier than all before.
    pub fn new(now: Instant, alarm: Rc<Alarm>) -> Self {
        Self {
            shared: Rc::new(Shared {
                wheel: RefCell::new(Wheel::new(now)),
                alarm,
                pauses: RefCell::default(),
            }),
        }
    }

    /// Shuts `half` of `socket` at `at`, unless the returned guard is dropped before. The guard
    /// must not outlive the socket.
    pub fn arm(&self, socket: &impl AsRawFd, half: Half, at: Instant) -> Armed {
        let action = Action::Shut {
            fd: socket.as_raw_fd(),
            half,
        };
        let key = self.shared.wheel.borrow_mut().insert(at, action);
        self.shared.alarm.ring_at(at);
        Armed {
            shared: self.shared.clone(),
            key,
        }
    }

    /// [`Deadlines::arm`], `after` from now.
    pub fn arm_after(&self, socket: &impl AsRawFd, half: Half, after: Duration) -> Armed {
        self.arm(socket, half, clock::now() + after)
    }

    /// Ends `after` from now, when it is first waited for or later.
    pub fn pause(&self, after: Duration) -> Pause {
        self.pause_until(clock::now() + after)
    }

    /// Ends at `at`, or when it is first waited for after that.
    pub fn pause_until(&self, at: Instant) -> Pause {
        Pause {
            shared: self.shared.clone(),
            at,
            armed: None,
        }
    }

    /// Carries out every deadline that has passed.
    pub fn expire(&self, now: Instant) {
        let mut wheel = self.shared.wheel.borrow_mut();
        while let Some(action) = wheel.pop(now) {
            match action {
                // SAFETY: an `Armed` disarms when dropped and its contract forbids it to outlive the
                // socket, so the descriptor of an entry still in the wheel is open and the same.
                Action::Shut { fd, half } => unsafe { shut_raw(fd, half) },
                Action::Wake(place) => {
                    let mut pauses = self.shared.pauses.borrow_mut();
                    let waker = pauses.get_mut(place as usize).and_then(Option::take);
                    waker.inspect(Waker::wake_by_ref);
                }
            }
        }
    }

    /// When [`Deadlines::expire`] has something to do next.
    pub fn next(&self) -> Option<Instant> {
        self.shared.wheel.borrow().next_deadline()
    }
}

impl Armed {
    /// Disarms; true if the deadline had passed and the socket was shut.
    pub fn expired(self) -> bool {
        let disarmed = self.shared.wheel.borrow_mut().cancel(self.key);
        disarmed.is_none()
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.shared.wheel.borrow_mut().cancel(self.key);
    }
}

/// The alarm clock of a worker's one sleeping task.
#[derive(Default)]
pub struct Alarm {
    /// When the task will wake by itself.
    at: Cell<Option<Instant>>,
    /// Set by a ring that came while the task was not sleeping.
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    /// Wakes the task if it would sleep beyond `at`.
    pub fn ring_at(&self, at: Instant) {
        if self.at.get().is_none_or(|armed| at < armed) {
            self.ring();
        }
    }

    /// Wakes the task.
    pub fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Forgets whom to wake; the task is about to end.
    pub fn forget(&self) {
        *self.waker.borrow_mut() = None;
    }

    /// Sleeps until `at` or a ring, whichever is first. `on_sleep` is given the task's waker, so
    /// that other threads can end the sleep too; if it returns true there is work already.
    pub async fn sleep_until(&self, at: Option<Instant>, on_sleep: impl Fn(&Waker) -> bool) {
        let wait = at.map_or(IDLE, |at| {
            at.saturating_duration_since(clock::now()).min(IDLE)
        });
        self.at.set(at);
        let mut sleep = pin!(monoio::time::sleep(wait));
        poll_fn(|cx| {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            if self.rung.replace(false) || on_sleep(cx.waker()) {
                return Poll::Ready(());
            }
            sleep.as_mut().poll(cx)
        })
        .await;
        self.rung.set(false);
        self.at.set(Some(Instant::ZERO));
    }
}

/// How long the task sleeps when nothing at all is due: once a minute is no load, and bounds the
/// harm of a clock that was wrong.
const IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_pause_ends_at_its_time_wakes_once_and_leaves_nothing_behind() {
        let deadlines = Deadlines::new(clock::now(), Rc::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut pauses = [50, 50, 200].map(|ms| deadlines.pause(Duration::from_millis(ms)));
        for pause in &mut pauses {
            assert!(Pin::new(pause).poll(&mut cx).is_pending());
        }
        let [mut first, dropped, mut last] = pauses;
        drop(dropped);
        let early = clock::now() + Duration::from_millis(40);
        deadlines.expire(early);
        assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        deadlines.expire(early + Duration::from_millis(30));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(Pin::new(&mut first).poll(&mut cx).is_ready());
        assert!(Pin::new(&mut last).poll(&mut cx).is_pending());
        drop((first, last));
        assert!(deadlines.shared.wheel.borrow().is_empty());
        assert!(deadlines.shared.pauses.borrow().is_empty());
    }
}
