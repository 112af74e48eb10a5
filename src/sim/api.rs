//! What the model's Discord offers and what may go wrong with it: routes, their rules, requests.

use crate::clock::Instant;
use std::time::Duration;

/// How a bucket counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// Leaks one slot each `period / limit`.
    Sliding { limit: u16, period: Duration },
    /// All slots return at the end of a window that begins with its first request.
    Fixed { limit: u16, period: Duration },
    /// No bucket, no headers.
    Free,
}

impl Rule {
    pub(super) const fn sliding(limit: u16, period_ms: u64) -> Self {
        let period = Duration::from_millis(period_ms);
        Self::Sliding { limit, period }
    }

    pub(super) const fn fixed(limit: u16, period_ms: u64) -> Self {
        let period = Duration::from_millis(period_ms);
        Self::Fixed { limit, period }
    }

    /// The shortest time in which `count` requests of one full bucket can be counted.
    pub(super) fn shortest(self, count: u64) -> Duration {
        let after = |limit: u16| count.saturating_sub(u64::from(limit)) as u32;
        match self {
            Self::Sliding { limit, period } => period / u32::from(limit) * after(limit),
            Self::Fixed { limit, period } => period * after(limit).div_ceil(u32::from(limit)),
            Self::Free => Duration::ZERO,
        }
    }
}

/// By which token a route is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Bot,
    /// The major parameter's; exempt from the global limit.
    Webhook,
    /// As a webhook's, and never judged.
    Interaction,
}

/// One route of the model's API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) rule: Rule,
    /// Routes of one name share a counter (per bot and major), unless they count alone.
    pub(super) name: u64,
    pub(super) alone: bool,
    /// A method that changes something.
    pub(super) serial: bool,
    pub(super) token: Token,
    /// Routes of one path differ in their method.
    pub(super) path: u64,
    /// Of 1,000 requests, so many meet a limit that others used up.
    pub(super) shared_permille: u64,
    /// Of 1,000 requests, so many touch a field with its own hidden limit (2 in 10 minutes).
    pub(super) hidden_permille: u64,
    /// Of 1,000 answers, so many have no limit headers.
    pub(super) bare_permille: u64,
    /// Its headers say anything, as those of emoji routes do.
    pub(super) unreliable: bool,
    /// Of 1,000 requests, so many are refused without a word of how long.
    pub(super) unexplained_permille: u64,
    /// Of 1,000 answers, so many have limit headers that make no sense.
    pub(super) absurd_permille: u64,
    /// Of 1,000 answers, so many have a `Reset-After` of a hundred years.
    pub(super) hundred_years_permille: u64,
    /// Used through API v6 or v7, whose waits are in milliseconds.
    pub(super) old_version: bool,
    /// Its `Reset` and `Reset-After` are in whole seconds, rounded up.
    pub(super) whole_seconds: bool,
    /// An interaction's request that carries its bot's token too, and is counted for it.
    pub(super) needless_authorization: bool,
    /// Somebody else uses it up.
    pub(super) used_up: Option<UsedUp>,
    /// Discord changes it, without a word.
    pub(super) change: Option<Change>,
}

/// At `from`, all slots are gone; those of a fixed window return at `until`.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsedUp {
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// The refusals say how long, and nothing of the bucket.
    pub(super) bare: bool,
}

/// From `at` on, a route counts by `rule`, under `name`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) at: Instant,
    pub(super) rule: Rule,
    pub(super) name: u64,
}

impl Route {
    pub(super) const fn new(rule: Rule, name: u64) -> Self {
        Self {
            rule,
            name,
            alone: false,
            serial: false,
            token: Token::Bot,
            path: name,
            shared_permille: 0,
            hidden_permille: 0,
            bare_permille: 0,
            unreliable: false,
            unexplained_permille: 0,
            absurd_permille: 0,
            hundred_years_permille: 0,
            old_version: false,
            whole_seconds: false,
            needless_authorization: false,
            used_up: None,
            change: None,
        }
    }

    /// As Discord has it at `now`.
    pub(super) fn as_of(self, now: Instant) -> Self {
        match self.change.filter(|change| change.at <= now) {
            None => self,
            Some(Change { rule, name, .. }) => Self { rule, name, ..self },
        }
    }

    /// Whether it changed after `since` and no later than `now`.
    pub(super) fn changed(&self, since: Instant, now: Instant) -> bool {
        self.change.is_some_and(|c| since < c.at && c.at <= now)
    }

    pub(super) const fn serial(self) -> Self {
        Self {
            serial: true,
            ..self
        }
    }
}

/// A request as it arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) bot: u64,
    pub(super) major: u64,
    pub(super) route: usize,
    pub(super) touches_hidden: bool,
    /// Its client would rather be refused than wait longer.
    pub(super) max_wait: Option<Duration>,
}

/// Where a limiter stands towards a route: what it knows there, another bot or channel knows not.
pub(super) type Place = (u64, u64, usize);

impl Request {
    pub(super) const fn place(&self) -> Place {
        (self.bot, self.major, self.route)
    }
}

/// What goes wrong in a run; nothing by default. Of `every` n-th, 0 means none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// Of 1,000 requests, so many are followed by one of somebody else who uses the same token.
    pub(super) foreign_permille: u64,
    /// After so many of 1,000 requests the server's clock is set, by seconds.
    pub(super) step_permille: u64,
    /// Of 1,000 answers, so many come from a server whose clock is 2 s off.
    pub(super) skew_permille: u64,
    /// Of 1,000 answers, so many have no limit headers.
    pub(super) bare_permille: u64,
    /// Of 1,000 answers, so many are a failing server's.
    pub(super) failing_permille: u64,
    /// Of 1,000 requests with a token that works, so many are answered with a 401.
    pub(super) hiccup_permille: u64,
    /// Cloudflare blocks from then to then.
    pub(super) blocked: Option<(Instant, Instant)>,
    /// Whoever asks while it blocks is blocked for so long from then.
    pub(super) block_grows: Duration,
    /// Each so many-th bot's token is refused, from then on.
    pub(super) dead_bots_every: u64,
    pub(super) dead_from: Instant,
    /// Each so many-th webhook of a bot does not exist.
    pub(super) dead_webhooks_every: u64,
    /// In each so many-th channel of a bot it lacks permission.
    pub(super) forbidden_every: u64,
    /// The global limit counts by the clock's seconds.
    pub(super) global_by_clock: bool,
}

const fn nth(number: u64, every: u64) -> bool {
    every > 0 && number % every == every - 1
}

impl Trouble {
    /// Whether the bot's token is refused.
    pub(super) fn is_dead(&self, now: Instant, bot: u64) -> bool {
        nth(bot, self.dead_bots_every) && self.dead_from <= now
    }

    pub(super) const fn is_dead_webhook(&self, request: &Request) -> bool {
        nth(request.bot + request.major, self.dead_webhooks_every)
    }

    pub(super) const fn is_forbidden(&self, request: &Request) -> bool {
        nth(request.bot * 7 + request.major, self.forbidden_every)
    }

    /// Whether a request can never succeed, whatever the limits.
    pub(super) fn is_hopeless(&self, now: Instant, request: &Request, route: &Route) -> bool {
        match route.token {
            Token::Bot => self.is_dead(now, request.bot) || self.is_forbidden(request),
            Token::Webhook => self.is_dead_webhook(request),
            Token::Interaction => false,
        }
    }
}

/// Why the model refused with a 429.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// A bucket whose route was known to the limiter here: must not happen.
    Avoidable,
    /// Nobody could know: no answer of this route and major had come yet, or such a request had
    /// just taken a slot of a bucket that it was not known to share.
    FirstContact,
    /// A limit on what the body says, which no header tells.
    Hidden,
    /// Others used the resource up.
    Shared,
    /// Of a route whose headers say anything, or after an answer whose headers made no sense.
    Unreliable,
    /// Without a word of how long.
    Unexplained,
    /// After an answer of a server whose clock is wrong, or was set.
    Clock,
    /// Somebody else's use of the same token took the slot.
    Foreign,
    /// Discord had changed the limit, and no answer since had come.
    Changed,
    /// More than the global limit: must not happen.
    Global,
}
