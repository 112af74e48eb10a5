//! What can be seen of identities.

use super::{Identities, NONE};
use crate::clock::Instant;
use crate::limit::survey::{SenderSight, TokenSight};
use crate::limit::token::Token;

impl Identities {
    /// Identities that are tracked.
    pub(in crate::limit) fn counts_tracked(&self) -> usize {
        self.arena.len()
    }

    /// Shows each identity of the places from `from`, `batch` of them; and where to go on.
    pub(in crate::limit) fn survey(
        &self,
        now: Instant,
        from: u32,
        batch: u32,
        mut show: impl FnMut(SenderSight),
    ) -> Option<u32> {
        let (places, next) = self.arena.bite(from, batch);
        for identity in places.filter_map(|place| self.arena.get(place)) {
            show(SenderSight {
                key: identity.key,
                user_id: (identity.user_id != 0).then_some(identity.user_id),
                is_bearer: identity.bearer != NONE,
                limit: identity.window.limit(),
                used: identity.window.in_use(now),
                waiting: identity.line.len(),
                under_way: identity.in_flight,
                paused: identity.paused_until.saturating_duration_since(now),
                token: match identity.token {
                    Token::Good | Token::Trusted(_) => TokenSight::Good,
                    Token::Doubtful { .. } => TokenSight::Doubtful,
                    Token::Locked { until, .. } => {
                        TokenSight::Locked(until.saturating_duration_since(now))
                    }
                    Token::Probing { .. } => TokenSight::Locked(std::time::Duration::ZERO),
                },
            });
        }
        next
    }
}
