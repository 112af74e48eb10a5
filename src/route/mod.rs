//! What limits a request: its route, its major parameter and its identity, read from method, path
//! and `Authorization`.
//!
//! A path becomes a **route text** by dropping `/api/v{N}` and the query and replacing ids by `!`
//! (`/channels/!/messages/!`). The text is the metrics label, named as nirn-proxy names it;
//! together with method and [`Class`] it is what separates limits. The **major** parameter is the
//! channel, guild or webhook id in front (Discord docs, topics/rate-limits), and the **identity**
//! is who is counted: `Authorization`, or a token in the path that stands in for it.
//!
//! Where nirn-proxy lumps or splits differently, this is the careful reading: `/channels/{id}` and
//! `/guilds/{id}/channels` stay per channel and guild, numbers of any length are ids, and words
//! longer than any of Discord's are replaced, so that a token can show nowhere.
//!
//! Paths are hostile: any bytes, any length. The text is bounded by [`ROUTE_TEXT_BYTES_MAX`] and
//! always printable ASCII; a longer path is the one route `/long`, one outside `/api` is `/other`.
//!
//! Cost: one pass over the path, no allocation; with identity and all keys 120 ns for a message,
//! 270 ns for a follow-up, whose token has to be decoded (`cargo bench --bench route`).

pub(crate) mod base64;
pub mod identity;
pub mod key;
mod path;
pub mod slot;
mod stable;
mod table;
mod template;

use std::fmt;

pub use identity::Identity;
pub use key::{BucketKey, Keys};
pub use table::{Class, ROUTE_TEXT_BYTES_MAX, WORD_BYTES_MAX};

use path::{Segment, Segments, number};

/// Whom Discord counts a request for, as far as the path says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PathIdentity<'t> {
    /// The `Authorization` header, or the egress IP without one.
    Authorization,
    /// A webhook, which its id and token name.
    Webhook {
        /// The webhook's id: digits.
        id: &'t [u8],
        /// Its secret token, as it stands in the path.
        token: &'t [u8],
    },
    /// An interaction, which may be answered without `Authorization`. Its follow-ups are counted
    /// per interaction, not per application (discord-api-docs #2701).
    Interaction {
        /// The interaction's id.
        id: u64,
    },
}

/// The parameter that splits one limit into many (Discord docs, topics/rate-limits).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Major<'t> {
    /// None: the limit is the identity's.
    None,
    /// A channel id: digits.
    Channel(&'t [u8]),
    /// A guild id: digits.
    Guild(&'t [u8]),
    /// A webhook id, with its token if the path has one.
    Webhook {
        /// The webhook's id: digits.
        id: &'t [u8],
        /// Its secret token.
        token: Option<&'t [u8]>,
    },
    /// An interaction id.
    Interaction(u64),
}

/// What a request's path and method say about its limits.
#[derive(Clone, Copy)]
pub struct Route<'t> {
    /// Who is counted.
    pub identity: PathIdentity<'t>,
    /// Which of the route's limits it is.
    pub major: Major<'t>,
    /// What splits the limits of one text.
    pub class: Class,
    /// The path with ids replaced: printable ASCII, at most [`ROUTE_TEXT_BYTES_MAX`] bytes, with a
    /// slash in front. Label of the metrics.
    pub label: &'t str,
}

impl Route<'_> {
    /// The text that separates limits, for logs and tests: the label with its [`Class`] written in.
    pub fn template(&self) -> impl fmt::Display {
        let (text, class) = match self.class {
            Class::Plain => (self.label, ""),
            Class::DeletesYoung => (self.label, "10s"),
            Class::DeletesOld => (self.label, "14d"),
            Class::ModifiesReaction => (
                self.label.strip_suffix("/!").unwrap_or(self.label),
                "modify",
            ),
        };
        Template { text, class }
    }
}

struct Template<'t> {
    text: &'t str,
    class: &'static str,
}

impl fmt::Display for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)?;
        f.write_str(self.class)
    }
}

// Tokens must not reach a log through `{:?}`, so identities and majors are not derived.
impl fmt::Debug for Route<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("label", &self.label)
            .field("class", &self.class)
            .finish()
    }
}

/// Room for one route text. Kept and used again from request to request.
#[derive(Clone)]
pub struct RouteText {
    bytes: [u8; ROUTE_TEXT_BYTES_MAX],
    /// Invariant: at most [`ROUTE_TEXT_BYTES_MAX`], and `bytes[..len]` is ASCII.
    len: usize,
}

impl Default for RouteText {
    fn default() -> Self {
        Self {
            bytes: [0; ROUTE_TEXT_BYTES_MAX],
            len: 0,
        }
    }
}

impl fmt::Debug for RouteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl RouteText {
    /// The text that the last [`classify`] left here; empty before the first.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or(table::OTHER)
    }

    fn set(&mut self, text: &'static str) {
        self.len = 0;
        let fits = self.append(text);
        debug_assert!(fits, "the fixed texts are short");
    }

    /// Adds `/segment`; `false`, and no change, if it does not fit. Bytes that may stand in no
    /// label become `@`, as nirn-proxy writes them.
    fn push(&mut self, segment: Segment<'_>) -> bool {
        let (bytes, end) = (segment.bytes, self.len + 1 + segment.bytes.len());
        let Some([slash, room @ ..]) = self.bytes.get_mut(self.len..end) else {
            return false;
        };
        *slash = b'/';
        if segment.is_graphic {
            room.copy_from_slice(bytes);
        } else {
            for (to, &from) in room.iter_mut().zip(bytes) {
                *to = if from.is_ascii_graphic() { from } else { b'@' };
            }
        }
        self.len = end;
        true
    }

    fn append(&mut self, text: &'static str) -> bool {
        let end = self.len + text.len();
        let Some(room) = self.bytes.get_mut(self.len..end) else {
            return false;
        };
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        true
    }
}

/// Reads what limits a request.
///
/// `method` is the method's name as sent, `target` the raw request target; `unix_ms` is the wall
/// clock in milliseconds, for the age of a message that is deleted. `text` takes the route's text.
/// Every input has a route.
pub fn classify<'t>(
    method: &[u8],
    target: &'t [u8],
    unix_ms: u64,
    text: &'t mut RouteText,
) -> Route<'t> {
    text.len = 0;
    let mut route = Reading {
        identity: PathIdentity::Authorization,
        major: Major::None,
        class: Class::Plain,
    };
    match path::api_segments(target) {
        None => text.set(table::OTHER),
        Some(segments) => {
            if !route.read(method, segments, unix_ms, text) {
                text.set(table::LONG);
            } else if text.len == 0 {
                text.set("/");
            }
        }
    }
    let Reading {
        identity,
        major,
        class,
    } = route;
    Route {
        identity,
        major,
        class,
        label: text.as_str(),
    }
}

/// A route whose text is still being written.
struct Reading<'t> {
    identity: PathIdentity<'t>,
    major: Major<'t>,
    class: Class,
}

impl<'t> Reading<'t> {
    /// Walks the segments; `false` if the text is too long. What a token in the path says stands
    /// within the first three segments, which always fit.
    fn read(
        &mut self,
        method: &[u8],
        mut segments: Segments<'t>,
        unix_ms: u64,
        text: &mut RouteText,
    ) -> bool {
        let Some(top) = segments.next() else {
            return true;
        };
        if !text.push(replaced(b"", top)) {
            return false;
        }
        let Some(id) = segments.next() else {
            return true;
        };
        if !text.push(replaced(top.bytes, id)) {
            return false;
        }
        let mut previous = id.bytes;
        let mut in_channel = false;
        match (top.bytes, id.is_id) {
            (b"channels", true) => {
                self.major = Major::Channel(id.bytes);
                in_channel = true;
            }
            (b"guilds", true) => self.major = Major::Guild(id.bytes),
            (b"webhooks", true) => {
                self.major = Major::Webhook {
                    id: id.bytes,
                    token: None,
                }
            }
            _ => {}
        }
        if id.is_id && matches!(top.bytes, b"webhooks" | b"interactions") {
            let Some(token) = segments.next() else {
                return true;
            };
            self.token_in_path(top.bytes, id.bytes, token.bytes);
            if !text.push(table::REPLACED) {
                return false;
            }
            previous = token.bytes;
        }
        let mut message_id = None;
        for (at, segment) in segments.enumerate() {
            if in_channel && segment.bytes == b"reactions" {
                // Emoji and user are left out altogether: they never separate limits.
                self.class = Class::of_reaction(method);
                return text.append("/reactions/!/!");
            }
            // Only `/channels/{id}/messages/{id}` itself: whatever follows takes it back.
            message_id =
                (at == 1 && in_channel && previous == b"messages").then_some(segment.bytes);
            if !text.push(replaced(previous, segment)) {
                return false;
            }
            previous = segment.bytes;
        }
        if let (Some(message_id), b"DELETE") = (message_id, method) {
            self.class = Class::of_deletion(message_id, unix_ms);
        }
        true
    }

    /// Takes in the token at `/webhooks/{id}/{token}` or `/interactions/{id}/{token}`.
    fn token_in_path(&mut self, top: &[u8], id: &'t [u8], token: &'t [u8]) {
        let interaction = match top {
            b"interactions" => number(id),
            _ => interaction_of(token),
        };
        (self.identity, self.major) = match interaction {
            Some(id) => (PathIdentity::Interaction { id }, Major::Interaction(id)),
            None => (
                PathIdentity::Webhook { id, token },
                Major::Webhook {
                    id,
                    token: Some(token),
                },
            ),
        };
    }
}

/// What stands in the route's text for `segment` behind `previous`.
fn replaced<'s>(previous: &[u8], segment: Segment<'s>) -> Segment<'s> {
    if table::is_replaced(previous, segment) {
        table::REPLACED
    } else {
        segment
    }
}

/// The interaction that `token` answers, `None` if it is a webhook's token. An interaction's is
/// the base64 of `interaction:<id>:<secret>` (discord-api-docs #2701).
fn interaction_of(token: &[u8]) -> Option<u64> {
    /// Base64 of 36 bytes: `interaction:`, the 20 digits of the largest id, a colon, and 3 more.
    const HEAD_CHARS: usize = 48;
    if !token.starts_with(b"aW50ZXJhY3Rpb246") {
        return None;
    }
    let mut room = [0; HEAD_CHARS / 4 * 3];
    let head = base64::decode(&token[..token.len().min(HEAD_CHARS)], &mut room)?;
    let rest = head.strip_prefix(b"interaction:")?;
    let end = rest.iter().position(|&b| b == b':')?;
    number(&rest[..end])
}

#[cfg(test)]
mod tests;
