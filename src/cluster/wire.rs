//! What nodes send each other: envelopes, who may have sent them, and what is in them.
//!
//! ```text
//! 0xc3 'w'  version  kind │ time, ms  nonce │ body …  │ tag
//!   2 B       1 B    1 B  │   8 B      8 B  │         │ 16 B     (with a secret alone)
//! ```
//!
//! With `CLUSTER_SECRET` an envelope carries the sender's clock, a number used once and a tag over
//! all that stands before it; one without, or whose tag, clock or number is wrong, is ignored and
//! counted ([`Ignored`]). Without a secret any node that can reach the port can join: then the network
//! has to keep strangers out.
//!
//! The cryptography itself is handed in ([`Mac`]), so that this stays a pure codec with no
//! opinion on where it comes from. Numbers are little-endian. What is read is bounded by what came.

mod handover;
mod pass;
mod replay;

pub use handover::{HandOver, RECORDS_BYTES_MAX};
pub use pass::{PASS_BYTES, check_pass, make_pass};
pub use replay::{NONCES_MAX, Replays, SKEW_MAX};

/// What every envelope begins with.
const MAGIC: [u8; 2] = [0xc3, b'w'];
/// Goes up when older nodes must not read what newer ones send.
const VERSION: u8 = 1;
/// Set in the kind's byte when time, nonce and tag are there.
const SEALED: u8 = 0x80;
const HEAD_BYTES: usize = 4;
const STAMP_BYTES: usize = 16;
/// Bytes of a tag: half of a SHA-256, which RFC 2104 (5) calls enough.
pub const TAG_BYTES: usize = 16;
/// What an envelope adds to its body at most.
pub const ENVELOPE_BYTES_MAX: usize = HEAD_BYTES + STAMP_BYTES + TAG_BYTES;

/// A keyed hash over parts, one after the other.
pub trait Mac {
    /// Its first bytes.
    fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES];
}

/// What is in an envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A datagram of [`member`](super::member)'s.
    Gossip(&'a [u8]),
    /// What one node hands over to another.
    HandOver(Box<HandOver<'a>>),
}

/// An envelope's time and number; each is used once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The sender's wall clock, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Anything that no other envelope of the same minute has.
    pub nonce: u64,
}

/// Why an envelope is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ignored {
    /// It is none of weir's.
    Foreign,
    /// Another version of weir sent it, which this one does not understand.
    Version,
    /// It is one, and makes no sense.
    Malformed,
    /// There is a secret, and it carries no tag.
    Unsealed,
    /// It carries a tag, and there is no secret.
    NoSecret,
    /// The tag is of another secret, or something was changed.
    WrongTag,
    /// Its clock is too far from ours.
    Stale,
    /// It came before.
    Replayed,
    /// More came within a minute than are remembered, as [`NONCES_MAX`].
    TooMany,
}

impl Ignored {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Foreign,
        Self::Version,
        Self::Malformed,
        Self::Unsealed,
        Self::NoSecret,
        Self::WrongTag,
        Self::Stale,
        Self::Replayed,
        Self::TooMany,
    ];

    /// The reason's label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::Unsealed => "unsealed",
            Self::NoSecret => "no_secret",
            Self::WrongTag => "wrong_tag",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::TooMany => "too_many",
        }
    }

    /// What a person is to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Foreign => "something else than weir sends to CLUSTER_PORT: keep it away",
            Self::Version => {
                "that node runs another version of weir, which does not understand this one: bring both to \
                 the same"
            }
            Self::Malformed => {
                "it was damaged on its way, or no weir sent it; if that is a node, restart it with this \
                 node's version"
            }
            Self::Unsealed => "that node has no CLUSTER_SECRET: give it the same as this one's",
            Self::NoSecret => {
                "that node has a CLUSTER_SECRET, and this one has none: give it the same"
            }
            Self::WrongTag => {
                "that node's CLUSTER_SECRET is another than this one's: make them the same"
            }
            Self::Stale => {
                "that node's clock and this one's differ by more than 30 s: set both (NTP)"
            }
            Self::Replayed => {
                "a datagram came twice: the network repeats them, which does no harm, or somebody sends \
                 again what he has overheard"
            }
            Self::TooMany => {
                "more came within a minute than a cluster sends: look for who floods CLUSTER_PORT"
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gossip = 1,
    HandOver = 2,
}

/// Puts a body into an envelope, sealed if there is a secret.
pub fn seal(body: &Body<'_>, secret: Option<(&dyn Mac, Stamp)>, out: &mut Vec<u8>) {
    let start = out.len();
    let kind = match body {
        Body::Gossip(_) => Kind::Gossip,
        Body::HandOver(_) => Kind::HandOver,
    };
    let sealed = if secret.is_some() { SEALED } else { 0 };
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind as u8 | sealed]);
    if let Some((_, stamp)) = secret {
        out.extend_from_slice(&stamp.unix_ms.to_le_bytes());
        out.extend_from_slice(&stamp.nonce.to_le_bytes());
    }
    match body {
        Body::Gossip(bytes) => out.extend_from_slice(bytes),
        Body::HandOver(message) => message.encode(out),
    }
    if let Some((mac, _)) = secret {
        let tag = mac.tag(&[&out[start..]]);
        out.extend_from_slice(&tag);
    }
}

/// Opens an envelope; with a secret, one that was sealed with the same, at about `unix_ms`, and not
/// seen before.
///
/// # Errors
/// Why it is to be ignored.
pub fn open<'a>(
    envelope: &'a [u8],
    secret: Option<(&dyn Mac, &mut Replays)>,
    unix_ms: u64,
) -> Result<Body<'a>, Ignored> {
    let (head, rest) = envelope.split_first_chunk().ok_or(Ignored::Foreign)?;
    let [a, b, version, kind]: [u8; HEAD_BYTES] = *head;
    if [a, b] != MAGIC {
        return Err(Ignored::Foreign);
    }
    if version != VERSION {
        return Err(Ignored::Version);
    }
    let body = match (secret, kind & SEALED != 0) {
        (None, false) => rest,
        (None, true) => return Err(Ignored::NoSecret),
        (Some(_), false) => return Err(Ignored::Unsealed),
        (Some((mac, replays)), true) => {
            let (sealed, tag) = envelope.split_last_chunk().ok_or(Ignored::Malformed)?;
            if !same(&mac.tag(&[sealed]), tag) {
                return Err(Ignored::WrongTag);
            }
            let rest = sealed.get(HEAD_BYTES..).ok_or(Ignored::Malformed)?;
            let (stamp, body) = rest.split_first_chunk().ok_or(Ignored::Malformed)?;
            replays.admit(read_stamp(stamp), unix_ms)?;
            body
        }
    };
    match kind & !SEALED {
        1 => Ok(Body::Gossip(body)),
        2 => HandOver::decode(body).map(|message| Body::HandOver(Box::new(message))),
        // A kind that a newer weir added without harm to those who do not know it.
        _ => Err(Ignored::Version),
    }
}

fn read_stamp(bytes: &[u8; STAMP_BYTES]) -> Stamp {
    let both = u128::from_le_bytes(*bytes);
    Stamp {
        unix_ms: both as u64,
        nonce: (both >> 64) as u64,
    }
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8; TAG_BYTES], b: &[u8; TAG_BYTES]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests;
