//! What the limiter's guards do, in words: one line for each event, with what to do about it.
//!
//! One board for all workers, so that what concerns the process is said once. Events that strangers can
//! cause at will (a token that never worked, a webhook that never was) are said as often as a person can
//! read and counted beyond that.

use std::time::Duration;

use crate::clock::{self, Instant, Utc};
use crate::io::seldom::SharedSeldom;
use crate::limit::Notice;

/// Tokens, and webhooks, that are told of within half a minute: a fleet's bad day, not its log's.
const BURST: u32 = 10;

/// Says what happens to the limits of one process.
pub struct Board {
    locked: SharedSeldom,
    works: SharedSeldom,
    dead: SharedSeldom,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            locked: SharedSeldom::with_burst(BURST),
            works: SharedSeldom::with_burst(BURST),
            dead: SharedSeldom::with_burst(BURST),
        }
    }
}

/// An id as it stands in a line.
fn shown(id: Option<u64>) -> String {
    id.map_or_else(|| "unknown".to_owned(), |id| id.to_string())
}

/// When a wait that begins now is over.
fn until(wait: Duration) -> Utc {
    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Utc(clock::unix_ms().saturating_add(wait))
}

impl Board {
    /// Says it.
    #[cold]
    pub fn post(&self, now: Instant, notice: &Notice) {
        match *notice {
            Notice::TokenLocked {
                user_id,
                wait,
                confirmed,
            } => {
                if let Some(unsaid) = self.locked.happened(now) {
                    tracing::warn!(
                        bot = shown(user_id),
                        until = %until(wait),
                        confirmed,
                        unsaid,
                        "Discord refuses this bot's token (401): its requests are answered 401 from here \
                         until one is let through to try again; give the bot a token that works, or take \
                         it out of service. DELETE /admin/locks/tokens/<bot> has it tried at once"
                    );
                }
            }
            Notice::TokenWorks { user_id } => {
                if let Some(unsaid) = self.works.happened(now) {
                    tracing::info!(bot = shown(user_id), unsaid, "this bot's token works again");
                }
            }
            Notice::WebhookDead { id, wait } => {
                if let Some(unsaid) = self.dead.happened(now) {
                    tracing::warn!(
                        webhook = shown(id),
                        until = %until(wait),
                        unsaid,
                        "this webhook is gone (404, code 10015): requests to it are answered 404 from \
                         here; have whoever uses it stop, since Discord restricts who goes on"
                    );
                }
            }
            Notice::Blocked { wait, again } => tracing::error!(
                until = %until(wait),
                again,
                "Cloudflare blocks this egress address: every request is refused until then, and one is \
                 sent to see whether it has ended; look for what caused 10,000 invalid requests (401, \
                 403, 429) in 10 minutes: weir_invalid_requests_total, ACCESS_LOG=errors, and whatever \
                 else sends from this address"
            ),
            Notice::Unblocked => {
                tracing::info!("Cloudflare's block of this egress address has ended");
            }
            Notice::Budget { percent, invalid } => budget(percent, invalid),
            Notice::BudgetCalm => tracing::info!(
                "invalid requests are rare again: nobody is held back for them any more"
            ),
        }
    }
}

/// A threshold of the budget of invalid requests.
fn budget(percent: u8, invalid: u32) {
    const LOOK: &str = "weir_invalid_requests_total and ACCESS_LOG=errors show whose they are";
    match percent {
        ..50 => tracing::warn!(
            invalid,
            "invalid requests (401, 403, 429) have used 10 % of the 10,000 in 10 minutes that ban this \
             egress address: routes that draw them again and again are asked at pauses from here; {LOOK}"
        ),
        50..80 => tracing::warn!(
            invalid,
            "invalid requests have used half of the 10,000 that ban this egress address: who causes \
             more than its share is held back on those routes; {LOOK}"
        ),
        80..100 => tracing::error!(
            invalid,
            "invalid requests have used 80 % of the 10,000 that ban this egress address: everybody who \
             drew one is held back on those routes; stop whoever causes them, {LOOK}"
        ),
        100.. => tracing::error!(
            invalid,
            "invalid requests have used all that is safe of the 10,000 that ban this egress address: \
             everything is refused until some are 10 minutes old; stop whoever causes them, {LOOK}"
        ),
    }
}
