//! Says once that the other side cannot be reached, why, and what to look at; and once that it can
//! again. An outage under load must not fill the log, nor must one that comes and goes.
//!
//! One for all workers: shared by those who connect to the same place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::error::{Error, Kind};

/// What ends and comes back more often is one outage.
const PAUSE: Duration = Duration::from_secs(30);

/// Whom it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Whom {
    /// The upstream.
    #[default]
    Upstream,
    /// Another node of the cluster.
    Node,
}

/// Whether connections to one place can be opened, as far as it was told.
#[derive(Default)]
pub struct Outage {
    whom: Whom,
    /// One failed since the last one that did not; spares others the lock.
    out: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Attempts that failed since it was told last.
    failed: u64,
    /// When the outage was told of; `None` once its end was.
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Outage {
    /// Nothing has failed yet.
    pub fn of(whom: Whom) -> Self {
        Self {
            whom,
            ..Self::default()
        }
    }

    /// A connection to `place` was opened, or could not be.
    pub fn note(&self, now: Instant, place: &str, outcome: Result<(), &Error>) {
        match outcome {
            Ok(()) => {
                if self.out.load(Ordering::Acquire) {
                    self.ended(place);
                }
            }
            Err(error) => self.failed(now, place, error),
        }
    }

    #[cold]
    fn ended(&self, place: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.out.store(false, Ordering::Release);
        if told.since.take().is_none() {
            return;
        }
        let failed = std::mem::take(&mut told.failed);
        match self.whom {
            Whom::Upstream => {
                tracing::info!(
                    upstream = place,
                    failed,
                    "the upstream can be reached again"
                );
            }
            Whom::Node => {
                tracing::info!(
                    node = place,
                    failed,
                    "this node of the cluster can be reached again"
                );
            }
        }
    }

    #[cold]
    fn failed(&self, now: Instant, place: &str, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.out.store(true, Ordering::Release);
        told.failed += 1;
        let lately = |last| now.saturating_duration_since(last) < PAUSE;
        if told.since.is_some() || told.last.is_some_and(lately) {
            return;
        }
        (told.since, told.last) = (Some(now), Some(now));
        let failed = told.failed;
        match self.whom {
            Whom::Upstream => tracing::warn!(
                upstream = place,
                %error,
                failed,
                "the upstream cannot be reached: {}",
                hint(error)
            ),
            Whom::Node => tracing::warn!(
                node = place,
                %error,
                failed,
                "this node of the cluster cannot be reached: its requests go to the next owner, or are \
                 served here; look whether it runs, and whether its proxy's port can be reached from here"
            ),
        }
    }
}

/// What to look at.
fn hint(error: &Error) -> &'static str {
    if matches!(error.os_code(), Some(libc::EMFILE | libc::ENFILE)) {
        return "descriptors have run out; LimitNOFILE or ulimit -n allows more";
    }
    match error.kind {
        Kind::Dns => "its name has no address; look at UPSTREAM_URL and this host's resolver",
        Kind::TlsCertificate => {
            "its certificate is not to be trusted; look at this host's clock, at UPSTREAM_CA_FILE, and \
             at whoever sits in between"
        }
        Kind::TlsHandshake => "it does not speak TLS as expected; look at UPSTREAM_URL",
        Kind::ClientGone
        | Kind::ClientTimeout
        | Kind::BadRequest
        | Kind::HeadTooLarge
        | Kind::ConnectRefused
        | Kind::ConnectTimeout
        | Kind::ConnectFailed
        | Kind::ClosedBeforeAnswer
        | Kind::Reset
        | Kind::GarbageAnswer
        | Kind::AnswerTimeout
        | Kind::BodyTruncated
        | Kind::Draining
        | Kind::Full => {
            "requests get 502 until it can; look at this host's network, its firewall and OUTBOUND_IP"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Instant {
        Instant::from_millis(s * 1_000)
    }

    /// How often it was told of, by whether an outage is known.
    fn known(outage: &Outage) -> bool {
        outage.told.lock().unwrap().since.is_some()
    }

    #[test]
    fn an_outage_is_told_of_once_and_one_that_comes_and_goes_no_oftener_than_that() {
        let outage = Outage::default();
        let refused = Error::new(Kind::ConnectRefused);
        outage.note(s(100), "a", Ok(()));
        assert!(!known(&outage));
        outage.note(s(100), "a", Err(&refused));
        assert!(known(&outage));
        outage.note(s(101), "a", Err(&refused));
        assert_eq!(outage.told.lock().unwrap().failed, 2);
        outage.note(s(102), "a", Ok(()));
        assert!(!known(&outage), "its end is told of");
        outage.note(s(103), "a", Err(&refused));
        assert!(!known(&outage), "not again so soon");
        outage.note(s(104), "a", Ok(()));
        outage.note(s(130), "a", Err(&refused));
        assert!(known(&outage));
        assert_eq!(
            outage.told.lock().unwrap().failed,
            2,
            "with what was not told of"
        );
    }
}
