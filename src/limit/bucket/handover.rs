//! A bucket of which two nodes know something.

use super::{Bucket, Kind, tick};
use crate::clock::Instant;

impl Bucket {
    /// Of what is known here and what another node knew (of the same time), whatever lets fewer
    /// requests go: the same server counted for both. Who is under way and who waits stays.
    pub(in crate::limit) fn stricter(&mut self, now: Instant, other: &Self) {
        self.paused_until = self.paused_until.max(other.paused_until);
        match (self.kind, other.kind) {
            (Kind::Lane, _) | (_, Kind::Lane) => return,
            // Nothing is known there that is not known here, but what was lost.
            (_, Kind::Fresh) => {
                self.hint(other.hinted);
                return;
            }
            (Kind::Free, Kind::Free) => return,
            (Kind::Fresh | Kind::Free, _) => self.learn_from(other),
            (Kind::Careful | Kind::Fixed | Kind::Sliding, Kind::Free) => return,
            (
                Kind::Careful | Kind::Fixed | Kind::Sliding,
                Kind::Careful | Kind::Fixed | Kind::Sliding,
            ) => self.tighten(now, other),
        }
        self.newest = tick(now);
    }

    /// What is known elsewhere of a bucket of which nothing is known here.
    fn learn_from(&mut self, other: &Self) {
        self.kind = other.kind;
        self.hinted = other.hinted;
        self.limit = other.limit;
        self.remaining = other.remaining;
        self.reset = self.reset.max(other.reset);
        self.slot_us = other.slot_us;
        self.window_ms = self.window_ms.max(other.window_ms);
        self.reset_server_ms = other.reset_server_ms;
        self.newest_route = other.newest_route;
        self.lost = self.lost.saturating_add(other.lost);
        for flag in [Self::GUESSED, Self::BARE, Self::RISING] {
            self.set(flag, other.is(flag));
        }
    }

    fn tighten(&mut self, now: Instant, other: &Self) {
        if self.kind != other.kind {
            self.kind = Kind::Careful;
        }
        self.limit = self.limit.min(other.limit);
        self.window_ms = self.window_ms.max(other.window_ms);
        if other.reset > now {
            if self.reset > now {
                self.remaining = self.remaining.min(other.remaining);
                self.lost = self.lost.max(other.lost);
            } else {
                self.remaining = other.remaining;
                self.lost = other.lost;
            }
            if other.reset > self.reset {
                self.reset = other.reset;
                self.reset_server_ms = other.reset_server_ms;
                self.newest_route = other.newest_route;
            }
            let guessed = self.is(Self::GUESSED) || other.is(Self::GUESSED);
            self.set(Self::GUESSED, guessed);
        }
        self.remaining = self.remaining.min(self.limit);
        // The shorter slot promises the next request later.
        self.slot_us = self.slot_us.min(other.slot_us);
        self.set(Self::RISING, false);
    }

    /// Somebody else may have used its slots who did not say: one request finds out.
    pub(in crate::limit) fn doubt(&mut self, now: Instant) {
        if self.may_have_changed(now) {
            self.ask_anew();
        }
    }
}
