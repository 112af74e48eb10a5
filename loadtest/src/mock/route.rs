//! From a request line to what Discord would route and count it by: the template, the major
//! parameter, who the request belongs to, and which endpoint answers.
//!
//! No allocation but the template, which is built in the caller's buffer; about 100 ns a path.

use super::stable_hash;

/// Segments looked at; Discord's longest path has ten.
const SEGMENTS_MAX: usize = 14;

/// Start of Discord's own time, in Unix milliseconds.
pub const DISCORD_EPOCH_MS: u64 = 1_420_070_400_000;

/// A message younger than this has its own limit for deletion.
const YOUNG_MS: u64 = 10_000;

/// A message older than this has its own limit for deletion.
const OLD_MS: u64 = 14 * 24 * 3600 * 1000;

/// What every interaction token starts with: the base64 of `interaction:`.
const INTERACTION_PREFIX: &str = "aW50ZXJhY3Rpb246";

/// The query parameter by which a sender names a request: its answer says it again, and the oracle
/// sees whether it is processed twice.
pub const REQUEST_PARAM: &str = "request";

/// A method that Discord knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are RFC 9110's")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// Whether it changes nothing, so that it can be sent twice (RFC 9110 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// The method of this name; names are case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => return None,
        })
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// Whose limits bind a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The sender of `Authorization`, or the address without one.
    Sender,
    /// The webhook whose id and token are in the path.
    Webhook,
    /// The interaction whose token is in the path.
    Interaction,
}

/// What a path says, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    segments: [&'a str; SEGMENTS_MAX],
    len: usize,
    /// What follows `?`, empty without.
    pub query: &'a str,
    /// Whose limits bind it.
    pub owner: Owner,
    /// A hash of the major parameter, zero without one.
    pub major: u64,
}

impl<'a> Path<'a> {
    /// Segment `i` after `/api/v10`, empty when there is none.
    pub fn segment(&self, i: usize) -> &'a str {
        if i < self.len { self.segments[i] } else { "" }
    }

    /// The value of `name` in the query.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The numeric value of `name` in the query.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.param(name)?.parse().ok()
    }
}

/// Reads `target` and writes its template into `template`. `None` when the path is not below
/// `/api`, `/echo` or is too long for any route.
pub fn parse<'a>(
    method: Method,
    target: &'a str,
    unix_ms: u64,
    template: &mut String,
) -> Option<Path<'a>> {
    template.clear();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut rest = path.strip_prefix('/')?;
    if let Some(api) = rest.strip_prefix("api/") {
        rest = api;
        if let Some((version, tail)) = api.split_once('/')
            && version
                .strip_prefix('v')
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        {
            rest = tail;
        }
    } else if !rest.starts_with("echo") {
        return None;
    }
    let mut segments = [""; SEGMENTS_MAX];
    let mut len = 0;
    for segment in rest.split('/') {
        *segments.get_mut(len)? = segment;
        len += 1;
    }
    let mut parsed = Path {
        segments,
        len,
        query,
        owner: Owner::Sender,
        major: 0,
    };
    own(&mut parsed);
    write_template(method, &parsed, unix_ms, template);
    Some(parsed)
}

/// Finds major parameter and owner.
fn own(path: &mut Path<'_>) {
    let (kind, id, token) = (path.segment(0), path.segment(1), path.segment(2));
    match kind {
        "channels" | "guilds" if is_id(id) => path.major = hash2(kind, id),
        "webhooks" if is_id(id) && !token.is_empty() => {
            // Follow-ups are counted per interaction, not per application.
            let interaction = token.starts_with(INTERACTION_PREFIX);
            path.owner = if interaction {
                Owner::Interaction
            } else {
                Owner::Webhook
            };
            path.major = hash2(id, token);
        }
        "webhooks" if is_id(id) => path.major = hash2(kind, id),
        "interactions" if is_id(id) && !token.is_empty() => {
            path.owner = Owner::Interaction;
            path.major = hash2(id, token);
        }
        _ => {}
    }
}

fn write_template(method: Method, path: &Path<'_>, unix_ms: u64, template: &mut String) {
    let kind = path.segment(0);
    for i in 0..path.len {
        let segment = path.segment(i);
        let secret =
            i == 2 && matches!(kind, "webhooks" | "interactions") || i == 1 && kind == "invites";
        template.push('/');
        if i == 4 && kind == "channels" && segment == "reactions" {
            // An emoji may hold any byte, and every form of the path is limited alike.
            template.push_str("reactions/!");
            return;
        }
        if secret || is_id(segment) {
            template.push('!');
        } else {
            template.push_str(segment);
        }
    }
    if method == Method::Delete && template == "/channels/!/messages/!" {
        let sent_ms = path.segment(3).parse::<u64>().map_or(0, snowflake_ms);
        let age_ms = unix_ms.saturating_sub(sent_ms);
        // An unknown message is reported in the class of young ones.
        if age_ms < YOUNG_MS || path.segment(3).ends_with("404") {
            template.push_str("young");
        } else if age_ms > OLD_MS {
            template.push_str("old");
        }
    }
}

/// When the object with this id was made, in Unix milliseconds.
pub fn snowflake_ms(id: u64) -> u64 {
    (id >> 22) + DISCORD_EPOCH_MS
}

/// Whether `segment` is an id: 15 to 20 digits.
pub fn is_id(segment: &str) -> bool {
    (15..=20).contains(&segment.len()) && segment.bytes().all(|b| b.is_ascii_digit())
}

fn hash2(a: &str, b: &str) -> u64 {
    (stable_hash(a.as_bytes()).rotate_left(17) ^ stable_hash(b.as_bytes())).max(1)
}

/// The user id that a bot token carries: its first part is the id in base64.
pub fn bot_id(authorization: &str) -> Option<u64> {
    let token = authorization.strip_prefix("Bot ").unwrap_or(authorization);
    let mut text = String::with_capacity(20);
    let (mut bits, mut have) = (0u32, 0u32);
    for byte in token
        .split('.')
        .next()?
        .bytes()
        .take_while(|&b| b != b'=')
        .take(28)
    {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        have += 6;
        if have >= 8 {
            have -= 8;
            text.push(char::from((bits >> have) as u8));
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = "203039963636301824";
    const M: &str = "872712150509047809";
    const NOW_MS: u64 = 1_700_000_000_000;

    fn template(method: Method, target: &str) -> String {
        let mut out = String::new();
        parse(method, target, NOW_MS, &mut out).unwrap();
        out
    }

    #[test]
    fn ids_and_secrets_leave_the_template() {
        for (target, want) in [
            (
                format!("/api/v10/channels/{C}/messages?limit=5"),
                "/channels/!/messages",
            ),
            (
                format!("/api/channels/{C}/messages/{M}"),
                "/channels/!/messages/!",
            ),
            (
                format!("/api/v9/guilds/{C}/members/{M}/roles/{M}"),
                "/guilds/!/members/!/roles/!",
            ),
            (
                format!("/api/v10/webhooks/{C}/secret/messages/@original"),
                "/webhooks/!/!/messages/@original",
            ),
            (
                format!("/api/v10/interactions/{C}/secret/callback"),
                "/interactions/!/!/callback",
            ),
            ("/api/v10/invites/dyno".to_owned(), "/invites/!"),
            ("/api/v10/users/@me".to_owned(), "/users/@me"),
            ("/echo/a".to_owned(), "/echo/a"),
        ] {
            assert_eq!(template(Method::Get, &target), want, "{target}");
        }
    }

    #[test]
    fn every_form_of_a_reaction_path_is_one_template() {
        for tail in [
            "",
            "/%F0%9F%98%8B/@me",
            "/a:863985751205085195",
            "/x/392827169497284619",
        ] {
            let target = format!("/api/v10/channels/{C}/messages/{M}/reactions{tail}");
            assert_eq!(
                template(Method::Put, &target),
                "/channels/!/messages/!/reactions/!"
            );
        }
    }

    #[test]
    fn deletion_has_three_classes_by_the_age_of_the_message() {
        for (age_ms, class) in [
            (9_999, "young"),
            (10_000, ""),
            (OLD_MS, ""),
            (OLD_MS + 1, "old"),
        ] {
            let id = (NOW_MS - age_ms - DISCORD_EPOCH_MS) << 22;
            let target = format!("/api/v10/channels/{C}/messages/{id}");
            assert_eq!(
                template(Method::Delete, &target),
                format!("/channels/!/messages/!{class}")
            );
            assert_eq!(template(Method::Patch, &target), "/channels/!/messages/!");
        }
    }

    #[test]
    fn webhooks_and_interactions_own_their_requests() {
        let mut t = String::new();
        let mut owner = |target: &str| {
            let path = parse(Method::Post, target, 0, &mut t).unwrap();
            (path.owner, path.major)
        };
        let (kind, hook) = owner(&format!("/api/v10/webhooks/{C}/secret"));
        assert_eq!(kind, Owner::Webhook);
        assert_ne!(hook, owner(&format!("/api/v10/webhooks/{C}/other")).1);
        assert_eq!(
            owner(&format!("/api/v10/webhooks/{C}/aW50ZXJhY3Rpb246x")).0,
            Owner::Interaction
        );
        assert_eq!(
            owner(&format!("/api/v10/interactions/{C}/x/callback")).0,
            Owner::Interaction
        );
        assert_eq!(owner(&format!("/api/v10/webhooks/{C}")).0, Owner::Sender);
        assert_eq!(owner("/api/v10/users/@me"), (Owner::Sender, 0));
    }

    #[test]
    fn a_path_outside_the_api_is_no_route() {
        let mut t = String::new();
        for target in [
            "/",
            "/nirn/healthz",
            "*",
            "api/v10/users/@me",
            &"/api/a".repeat(20),
        ] {
            assert!(parse(Method::Get, target, 0, &mut t).is_none(), "{target}");
        }
    }

    #[test]
    fn the_bot_id_is_read_from_the_token() {
        // base64("392827169497284619")
        assert_eq!(
            bot_id("Bot MzkyODI3MTY5NDk3Mjg0NjE5.X.y"),
            Some(392_827_169_497_284_619)
        );
        assert_eq!(bot_id("Bearer abc"), None);
        assert_eq!(bot_id(""), None);
    }

    #[test]
    fn a_query_is_read_by_name() {
        let mut t = String::new();
        let path = parse(Method::Get, "/api/v10/x?&wait=true&bytes=12", 0, &mut t).unwrap();
        assert_eq!(
            (path.param("wait"), path.number("bytes")),
            (Some("true"), Some(12))
        );
        assert_eq!(path.param("byte"), None);
    }
}
