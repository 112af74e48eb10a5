//! What the world asks of a limiter, ours or a reference.

use super::api::{Request, Route};
use crate::clock::Instant;
use crate::limit::{Answer, Census};
use std::time::Duration;

/// A request as a limiter is asked for it. Copied, since it is small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) route: Route,
    /// How often it was sent since its client asked.
    pub(super) sends: u32,
}

/// The limiter's process ends and starts again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    pub(super) at: Instant,
    /// From the last answer to the first request.
    pub(super) down: Duration,
    /// What was learned is written down and read again.
    pub(super) kept: bool,
}

/// What a limiter wants done, in this order.
#[derive(Debug)]
pub(super) enum Action {
    /// The request of this number goes.
    Send(u64),
    /// It is refused; with the wait that its client is told, if asking again makes sense.
    Refuse(u64, Option<Duration>),
    /// Ask whether this bot's token is valid.
    Confirm(u64),
}

/// Who sees an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Client,
    /// The limiter keeps the request and sends it again.
    Again,
}

/// A limiter under test. Time goes forward; every request that waits is sent, refused or cancelled.
pub(super) trait Subject {
    fn ask(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>);
    fn answered(
        &mut self,
        now: Instant,
        asked: &Asked,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) -> Fate;
    /// No answer will come to a request that was sent.
    fn lost(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>);
    /// The client of a waiting request left.
    fn leaves(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>);
    /// What [`Action::Confirm`] asked for.
    fn confirmed(&mut self, _now: Instant, _bot: u64, _valid: bool) {}
    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>);
    /// Its process ends, with nobody waiting and nothing under way, and another one starts `down` later.
    fn restart(&mut self, _now: Instant, _restart: &Restart) {}
    /// When to tick; after a tick it lies ahead.
    fn deadline(&self) -> Option<Instant>;
    /// What it holds, if it can tell.
    fn census(&self, _now: Instant) -> Option<Census> {
        None
    }
}
