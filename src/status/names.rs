//! What the limiter's keys stand for.
//!
//! The limiter knows hashes alone. Whoever looks wants names: the route's label, the bot's user id, the
//! channel. They are told when a request has to wait, is refused for its token, is the first of its kind, or
//! is met while somebody looks: never on the way of an ordinary request.
//!
//! Tables are bounded by two generations: a full one becomes the old one, what is used is moved to the
//! new one, and the rest goes with the next change.

use std::collections::HashMap;

use ahash::RandomState;

use super::SenderKind;
use crate::route::Major;
use crate::route::identity::Client;

/// Routes of a generation: Discord has a few hundred, in some ten methods.
pub const ROUTES_MAX: usize = 4_096;

/// Senders of a generation.
pub const SENDERS_MAX: usize = 8_192;

/// Channels, guilds and others of a generation.
pub const MAJORS_MAX: usize = 8_192;

/// A route's name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouteName {
    /// The method of the request that told it, as the metrics name it.
    pub method: &'static str,
    /// The metrics' label.
    pub label: String,
}

/// A sender's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderName {
    /// What it is.
    pub kind: SenderKind,
    /// A bot's user id.
    pub user_id: Option<u64>,
}

/// What a limit is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MajorName {
    /// `channel`, `guild`, `webhook` or `interaction`; empty for none.
    pub kind: &'static str,
    /// The id; of channels and guilds alone.
    pub id: Option<u64>,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Names {
    routes: Generations<RouteName>,
    senders: Generations<SenderName>,
    majors: Generations<MajorName>,
}

impl Names {
    /// A route is called so. `key` is of [`BucketKey::route`](crate::route::BucketKey).
    pub fn route(&mut self, key: u64, method: &'static str, label: &str) {
        self.routes.learn(key, ROUTES_MAX, || RouteName {
            method,
            label: label.to_owned(),
        });
    }

    /// A sender is called so. `key` is of [`limit::survey::sender_key`](crate::limit::survey::sender_key).
    pub fn sender(&mut self, key: u64, name: SenderName) {
        self.senders.learn(key, SENDERS_MAX, || name);
    }

    /// A major parameter is called so. `key` is of [`BucketKey::major`](crate::route::BucketKey).
    pub fn major(&mut self, key: u64, major: &Major<'_>) {
        self.majors.learn(key, MAJORS_MAX, || MajorName::of(major));
    }

    /// Whether all three are known, and will be for a while.
    pub fn knows(&self, route: u64, sender: u64, major: u64) -> bool {
        self.routes.new.contains_key(&route)
            && self.senders.new.contains_key(&sender)
            && self.majors.new.contains_key(&major)
    }

    /// The route's name, if it is known.
    pub fn of_route(&mut self, key: u64) -> RouteName {
        self.routes.look(key, ROUTES_MAX).unwrap_or_default()
    }

    /// The sender's.
    pub fn of_sender(&mut self, key: u64) -> SenderName {
        self.senders.look(key, SENDERS_MAX).unwrap_or_default()
    }

    /// The major parameter's.
    pub fn of_major(&mut self, key: u64) -> MajorName {
        self.majors.look(key, MAJORS_MAX).unwrap_or_default()
    }
}

impl SenderName {
    /// Who sends with this `Authorization`.
    pub fn of(client: Client) -> Self {
        let (kind, user_id) = match client {
            Client::Bot(id) => (SenderKind::Bot, Some(id)),
            Client::Bearer => (SenderKind::Bearer, None),
            Client::NoAuth => (SenderKind::NoAuth, None),
            Client::Unknown => (SenderKind::Unknown, None),
        };
        Self { kind, user_id }
    }

    /// One whose token is in the path.
    pub fn in_path(kind: SenderKind) -> Self {
        Self {
            kind,
            user_id: None,
        }
    }
}

impl MajorName {
    fn of(major: &Major<'_>) -> Self {
        let (kind, id) = match major {
            Major::None => ("", None),
            Major::Channel(id) => ("channel", Some(*id)),
            Major::Guild(id) => ("guild", Some(*id)),
            Major::Webhook { .. } => ("webhook", None),
            Major::Interaction(_) => ("interaction", None),
        };
        let id = id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        Self { kind, id }
    }
}

/// A bounded table.
struct Generations<V> {
    new: HashMap<u64, V, RandomState>,
    old: HashMap<u64, V, RandomState>,
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Self {
            new: HashMap::default(),
            old: HashMap::default(),
        }
    }
}

impl<V: Clone> Generations<V> {
    fn learn(&mut self, key: u64, most: usize, value: impl FnOnce() -> V) {
        if !self.new.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_else(value);
            self.put(key, most, value);
        }
    }

    fn look(&mut self, key: u64, most: usize) -> Option<V> {
        if let Some(value) = self.new.get(&key) {
            return Some(value.clone());
        }
        let value = self.old.remove(&key)?;
        self.put(key, most, value.clone());
        Some(value)
    }

    fn put(&mut self, key: u64, most: usize, value: V) {
        if self.new.len() >= most {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value);
    }
}
