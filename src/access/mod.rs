//! The access log: one line for each request, or for those that `ACCESS_LOG` takes, on stdout.
//!
//! ```text
//! worker 0 ── entry ─▶ lane 0 ┐
//! worker 1 ── entry ─▶ lane 1 ┼─▶ writer's thread: lines ─▶ stdout
//! worker n ── entry ─▶ lane n ┘   ten times a second, all that has come at once
//! ```
//! A worker puts what it knows into its lane, some 300 bytes under a lock that is hardly ever taken
//! by another, and goes on: lines are made and written by one thread. Where stdout cannot keep up the
//! lanes fill; what does not fit is dropped, counted, and said now and then; where it cannot be written at
//! all (its reader is gone, the disk is full) that is said instead. Off, it costs a request two comparisons.

mod entry;

pub use entry::{By, Entry, RequestId};

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::config::{AccessLog, LogFormat};
use crate::error::StartError;
use crate::io::Seldom;

/// Entries that wait in one worker's lane: a tenth of a second at 40,000 requests a second, a MiB.
const LANE_MAX: usize = 4_096;

/// How long the writer gathers before it writes again.
const GATHER: Duration = Duration::from_millis(100);

/// How lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Text or JSON.
    pub format: LogFormat,
    /// They go to the journal, which has times of its own, and priorities that are asked for.
    pub journal: bool,
}

/// The access log of one process. It ends when dropped, once what has come is written.
pub struct Access {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    takes: AccessLog,
    lanes: Box<[Lane]>,
    ending: AtomicBool,
    written: AtomicU64,
    dropped: AtomicU64,
}

/// What one worker has told, on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Lane(Mutex<Vec<Entry>>);

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Whole entries are put in and taken out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Access {
    /// Starts the writer; `None` if nothing is to be written.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        takes: AccessLog,
        style: Style,
        workers: usize,
    ) -> Result<Option<Self>, StartError> {
        if takes.is_off() {
            return Ok(None);
        }
        Self::start_to(takes, style, workers, io::stdout()).map(Some)
    }

    fn start_to(
        takes: AccessLog,
        style: Style,
        workers: usize,
        to: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            takes,
            lanes: (0..workers).map(|_| Lane::default()).collect(),
            ending: AtomicBool::new(false),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let writer = thread::Builder::new()
            .name("weir-access".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.write(style, to)
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }

    /// Has a request of `worker` written down, if it is one to be; `lot` is any number.
    pub fn tell(&self, worker: usize, lot: u64, entry: Entry) {
        if !self.shared.takes.takes(entry.is_error(), lot) {
            return;
        }
        let Some(lane) = self.shared.lanes.get(worker) else {
            return;
        };
        let mut lane = lane.lock();
        if lane.len() >= LANE_MAX {
            drop(lane);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = lane.is_empty();
        lane.push(entry);
        drop(lane);
        if first {
            self.wake();
        }
    }

    /// Lines written, and lines dropped.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.shared.written), of(&self.shared.dropped))
    }

    /// Writes what has come, and no more. To be called when nothing is told any more.
    pub fn finish(&self) {
        self.shared.ending.store(true, Ordering::Release);
        self.wake();
        let Some(writer) = &self.writer else {
            return;
        };
        // Not joined if stdout does not move: the end does not wait for whoever reads it.
        let until = clock::now() + FAREWELL;
        while !writer.is_finished() && clock::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn wake(&self) {
        if let Some(writer) = &self.writer {
            writer.thread().unpark();
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How long the end waits for the last lines to be taken.
const FAREWELL: Duration = Duration::from_millis(500);

impl Shared {
    /// The writer's thread.
    fn write(&self, style: Style, mut to: impl Write) {
        let (mut batch, mut lines) = (Vec::new(), String::new());
        let mut losses = Losses::default();
        loop {
            let ending = self.ending.load(Ordering::Acquire);
            let mut idle = true;
            for lane in &self.lanes {
                // The lane goes on in the memory of the last batch.
                std::mem::swap(&mut *lane.lock(), &mut batch);
                idle &= batch.is_empty();
                for entry in batch.drain(..) {
                    self.add(&entry, style, &mut lines);
                    if lines.len() >= WRITE_BYTES {
                        losses.note(self.flush(&mut lines, &mut to));
                    }
                }
            }
            losses.note(self.flush(&mut lines, &mut to));
            losses.say(self.dropped.load(Ordering::Relaxed));
            if ending {
                return;
            }
            if idle {
                thread::park();
            } else {
                // Not to be woken: the next line need not be alone.
                thread::sleep(GATHER);
            }
        }
    }

    fn add(&self, entry: &Entry, style: Style, lines: &mut String) {
        if style.journal {
            // sd-daemon(3): what the journal calls "info".
            lines.push_str("<6>");
        }
        match style.format {
            LogFormat::Text => entry.write_text(!style.journal, lines),
            LogFormat::Json => entry.write_json(lines),
        }
    }

    /// Writes the lines, or drops them.
    fn flush(&self, lines: &mut String, to: &mut impl Write) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let count = lines.bytes().filter(|&byte| byte == b'\n').count() as u64;
        let written = to.write_all(lines.as_bytes()).and_then(|()| to.flush());
        let counter = match written {
            Ok(()) => &self.written,
            // A closed pipe, a full disk: a log is no reason to stop serving.
            Err(_) => &self.dropped,
        };
        counter.fetch_add(count, Ordering::Relaxed);
        lines.clear();
        written
    }
}

/// Why lines were dropped, and how many of them somebody was told of.
#[derive(Default)]
struct Losses {
    /// What the last write failed with, since somebody was told.
    failed: Option<io::Error>,
    slow: Seldom,
    broken: Seldom,
    said: u64,
}

impl Losses {
    fn note(&mut self, written: io::Result<()>) {
        self.failed = written.err().or(self.failed.take());
    }

    /// Says, now and then, that so many were dropped in all.
    fn say(&mut self, dropped: u64) {
        if dropped <= self.said {
            return;
        }
        let seldom = match self.failed {
            Some(_) => &self.broken,
            None => &self.slow,
        };
        if seldom.happened(clock::now()).is_none() {
            return;
        }
        let lost = dropped - self.said;
        self.said = dropped;
        match self.failed.take() {
            None => tracing::warn!(
                dropped = lost,
                "lines of the access log were dropped: whoever reads stdout is too slow; \
                 ACCESS_LOG=errors or a fraction writes fewer"
            ),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => tracing::warn!(
                dropped = lost,
                "lines of the access log were dropped: whoever read stdout is gone; a restart gives it \
                 another reader, ACCESS_LOG=off spares the work"
            ),
            Some(error) => tracing::warn!(
                dropped = lost,
                "lines of the access log were dropped: stdout cannot be written: {error}"
            ),
        }
    }
}

/// Bytes of lines that are written at once: a pipe's worth.
const WRITE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
