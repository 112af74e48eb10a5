//! `STATE_FILE`: what the limiter learned, kept over a restart.
//!
//! ```text
//! start ── Kept::open ── seeds ──▶ keys ── Keeper::start ──▶ limiter
//!                                                               │ every minute, a few buckets at a time
//! end ◀── Keeper::finish: the last word ◀── Keeper's thread ◀───┘
//! ```
//!
//! A file that cannot be used is never fatal and never half used: it is told of in one line and set
//! aside. Whoever holds the lock beside it writes it, nobody else. What is in it, and what it tells
//! whoever reads it, stands in [`limit::snapshot`](crate::limit::snapshot).

mod claim;
mod file;

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use file::StateFile;

use claim::Claim;

use crate::clock;
use crate::error::StartError;
use crate::identify::Queues;
use crate::limit::snapshot::{Copying, Seal, Snapshot};
use crate::mesh::Mesh;
use crate::route::Keys;

/// How often the file is written while weir runs: a crash loses what was learned since, and asks
/// each bucket anew.
const PERIOD: Duration = Duration::from_secs(60);

/// The pause between two bites while workers run, so that copying a million buckets takes no more
/// than a tenth of a core: some 30 µs of copying, then this.
const BREATH: Duration = Duration::from_micros(300);

/// What an earlier process left.
pub struct Kept {
    file: StateFile,
    claim: Claim,
    snapshot: Option<Snapshot>,
}

impl Kept {
    /// Reads the file at `path`. What was not hashed with `seeds`, if they are given, means nothing.
    ///
    /// # Errors
    /// No file can be written there.
    pub fn open(path: &Path, seeds: Option<[u64; 4]>) -> Result<Self, StartError> {
        let file = StateFile::at(path).map_err(|source| StartError::StateFile {
            path: path.to_owned(),
            source,
        })?;
        let claim = Claim::lay(&file.lock());
        if let Some(holder) = claim.holder() {
            tracing::warn!(
                file = ?path,
                %holder,
                "STATE_FILE is another weir's: it is read, and not written from here until that one has ended; \
                 if it is no predecessor of this one, give each weir a file of its own"
            );
        }
        let broken = |why: &dyn std::error::Error| tell_broken(&file, &claim, why);
        let snapshot = match file.read() {
            Ok(None) => {
                tracing::info!(file = ?path, "no STATE_FILE yet: everything is learned anew");
                None
            }
            Ok(Some(bytes)) => {
                let probe = |kept| Keys::with_seeds(seeds.unwrap_or(kept)).probe();
                match Snapshot::open(&bytes, probe) {
                    Ok(snapshot) => Some(snapshot),
                    Err(why) => {
                        broken(&why);
                        None
                    }
                }
            }
            Err(error) => {
                broken(&error);
                None
            }
        };
        Ok(Self {
            file,
            claim,
            snapshot,
        })
    }

    /// The seeds under which the earlier process hashed, if anything of it is known.
    pub fn seeds(&self) -> Option<[u64; 4]> {
        Some(self.snapshot.as_ref()?.seal().seeds)
    }

    /// Teaches the limiter and the identify queue what is known.
    fn restore(self, mesh: &Mesh, queues: &Mutex<Queues>) -> Restored {
        let mut last_word = false;
        if let Some(snapshot) = self.snapshot {
            last_word = snapshot.seal().complete;
            let unix_ms = clock::unix_ms();
            let now = clock::now();
            let (starts, nobody_since) = snapshot.starts(now, unix_ms);
            let bots = starts.len();
            let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.restore(now, starts, nobody_since);
            drop(queues);
            let counts = snapshot.restore(mesh.limiter(), clock::now(), unix_ms);
            if counts.age == Duration::MAX {
                tracing::warn!(
                    "the clock was set back since STATE_FILE was written: what had a time in it is left out"
                );
            }
            tracing::info!(
                routes = counts.routes,
                buckets = counts.buckets,
                identities = counts.identities,
                identify_queues = bots,
                age = ?counts.age,
                complete = counts.complete,
                "restored from STATE_FILE"
            );
        }
        Restored {
            file: self.file,
            claim: self.claim,
            last_word,
        }
    }
}

/// What became of what an earlier process left.
struct Restored {
    file: StateFile,
    claim: Claim,
    /// The file says that nothing was sent after it was written.
    last_word: bool,
}

/// One line of what is wrong and what became of the file.
fn tell_broken(file: &StateFile, claim: &Claim, why: &dyn std::error::Error) {
    if let Some(holder) = claim.holder() {
        return tracing::warn!(
            file = ?file.path(),
            %holder,
            "STATE_FILE cannot be used here, so that everything is learned anew; it stays, being another's: {why}"
        );
    }
    match file.set_aside() {
        Ok(aside) => tracing::warn!(
            file = ?file.path(),
            set_aside = ?aside,
            "STATE_FILE cannot be used and is set aside, so that everything is learned anew: {why}; \
             delete the one set aside, or start the weir that wrote it"
        ),
        Err(error) => tracing::warn!(
            file = ?file.path(),
            "STATE_FILE cannot be used, so that everything is learned anew: {why}; \
             nor can it be set aside: {error}"
        ),
    }
}

/// Writes the file every minute, and once more at the end.
pub struct Keeper {
    book: Arc<Book>,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Teaches the limiter what was kept and starts the thread that writes. To be called before anything
    /// is sent: a file that claims to be the last word is replaced by one that does not, or a crash within
    /// the first minute would have the next process believe it.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        kept: Kept,
        mesh: Arc<Mesh>,
        queues: Arc<Mutex<Queues>>,
        seeds: [u64; 4],
        keys: &Keys,
    ) -> Result<Self, StartError> {
        let probe = keys.probe();
        let Restored {
            file,
            claim,
            last_word,
        } = kept.restore(&mesh, &queues);
        let book = Arc::new(Book {
            file,
            mesh,
            queues,
            seeds,
            probe,
            pen: Mutex::new(Pen {
                claim,
                ended: false,
            }),
        });
        if last_word {
            book.write(false, || ());
        }
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("weir-state".to_owned())
            .spawn({
                let book = book.clone();
                move || {
                    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PERIOD) {
                        let breathe = || thread::sleep(BREATH);
                        book.mesh.limiter().sweep_restored(clock::now(), breathe);
                        book.write(false, breathe);
                    }
                }
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            book,
            stop,
            thread: Some(thread),
        })
    }

    /// Something that writes the file now and says how many bytes it has.
    pub fn writer(&self) -> impl Fn() -> io::Result<usize> + Send + Sync + use<> {
        let book = self.book.clone();
        move || book.try_write(false, || thread::sleep(BREATH))
    }

    /// Writes the last word: nothing is sent any more.
    pub fn finish(mut self) {
        // The thread may have ended by a panic; then there is nothing to stop.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.book.write(true, || ());
    }
}

/// What is written, and where to.
struct Book {
    file: StateFile,
    mesh: Arc<Mesh>,
    queues: Arc<Mutex<Queues>>,
    seeds: [u64; 4],
    probe: u64,
    pen: Mutex<Pen>,
}

/// Held by whoever writes.
struct Pen {
    claim: Claim,
    /// The last word was written.
    ended: bool,
}

impl Book {
    fn write(&self, complete: bool, pause: impl Fn()) {
        let began = clock::now();
        match self.try_write(complete, pause) {
            Ok(bytes) => {
                let took = clock::now().saturating_duration_since(began);
                tracing::debug!(bytes, ?took, complete, "STATE_FILE written");
            }
            // It was said at the start; what is lost is lost at the end.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !complete => {
                tracing::debug!(%error, "STATE_FILE not written");
            }
            Err(error) => tracing::warn!(
                file = ?self.file.path(),
                %error,
                "STATE_FILE cannot be written: a restart would learn again what was learned since"
            ),
        }
    }

    fn try_write(&self, complete: bool, pause: impl Fn()) -> io::Result<usize> {
        let mut pen = self.pen.lock().unwrap_or_else(PoisonError::into_inner);
        if pen.ended {
            return Err(io::Error::other("weir has written its last word there"));
        }
        pen.ended = complete;
        if let Some(holder) = pen.claim.obstacle() {
            let kind = io::ErrorKind::ResourceBusy;
            return Err(io::Error::new(kind, format!("{holder} writes it")));
        }
        // In this order: what lies between the two readings makes waits longer and never shorter.
        let base = clock::now();
        let seal = Seal {
            seeds: self.seeds,
            probe: self.probe,
            saved_unix_ms: clock::unix_ms(),
            complete,
        };
        let mut bytes = 0;
        self.file.replace(|file| {
            let mut piece = Vec::new();
            let mut copying = Copying::begin(base, &seal, &mut piece);
            let starts = {
                let queues = self.queues.lock();
                queues.unwrap_or_else(PoisonError::into_inner).keep(base)
            };
            copying.starts(&starts, &mut piece);
            loop {
                let more = copying.next(self.mesh.limiter(), &mut piece);
                file.write_all(&piece)?;
                bytes += piece.len();
                piece.clear();
                if !more {
                    return Ok(());
                }
                pause();
            }
        })?;
        Ok(bytes)
    }
}
