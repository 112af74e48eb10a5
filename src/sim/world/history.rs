//! What happened before something was wrong.

use super::World;
use crate::limit::Answer;
use crate::sim::api::Request;
use crate::sim::subject::Subject;

/// Events kept for the report of a failure.
const HISTORY: usize = 50_000;

impl<S: Subject> World<S> {
    /// What happened around a bot's channel before something was wrong, one line an event.
    pub(in crate::sim) fn history(&self, bot: u64, major: u64) -> String {
        let here = |request: &Request| (request.bot, request.major) == (bot, major);
        let lines = self.history.iter().filter(|line| here(&line.1));
        lines.fold(String::new(), |all, (at, request, what, answer)| {
            let us = at.as_nanos() / 1_000;
            let answer = answer.map_or(String::new(), |answer| {
                let h = answer.headers;
                let (remaining, limit, reset) = (h.remaining, h.limit, h.reset_after);
                format!("{} {remaining:?}/{limit:?} {reset:?}", answer.status)
            });
            let Request { id, route, .. } = request;
            all + &format!("{us} #{id} route {route} {what} {answer}\n")
        })
    }

    pub(super) fn note(&mut self, id: u64, what: &'static str, answer: Option<Answer>) {
        if self.discord.complaint.is_none() {
            let request = self.clients[id as usize].asked.request;
            self.history.push_back((self.now, request, what, answer));
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
    }
}
