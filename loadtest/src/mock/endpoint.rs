//! Which endpoint answers a method and template, with which status, and which ids it knows.

use super::route::{Method, Path};
use super::settings::IdSettings;
use super::world::Reply;

/// The endpoints that answer in a form of their own; all others answer in a general one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// `GET /users/@me` and other users.
    User,
    /// `GET /oauth2/applications/@me`, `GET /applications/@me`.
    Application,
    /// `GET /gateway`.
    Gateway,
    /// `GET /gateway/bot`.
    GatewayBot,
    /// A channel is read, changed or deleted.
    Channel,
    /// A message is sent, changed or read, in a channel or through a webhook or interaction.
    Message,
    /// A list of messages.
    Messages,
    /// The users of a reaction.
    Users,
    /// A guild.
    Guild,
    /// A member of a guild.
    Member,
    /// Members of a guild.
    Members,
    /// A webhook is read or changed.
    Webhook,
    /// A webhook is executed.
    Execute,
    /// An interaction is answered.
    Callback,
    /// A list without entries.
    List,
    /// Any other object that is read or changed.
    Object,
    /// 204.
    NoContent,
    /// `GET /channels/{id}/attachments-test?bytes=N&chunked=0|1`: N bytes, streamed.
    Download,
    /// `/echo`: tells what was received; `?status=N` and `?bytes=N` choose the answer.
    Echo,
}

impl Endpoint {
    /// The endpoint of a method and template.
    pub fn of(method: Method, template: &str) -> Self {
        use Method::{Delete, Get, Head, Options, Patch, Post, Put};
        let method = if method == Head { Get } else { method };
        match (method, template) {
            (_, t) if t == "/echo" || t.starts_with("/echo/") => Self::Echo,
            (Get, "/users/@me" | "/users/!") | (Patch, "/users/@me") => Self::User,
            (Get, "/oauth2/applications/@me" | "/applications/@me") => Self::Application,
            (Get, "/gateway") => Self::Gateway,
            (Get, "/gateway/bot") => Self::GatewayBot,
            (Get | Patch | Delete, "/channels/!") | (Post, "/users/@me/channels") => Self::Channel,
            (Get, "/channels/!/attachments-test") => Self::Download,
            (Post, "/channels/!/messages")
            | (Get | Patch, "/channels/!/messages/!")
            | (Post, "/channels/!/messages/!/crosspost")
            | (Get | Patch, "/webhooks/!/!/messages/!" | "/webhooks/!/!/messages/@original") => {
                Self::Message
            }
            (Get, "/channels/!/messages" | "/channels/!/pins") => Self::Messages,
            (Get, "/channels/!/messages/!/reactions/!") => Self::Users,
            (Get | Patch, "/guilds/!") => Self::Guild,
            (Get | Patch, "/guilds/!/members/!" | "/guilds/!/members/@me") => Self::Member,
            (Get, "/guilds/!/members" | "/guilds/!/members/search") => Self::Members,
            (Get | Patch, "/webhooks/!" | "/webhooks/!/!") | (Post, "/channels/!/webhooks") => {
                Self::Webhook
            }
            (Post, "/webhooks/!/!" | "/webhooks/!/!/github" | "/webhooks/!/!/slack") => {
                Self::Execute
            }
            (Post, "/interactions/!/!/callback") => Self::Callback,
            (Post, "/channels/!/typing") => Self::NoContent,
            // A last segment in the plural names a collection.
            (Get, t) if t.ends_with('s') => Self::List,
            (Put | Delete, _) => Self::NoContent,
            (Get | Post | Patch | Options | Head, _) => Self::Object,
        }
    }

    /// Whether it answers without a token.
    pub fn is_public(self) -> bool {
        matches!(self, Self::Gateway | Self::Echo)
    }

    /// The status of its answer.
    pub fn status(self, target: &str) -> u16 {
        let query = target.split_once('?').map_or("", |(_, q)| q);
        let param = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        // discord.py writes booleans as numbers.
        let is_true = |name: &str| matches!(param(name), Some("true" | "True" | "1"));
        match self {
            Self::NoContent => 204,
            // A follow-up always shows its message, a webhook's execution on demand.
            Self::Execute if is_true("wait") || is_interaction(target) => 200,
            Self::Callback if is_true("with_response") => 200,
            Self::Execute | Self::Callback => 204,
            Self::Echo => param("status").and_then(|s| s.parse().ok()).unwrap_or(200),
            Self::User
            | Self::Application
            | Self::Gateway
            | Self::GatewayBot
            | Self::Channel
            | Self::Message
            | Self::Messages
            | Self::Users
            | Self::Guild
            | Self::Member
            | Self::Members
            | Self::Webhook
            | Self::List
            | Self::Object
            | Self::Download => 200,
        }
    }

    /// The error for an id that is unknown or may not be touched.
    pub fn missing(self, path: &Path<'_>, ids: &IdSettings) -> Option<Reply> {
        if self == Self::Echo {
            return None;
        }
        let is = |id: &str, suffix: &str| {
            !suffix.is_empty() && id.ends_with(suffix) && super::route::is_id(id)
        };
        let (kind, id) = (path.segment(0), path.segment(1));
        if is(id, &ids.unknown_suffix) {
            return Some(match kind {
                "channels" => Reply::Error(404, 10_003, "Unknown Channel"),
                "guilds" => Reply::Error(404, 10_004, "Unknown Guild"),
                "webhooks" => Reply::Error(404, 10_015, "Unknown Webhook"),
                "interactions" => Reply::Error(404, 10_062, "Unknown interaction"),
                "users" => Reply::Error(404, 10_013, "Unknown User"),
                _ => Reply::Error(404, 0, "404: Not Found"),
            });
        }
        if is(id, &ids.forbidden_suffix) {
            return Some(match kind {
                "channels" | "guilds" => Reply::Error(403, 50_001, "Missing Access"),
                _ => Reply::Error(403, 50_013, "Missing Permissions"),
            });
        }
        let (part, id) = match kind {
            "webhooks" => (path.segment(3), path.segment(4)),
            _ => (path.segment(2), path.segment(3)),
        };
        if is(id, &ids.unknown_suffix) {
            return Some(match part {
                "messages" => Reply::Error(404, 10_008, "Unknown Message"),
                "members" => Reply::Error(404, 10_007, "Unknown Member"),
                "roles" => Reply::Error(404, 10_011, "Unknown Role"),
                "emojis" => Reply::Error(404, 10_014, "Unknown Emoji"),
                _ => Reply::Error(404, 0, "404: Not Found"),
            });
        }
        is(id, &ids.forbidden_suffix).then_some(Reply::Error(403, 50_013, "Missing Permissions"))
    }
}

fn is_interaction(target: &str) -> bool {
    target.contains("/aW50ZXJhY3Rpb246")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_request_has_its_endpoint() {
        for (method, template, want) in [
            (Method::Get, "/users/@me", Endpoint::User),
            (Method::Head, "/gateway/bot", Endpoint::GatewayBot),
            (Method::Post, "/channels/!/messages", Endpoint::Message),
            (Method::Get, "/channels/!/messages", Endpoint::Messages),
            (
                Method::Delete,
                "/channels/!/messages/!old",
                Endpoint::NoContent,
            ),
            (
                Method::Put,
                "/channels/!/messages/!/reactions/!",
                Endpoint::NoContent,
            ),
            (
                Method::Get,
                "/channels/!/messages/!/reactions/!",
                Endpoint::Users,
            ),
            (
                Method::Post,
                "/interactions/!/!/callback",
                Endpoint::Callback,
            ),
            (
                Method::Patch,
                "/webhooks/!/!/messages/@original",
                Endpoint::Message,
            ),
            (Method::Get, "/guilds/!/roles", Endpoint::List),
            (Method::Get, "/new-thing/!", Endpoint::Object),
        ] {
            assert_eq!(
                Endpoint::of(method, template),
                want,
                "{method:?} {template}"
            );
        }
    }

    #[test]
    fn a_webhook_answers_with_its_message_only_when_asked() {
        let status = |target: &str| Endpoint::Execute.status(target);
        assert_eq!(status("/api/v10/webhooks/1/t"), 204);
        assert_eq!(status("/api/v10/webhooks/1/t?wait=false"), 204);
        assert_eq!(status("/api/v10/webhooks/1/t?wait=true"), 200);
        // As discord.py writes it.
        assert_eq!(
            status("/api/v10/webhooks/1/t?wait=1&with_components=0"),
            200
        );
        assert_eq!(
            status("/api/v10/webhooks/1/aW50ZXJhY3Rpb246x"),
            200,
            "a follow-up"
        );
    }
}
