//! `DEFAULT_BUCKETS`: requests of a route that go at once before Discord has told its limit.
//!
//! `METHOD /path=N`, separated by commas. The path is written as weir writes routes: without
//! `/api/v10`, with `!` for every id. What weir takes for an id wherever it stands (an invite's
//! code, a webhook's token, all that follows `reactions/`) may be written either way.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::bounds;

/// The methods that routes of Discord have.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// A route as a person writes it: a method and a path with `!` for ids. Every one that parses is
/// the route of some request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RouteTemplate {
    method: &'static str,
    /// Invariant: `/` and a word, then further segments, each a word or `!`; at most
    /// [`bounds::TEMPLATE_BYTES_MAX`].
    path: String,
}

impl RouteTemplate {
    /// The method's name: `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The path: a slash in front, none at the end, `!` for ids.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for RouteTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The text is not a template that a request could match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotATemplate;

impl fmt::Display for NotATemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a route: a method and a path without /api, with ! for every id")
    }
}

impl std::error::Error for NotATemplate {}

impl FromStr for RouteTemplate {
    type Err = NotATemplate;

    fn from_str(text: &str) -> Result<Self, NotATemplate> {
        let (method, path) = text.split_once(' ').ok_or(NotATemplate)?;
        let method = METHODS.iter().find(|known| **known == method);
        let mut segments = path.strip_prefix('/').ok_or(NotATemplate)?.split('/');
        let top = segments.next().unwrap_or_default();
        let matches = is_word(top)
            && top != "api"
            && !is_version(top)
            && segments.all(|segment| segment == "!" || is_word(segment))
            && path.len() <= bounds::TEMPLATE_BYTES_MAX;
        match method {
            Some(method) if matches => Ok(Self {
                method,
                path: path.to_owned(),
            }),
            _ => Err(NotATemplate),
        }
    }
}

/// Whether it can be a word of a path of Discord's: an id is none, nor what other programs write
/// for one (`:id`, `{channel.id}`).
fn is_word(segment: &str) -> bool {
    let is_in_words = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    (1..=bounds::TEMPLATE_WORD_BYTES_MAX).contains(&segment.len())
        && segment.bytes().all(is_in_words)
        && !is_number(segment)
}

/// Whether it is the `v10` of `/api/v10`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Reads the setting.
///
/// # Errors
/// The part that is not allowed, or all of it if no single part is at fault.
pub(super) fn default_buckets(value: &str) -> Result<BTreeMap<RouteTemplate, u16>, &str> {
    let mut buckets = BTreeMap::new();
    for entry in value.split(',').map(str::trim) {
        let wrong = if entry.is_empty() { value } else { entry };
        let (template, width) = entry.rsplit_once('=').ok_or(wrong)?;
        let template: RouteTemplate = template.parse().map_err(|_| wrong)?;
        let width = Some(width).filter(|width| is_number(width));
        let width = width.and_then(|width| width.parse().ok()).ok_or(wrong)?;
        if width == 0 || buckets.insert(template, width).is_some() {
            return Err(wrong);
        }
        if buckets.len() > bounds::DEFAULT_BUCKETS_MAX {
            return Err(value);
        }
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(value: &str) -> Result<Vec<(String, u16)>, &str> {
        let buckets = default_buckets(value)?;
        Ok(buckets
            .iter()
            .map(|(template, width)| (template.to_string(), *width))
            .collect())
    }

    #[test]
    fn entries_are_routes_and_how_many_of_their_requests_go_at_once() {
        let value = "POST /channels/!/messages=5, GET /guilds/!/members/!=10,PUT /guilds/!/widget.json=65535,\
                     DELETE /webhooks/!/!/messages/@original=1";
        let expected = [
            ("DELETE /webhooks/!/!/messages/@original", 1),
            ("GET /guilds/!/members/!", 10),
            ("POST /channels/!/messages", 5),
            ("PUT /guilds/!/widget.json", 65_535),
        ];
        assert_eq!(
            templates(value),
            Ok(expected.map(|(t, n)| (t.to_owned(), n)).to_vec())
        );
    }

    #[test]
    fn what_no_request_can_match_is_refused_and_named() {
        let long = format!("GET /{}=1", "a/".repeat(60) + "a");
        let word = format!("GET /{}=1", "a".repeat(33));
        for wrong in [
            "POST channels/!/messages=5",
            "POST /channels/203039963636301824/messages=5",
            "post /channels/!/messages=5",
            "FETCH /channels/!/messages=5",
            "/channels/!/messages=5",
            "POST  /channels/!/messages=5",
            "POST /api/v10/channels/!/messages=5",
            "POST /v10/channels/!/messages=5",
            "POST /channels/!/messages/=5",
            "POST /channels//messages=5",
            "POST /!/messages=5",
            "POST /=5",
            "POST /channels/{channel.id}/messages=5",
            "POST /channels/:id/messages=5",
            "POST /channels/!!/messages=5",
            "GET /channels/!/messages?limit=5",
            "POST /channels/!/messages",
            "POST /channels/!/messages=",
            "POST /channels/!/messages=0",
            "POST /channels/!/messages=-1",
            "POST /channels/!/messages=+1",
            "POST /channels/!/messages=65536",
            "POST /channels/!/messages=5=6",
            "POST /channels/!/messages=5;GET /users/@me=1",
            "GET /a=2",
            &long,
            &word,
        ] {
            let value = format!("GET /a=1,{wrong}");
            assert_eq!(default_buckets(&value), Err(wrong));
        }
        for empty in ["", ",", "GET /a=1,", ",GET /a=1"] {
            assert_eq!(default_buckets(empty), Err(empty));
        }
    }

    #[test]
    fn there_is_room_for_every_route_of_discord_and_an_end() {
        let list = |count: usize| {
            let entries = (0..count).map(|n| format!("GET /a{n}=1"));
            entries.collect::<Vec<_>>().join(",")
        };
        assert!(default_buckets(&list(bounds::DEFAULT_BUCKETS_MAX)).is_ok());
        let more = list(bounds::DEFAULT_BUCKETS_MAX + 1);
        assert_eq!(default_buckets(&more), Err(more.as_str()));
    }
}
