//! What shows a node that a connection is another node's.
//!
//! ```text
//! weir-pass: <time, number, tag over them and nirn-routed-to>     on a connection's first request
//! weir-pass: none                                                 the same without a secret
//! nirn-routed-to: <address of the node it is sent to>             on every relayed request
//! ```
//!
//! One pass holds for the connection it came first on: a keyed hash for each request would cost more
//! than it protects, since whoever can put bytes into that stream can read the tokens in it anyway. A
//! pass is good once, for half a minute, at the node it was made for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::secret::Secret;
use super::wire::{Ignored, Replays, Stamp, check_pass, make_pass};

/// The header's value where there is no secret.
const NONE: &[u8] = b"none";

/// Passes remembered of each minute: of 7,600 new connections a second from other nodes. One that finds
/// no room is refused, and whoever sent it takes this node for gone, so there is room for more than
/// nodes can well open; nobody else can fill it. Of two minutes, 18 MB at most, and as
/// much as there were.
const PASSES_MAX: usize = 458_752;

/// Makes and takes passes, for all workers.
pub struct Passes {
    secret: Option<Arc<Secret>>,
    replays: Mutex<Replays>,
    /// The next pass's number.
    next: AtomicU64,
}

impl Passes {
    /// Passes under this secret. `first` is a number that no other node, and no earlier run of this
    /// one, is likely to begin with.
    pub fn new(secret: Option<Arc<Secret>>, first: u64) -> Self {
        Self {
            secret,
            replays: Mutex::new(Replays::of(PASSES_MAX)),
            next: AtomicU64::new(first),
        }
    }

    /// Whether a node has to show one.
    pub const fn are_needed(&self) -> bool {
        self.secret.is_some()
    }

    /// A pass for the node called `node`, at `unix_ms`.
    pub fn make(&self, node: &[u8], unix_ms: u64, out: &mut Vec<u8>) {
        let Some(secret) = &self.secret else {
            return out.extend_from_slice(NONE);
        };
        let nonce = self.next.fetch_add(1, Ordering::Relaxed);
        let pass = make_pass(&**secret, Stamp { unix_ms, nonce }, &[node]);
        out.extend_from_slice(&pass);
    }

    /// Takes a pass that was made for `node`, at `unix_ms`. Without a secret every one is good.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, pass: &[u8], node: &[u8], unix_ms: u64) -> Result<(), Ignored> {
        let Some(secret) = &self.secret else {
            return Ok(());
        };
        // It is whole between any two statements.
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        check_pass(&**secret, &mut replays, unix_ms, pass, &[node])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClusterSecret;

    fn passes(secret_text: Option<&str>) -> Passes {
        let secret = |text| Arc::new(Secret::new(&ClusterSecret::new(text).unwrap()));
        Passes::new(secret_text.map(secret), 7)
    }

    fn pass(from: &Passes) -> Vec<u8> {
        let mut out = Vec::new();
        from.make(b"10.0.0.1:8080", 1_000_000, &mut out);
        out
    }

    #[test]
    fn a_pass_is_good_once_at_its_node_and_with_its_secret() {
        let (ours, theirs) = (
            passes(Some("hush, hush, hush")),
            passes(Some("hush, hush, hush")),
        );
        let shown = pass(&ours);
        let at = |node: &[u8]| theirs.check(&shown, node, 1_000_500);
        assert_eq!(at(b"10.0.0.2:8080"), Err(Ignored::WrongTag));
        assert_eq!(at(b"10.0.0.1:8080"), Ok(()));
        assert_eq!(at(b"10.0.0.1:8080"), Err(Ignored::Replayed));
        let other = pass(&passes(Some("hash, hash, hash")));
        assert_eq!(
            theirs.check(&other, b"10.0.0.1:8080", 1_000_000),
            Err(Ignored::WrongTag)
        );
        let late = theirs.check(&pass(&ours), b"10.0.0.1:8080", 1_031_000);
        assert_eq!(late, Err(Ignored::Stale));
        let none = pass(&passes(None));
        assert_eq!(
            theirs.check(&none, b"10.0.0.1:8080", 1_000_000),
            Err(Ignored::Malformed)
        );
    }

    #[test]
    fn a_minute_of_many_connections_leaves_room_for_more() {
        let (ours, theirs) = (
            passes(Some("hush, hush, hush")),
            passes(Some("hush, hush, hush")),
        );
        for n in 0..40_000 {
            assert_eq!(
                theirs.check(&pass(&ours), b"10.0.0.1:8080", 1_000_000),
                Ok(()),
                "{n}"
            );
        }
    }

    #[test]
    fn two_passes_differ_and_without_a_secret_each_is_good() {
        let ours = passes(Some("hush, hush, hush"));
        assert_ne!(pass(&ours), pass(&ours));
        let open = passes(None);
        assert_eq!(open.check(&pass(&ours), b"x", 0), Ok(()));
        assert_eq!(open.check(&pass(&open), b"x", 0), Ok(()));
    }
}
