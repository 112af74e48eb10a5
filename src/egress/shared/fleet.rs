//! The fleet as the rest of the process sees it.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::config::RedisSettings;
use crate::egress::hosts::HostKey;
use crate::metrics::FleetCounters as Counters;

use super::book::{Book, Rules, Verdict};
use super::driver::{self, Driver};
use super::keys;
use super::link::LinkError;

/// What an answer is given to.
pub(super) type Asker = Box<dyn FnOnce(Verdict) + Send>;

/// The caps that this process shares with others; one for the process.
pub struct Fleet {
    shared: Arc<Shared>,
    worker: Box<str>,
    ended: Mutex<Receiver<()>>,
}

/// What workers and the thread share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is something to do; only waited for while `State::asleep`.
    pub(super) wake: Condvar,
}

pub(super) struct State {
    pub(super) book: Book<Asker>,
    pub(super) stopping: bool,
    /// The thread waits for `Shared::wake`.
    pub(super) asleep: bool,
}

/// Why a fleet could not be started.
#[derive(Debug)]
pub enum FleetError {
    /// Redis does not let us in or is of no use; somebody has to change a setting.
    Redis {
        /// Where.
        address: String,
        /// Why.
        source: LinkError,
    },
    /// No thread is to be had.
    Thread(io::Error),
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis { address, source } => {
                let setting = source.setting();
                write!(f, "{setting}: Redis at {address} cannot be used: {source}")
            }
            Self::Thread(error) => write!(f, "a thread for Redis cannot be started: {error}"),
        }
    }
}

impl std::error::Error for FleetError {}

impl Fleet {
    /// Connects and starts the thread. A Redis that cannot be reached is no error: `REDIS_FAIL` holds
    /// until it can.
    ///
    /// # Errors
    /// Redis answers, but not in a way that will ever do: password, rights, database, a cluster; or no
    /// thread is to be had.
    pub fn start(settings: &RedisSettings) -> Result<Self, FleetError> {
        let chance = RandomState::new().build_hasher().finish();
        let worker = keys::worker(clock::unix_ms(), chance);
        let rules = Rules {
            fail: settings.fail,
            max_lifetime: settings.max_lifetime,
            patience: settings.timeout,
            introduction: driver::introduction(settings),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                book: Book::new(worker.clone(), rules),
                stopping: false,
                asleep: false,
            }),
            wake: Condvar::new(),
        });
        let mut driver = Driver::new(shared.clone(), settings.clone(), worker.clone(), chance);
        match driver.connect() {
            Err(source) if source.is_a_mistake() => {
                return Err(FleetError::Redis {
                    address: settings.address.to_string(),
                    source,
                });
            }
            Err(error) => driver.away(&error),
            Ok(()) => {}
        }
        let (sender, ended) = mpsc::channel();
        thread::Builder::new()
            .name("weir-redis".to_owned())
            .spawn(move || driver.run(sender))
            .map_err(FleetError::Thread)?;
        Ok(Self {
            shared,
            worker,
            ended: Mutex::new(ended),
        })
    }

    /// Asks for a place of `host`, of which all proxies together may have `cap`; 0 for any number.
    ///
    /// `answer` is called exactly once: here and now where nobody has to be asked, else from the thread
    /// that talks to Redis, within twice `REDIS_TIMEOUT`. It must not block. After [`Verdict::Granted`]
    /// the place is the asker's until it calls [`Fleet::give_back`], once. If `answer` panics, the place
    /// is given back.
    pub fn take(&self, host: &HostKey, cap: u32, answer: Box<dyn FnOnce(Verdict) + Send>) {
        let now = clock::now();
        let mut state = self.shared.lock();
        state.book.ask(now, host, cap, answer);
        self.shared.settle(state);
    }

    /// Gives back a place of `host` that was granted. Never blocks, and is never lost: if Redis is away
    /// it is told when it is back.
    pub fn give_back(&self, host: &HostKey) {
        let mut state = self.shared.lock();
        state.book.give_back(host);
        self.shared.settle(state);
    }

    /// Connections to `host` in the whole fleet, as far as known: those of this proxy now, and those of
    /// the others when this one last asked for a place.
    pub fn active(&self, host: &HostKey) -> u32 {
        self.shared.lock().book.active(host)
    }

    /// What was counted, and how it stands.
    pub fn counters(&self) -> Counters {
        self.shared.lock().book.counters()
    }

    /// The name that this proxy has in Redis.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Refuses whoever waits and whoever asks from now on (but for hosts without a cap), takes this
    /// proxy's counters out of Redis and ends the thread. To be called when connections have ended: what
    /// is still open is not counted any more. False if `deadline` was over before that was done; the
    /// thread then ends by itself.
    pub fn stop(&self, deadline: Duration) -> bool {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.book.close();
        }
        self.shared.wake.notify_all();
        self.shared.deliver();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(deadline) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a change from outside: wakes the thread if it has something to do, and gives the answers
    /// that are known.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let wake = state.asleep && (state.book.is_due() || state.book.is_waited_for());
        // One call is enough; the thread says so when it sleeps again.
        state.asleep &= !wake;
        let answers = state.book.has_answers();
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        if answers {
            self.deliver();
        }
    }

    /// Gives all answers that are known, without holding the lock.
    pub(super) fn deliver(&self) {
        loop {
            let Some(answer) = self.lock().book.poll_answer() else {
                return;
            };
            let (asker, verdict) = (answer.asker, answer.verdict);
            let given = catch_unwind(AssertUnwindSafe(|| asker(verdict)));
            // What panicked may have taken the place along, or dropped what would have given it back.
            if given.is_err() && verdict == Verdict::Granted {
                self.lock().book.give_back(&answer.host);
            }
        }
    }
}
