//! What of the limiter's doings a person should hear of, once when it happens.
//!
//! The limiter says it among its outputs and leaves the words to the shell.

use std::collections::VecDeque;
use std::time::Duration;

/// Notices kept for a shell that does not take them: what happened last. One call makes two at most.
const KEPT_MAX: usize = 16;

/// An event of a guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Discord refuses a token: its requests are answered 401 from here for `wait`, then one finds out.
    TokenLocked {
        /// The bot's user id; `None` if its token does not tell it.
        user_id: Option<u64>,
        /// How long.
        wait: Duration,
        /// Discord was asked about it; if not, it has answered 401 several times and nothing else.
        confirmed: bool,
    },
    /// A token that was locked works.
    TokenWorks {
        /// The bot's user id; `None` if its token does not tell it.
        user_id: Option<u64>,
    },
    /// A webhook is gone: requests to it are answered 404 from here for `wait`.
    WebhookDead {
        /// Its id; `None` if it is not known.
        id: Option<u64>,
        /// How long.
        wait: Duration,
    },
    /// Cloudflare blocks the egress address: everything is refused for `wait`, then one request finds out.
    Blocked {
        /// How long.
        wait: Duration,
        /// That request was blocked, too.
        again: bool,
    },
    /// Discord answers again.
    Unblocked,
    /// So many invalid answers came within ten minutes that a further threshold of the budget is reached.
    Budget {
        /// The threshold, in percent: 10, 50, 80 or 100.
        percent: u8,
        /// The answers.
        invalid: u32,
    },
    /// The budget of invalid requests is hardly touched any more.
    BudgetCalm,
}

/// Notices that have not been taken yet.
#[derive(Debug, Default)]
pub(super) struct Notices(VecDeque<Notice>);

impl Notices {
    pub(super) fn push(&mut self, notice: Notice) {
        if self.0.len() >= KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(notice);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }
}
