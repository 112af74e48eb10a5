//! What a snapshot is made of: small records, each of one thing that was learned.
//!
//! Times are microseconds from the snapshot: `left` ahead of it, `ago` before it. Keys are the
//! limiter's own mixes of keyed hashes. A change of what is here is a new
//! [`VERSION`](super::codec::VERSION).

use crate::limit::bucket::Kind;
use crate::limit::learn::is_lane_key;
use serde::{Deserialize, Serialize};

/// One thing that was learned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(in crate::limit) enum Record {
    Hint(HintRecord),
    /// A global limit that was found out.
    Limit {
        identity: u64,
        limit: u32,
    },
    Identity(IdentityRecord),
    /// Cloudflare blocks.
    Breaker {
        left_us: u64,
        blocks: u32,
    },
    /// Invalid answers within one step of the budget.
    Invalid {
        ago_us: u64,
        count: u32,
    },
    DeadWebhook {
        identity: u64,
        left_us: u64,
    },
    Offence(OffenceRecord),
    Bucket(BucketRecord),
    /// The last one; how many there were before.
    End {
        records: u64,
    },
    // From version 2 on. What is written is numbered by place, so that new ones come last.
    /// A bot's budget of starts at the gateway.
    Starts {
        bot: u64,
        max_concurrency: u32,
        total: u32,
        remaining: u32,
        reset_left_us: Option<u64>,
    },
    /// A shard of such a bot, before in the file, that was let go lately.
    Started {
        bot: u64,
        shard: u64,
        left_us: u64,
    },
}

/// Route → bucket's name, for everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::limit) struct HintRecord {
    pub(in crate::limit) key: u64,
    pub(in crate::limit) name: Option<u64>,
    pub(in crate::limit) kind: Code,
    pub(in crate::limit) alone: bool,
}

/// An identity's window, pause and token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::limit) struct IdentityRecord {
    pub(in crate::limit) key: u64,
    pub(in crate::limit) window: WindowRecord,
    pub(in crate::limit) paused_left_us: u64,
    pub(in crate::limit) used_ago_us: u64,
    pub(in crate::limit) token: TokenRecord,
    pub(in crate::limit) proven: bool,
}

/// The slots of a global window that are in use, by when they return.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in crate::limit) struct WindowRecord {
    pub(in crate::limit) returns: Vec<(u64, u16)>,
    pub(in crate::limit) margin_us: u32,
    pub(in crate::limit) margin_ago_us: u64,
}

/// What is believed of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::limit) enum TokenRecord {
    Good,
    Trusted {
        left_us: u64,
    },
    Doubtful {
        ask_left_us: u64,
        refused: u8,
    },
    Locked {
        left_us: u64,
        times: u32,
        confirmed: bool,
    },
}

/// Answers of 401 or 403 that somebody drew.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(in crate::limit) struct OffenceRecord {
    pub(in crate::limit) key: u64,
    pub(in crate::limit) weight: f32,
    pub(in crate::limit) streak: u32,
    pub(in crate::limit) unauthorized: bool,
    pub(in crate::limit) whole: bool,
    pub(in crate::limit) at_ago_us: u64,
    pub(in crate::limit) since_ago_us: u64,
}

/// A bucket or a lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::limit) struct BucketRecord {
    pub(in crate::limit) name_key: u64,
    /// Of a lane, its own key.
    pub(in crate::limit) route_key: u64,
    pub(in crate::limit) reset_left_us: u64,
    pub(in crate::limit) paused_left_us: u64,
    pub(in crate::limit) used_ago_us: u64,
    pub(in crate::limit) slot_us: u32,
    pub(in crate::limit) window_ms: u32,
    pub(in crate::limit) reset_server_ms: u32,
    pub(in crate::limit) newest_route: u32,
    pub(in crate::limit) limit: u16,
    pub(in crate::limit) remaining: u16,
    /// Sent and not answered.
    pub(in crate::limit) lost: u16,
    pub(in crate::limit) kind: Code,
    pub(in crate::limit) hinted: Code,
    pub(in crate::limit) flags: u8,
    pub(in crate::limit) more: Option<Box<More>>,
}

/// What few buckets have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in crate::limit) struct More {
    /// Routes beyond the first.
    pub(in crate::limit) routes: Vec<u64>,
    /// Of a lane: the names that its routes may turn out to have, and whether they are shared.
    pub(in crate::limit) suspects: Vec<(u64, bool)>,
}

impl BucketRecord {
    /// The keys of its routes.
    pub(in crate::limit) fn routes(&self) -> impl Iterator<Item = u64> {
        let more = self.more.as_deref().map(|more| more.routes.as_slice());
        let all = std::iter::once(self.route_key).chain(more.unwrap_or_default().iter().copied());
        all.filter(|&key| key != 0)
    }

    /// Whether weir could have written it: a lane has its own key alone and suspects others, and a
    /// bucket has keys of routes and a name.
    pub(in crate::limit) fn is_sound(&self) -> bool {
        let more = self.more.as_deref();
        match self.kind.0 {
            Kind::Lane => {
                let alone = self.name_key == 0 && more.is_none_or(|more| more.routes.is_empty());
                let mut suspects = self.suspects().iter().map(|&(name, _)| name);
                alone && is_lane_key(self.route_key) && !suspects.any(is_lane_key)
            }
            Kind::Fresh | Kind::Free | Kind::Careful | Kind::Fixed | Kind::Sliding => {
                self.suspects().is_empty() && !self.keys().any(is_lane_key)
            }
        }
    }

    /// All its keys.
    pub(in crate::limit) fn keys(&self) -> impl Iterator<Item = u64> {
        let name = (self.name_key != 0).then_some(self.name_key);
        name.into_iter().chain(self.routes())
    }

    /// Of a lane, the names that it suspects.
    pub(in crate::limit) fn suspects(&self) -> &[(u64, bool)] {
        self.more.as_deref().map_or(&[], |more| &more.suspects)
    }
}

/// A kind as one byte that stays the same however the enum is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(in crate::limit) struct Code(pub(in crate::limit) Kind);

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        match code.0 {
            Kind::Lane => 0,
            Kind::Fresh => 1,
            Kind::Free => 2,
            Kind::Careful => 3,
            Kind::Fixed => 4,
            Kind::Sliding => 5,
        }
    }
}

impl TryFrom<u8> for Code {
    type Error = &'static str;

    fn try_from(byte: u8) -> Result<Self, Self::Error> {
        Ok(Self(match byte {
            0 => Kind::Lane,
            1 => Kind::Fresh,
            2 => Kind::Free,
            3 => Kind::Careful,
            4 => Kind::Fixed,
            5 => Kind::Sliding,
            _ => return Err("no kind of bucket"),
        }))
    }
}
