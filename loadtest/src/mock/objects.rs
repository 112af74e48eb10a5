//! Discord's objects, complete enough that real libraries take them for real.

use std::io::Write;

use super::body::Body;
use super::clock::iso_date;
use super::route::snowflake_ms;
use super::settings::GatewaySettings;

/// The bot of a token that names none.
const SOME_BOT: u64 = 302_050_872_383_242_240;

/// The guild that every channel belongs to.
const SOME_GUILD: u64 = 197_038_439_483_310_086;

/// The channel of messages that a webhook or interaction sends.
const SOME_CHANNEL: u64 = 199_737_254_929_760_256;

/// Gives out ids like Discord's: time, then a count.
#[derive(Debug)]
pub struct Snowflakes {
    worker: u64,
    count: u64,
}

impl Snowflakes {
    /// Ids of one thread; no two threads give the same.
    pub fn new(worker: u64) -> Self {
        Self { worker, count: 0 }
    }

    /// An id made at `unix_ms`; never one that the default settings call unknown or forbidden.
    pub fn next(&mut self, unix_ms: u64) -> u64 {
        loop {
            self.count += 1;
            let time = unix_ms.saturating_sub(super::route::DISCORD_EPOCH_MS) << 22;
            let id = time | (self.worker & 31) << 17 | (self.count & 0x1_ffff);
            if !matches!(id % 1000, 403 | 404) {
                return id;
            }
        }
    }
}

/// Appends formatted text; writing to a `Vec` cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = write!($out, $($arg)*); }};
}
pub(super) use put;

fn or(id: u64, default: u64) -> u64 {
    if id == 0 { default } else { id }
}

/// A user object of a bot.
pub fn user(out: &mut Vec<u8>, id: u64) {
    put!(
        out,
        r#"{{"id":"{}","username":"mock-bot","avatar":null,"discriminator":"0000","public_flags":0,"flags":0,"bot":true,"banner":null,"accent_color":null,"global_name":null,"avatar_decoration_data":null,"mfa_enabled":false,"locale":"en-US","premium_type":0,"email":null,"verified":true,"bio":""}}"#,
        or(id, SOME_BOT)
    );
}

/// The application of a bot.
pub fn application(out: &mut Vec<u8>, bot_id: u64) {
    let id = or(bot_id, SOME_BOT);
    put!(
        out,
        r#"{{"id":"{id}","name":"mock","icon":null,"description":"","summary":"","type":null,"bot_public":true,"bot_require_code_grant":false,"verify_key":"{:064x}","flags":0,"hook":true,"rpc_origins":[],"redirect_uris":[],"interactions_endpoint_url":null,"team":null,"tags":[],"approximate_guild_count":1,"approximate_user_install_count":0,"owner":"#,
        0
    );
    user(out, 0);
    out.extend_from_slice(b",\"bot\":");
    user(out, id);
    out.push(b'}');
}

/// Where the gateway is.
pub fn gateway(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"url":"wss://gateway.discord.gg"}"#);
}

/// Where the gateway is and how it may be used.
pub fn gateway_bot(out: &mut Vec<u8>, g: &GatewaySettings) {
    put!(
        out,
        r#"{{"url":"wss://gateway.discord.gg","shards":{},"session_start_limit":{{"total":{},"remaining":{},"reset_after":{},"max_concurrency":{}}}}}"#,
        g.shards,
        g.total,
        g.remaining,
        g.reset_after_ms,
        g.max_concurrency
    );
}

/// A text channel.
pub fn channel(out: &mut Vec<u8>, id: u64) {
    put!(
        out,
        r#"{{"id":"{}","type":0,"guild_id":"{SOME_GUILD}","name":"general","position":0,"permission_overwrites":[],"nsfw":false,"topic":null,"last_message_id":null,"rate_limit_per_user":0,"parent_id":null,"flags":0,"last_pin_timestamp":null}}"#,
        or(id, SOME_CHANNEL)
    );
}

/// What a message is made of.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts {
    /// Its id.
    pub id: u64,
    /// Its channel, zero for any.
    pub channel_id: u64,
    /// Its author, zero for any.
    pub author_id: u64,
    /// The webhook that sent it, zero for none.
    pub webhook_id: u64,
}

/// A message; content and attachments are taken from the request's body.
pub fn message(out: &mut Vec<u8>, parts: MessageParts, body: &Body) {
    let channel_id = or(parts.channel_id, SOME_CHANNEL);
    put!(
        out,
        r#"{{"id":"{}","type":0,"channel_id":"{channel_id}","content":"#,
        parts.id
    );
    out.extend_from_slice(body.content());
    out.extend_from_slice(b",\"author\":");
    user(out, or(parts.webhook_id, parts.author_id));
    out.extend_from_slice(b",\"attachments\":[");
    for (i, file) in body.files().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let id = parts.id + 1 + i as u64;
        let name = serde_json::to_string(&file.name).unwrap_or_else(|_| "\"file\"".to_owned());
        let name = name.trim_matches('"');
        let kind = serde_json::to_string(&file.content_type).unwrap_or_default();
        let url = format!("attachments/{channel_id}/{id}/{name}");
        put!(
            out,
            r#"{{"id":"{id}","filename":"{name}","size":{},"url":"https://cdn.discordapp.com/{url}","proxy_url":"https://media.discordapp.net/{url}","content_type":{kind}}}"#,
            file.bytes
        );
    }
    let sent = iso_date(snowflake_ms(parts.id));
    put!(
        out,
        r#"],"embeds":[],"mentions":[],"mention_roles":[],"mention_everyone":false,"pinned":false,"tts":false,"timestamp":"{sent}","edited_timestamp":null,"flags":0,"components":[]"#
    );
    if parts.webhook_id != 0 {
        put!(out, r#","webhook_id":"{}""#, parts.webhook_id);
    }
    out.push(b'}');
}

/// A guild.
pub fn guild(out: &mut Vec<u8>, id: u64) {
    let id = or(id, SOME_GUILD);
    put!(
        out,
        r#"{{"id":"{id}","name":"mock guild","icon":null,"description":null,"home_header":null,"splash":null,"discovery_splash":null,"features":[],"banner":null,"owner_id":"{SOME_BOT}","application_id":null,"region":"deprecated","afk_channel_id":null,"afk_timeout":300,"system_channel_id":null,"system_channel_flags":0,"widget_enabled":false,"widget_channel_id":null,"verification_level":0,"roles":["#
    );
    role(out, id);
    put!(
        out,
        r#"],"default_message_notifications":0,"mfa_level":0,"explicit_content_filter":0,"max_presences":null,"max_members":500000,"max_stage_video_channel_users":50,"max_video_channel_users":25,"vanity_url_code":null,"premium_tier":0,"premium_subscription_count":0,"preferred_locale":"en-US","rules_channel_id":null,"safety_alerts_channel_id":null,"public_updates_channel_id":null,"premium_progress_bar_enabled":false,"nsfw":false,"nsfw_level":0,"emojis":[],"stickers":[],"hub_type":null,"latest_onboarding_question_id":null}}"#
    );
}

fn role(out: &mut Vec<u8>, id: u64) {
    put!(
        out,
        r#"{{"id":"{id}","name":"@everyone","description":null,"permissions":"2251804225","position":0,"color":0,"hoist":false,"managed":false,"mentionable":false,"icon":null,"unicode_emoji":null,"flags":0}}"#
    );
}

/// A member of a guild.
pub fn member(out: &mut Vec<u8>, user_id: u64) {
    out.extend_from_slice(b"{\"user\":");
    user(out, user_id);
    out.extend_from_slice(
        br#","nick":null,"avatar":null,"banner":null,"roles":[],"joined_at":"2020-01-01T00:00:00.000000+00:00","premium_since":null,"deaf":false,"mute":false,"pending":false,"flags":0,"communication_disabled_until":null,"unusual_dm_activity_until":null}"#,
    );
}

/// A webhook.
pub fn webhook(out: &mut Vec<u8>, id: u64, token: &str) {
    let token = serde_json::to_string(token).unwrap_or_default();
    put!(
        out,
        r#"{{"id":"{}","type":1,"guild_id":"{SOME_GUILD}","channel_id":"{SOME_CHANNEL}","name":"mock","avatar":null,"application_id":null,"token":{token}}}"#,
        or(id, SOME_CHANNEL)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn json(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_object_is_json_and_has_its_id() {
        assert_eq!(json(|o| user(o, 7))["id"], "7");
        assert_eq!(json(|o| application(o, 7))["bot"]["id"], "7");
        assert_eq!(json(|o| channel(o, 7))["id"], "7");
        assert_eq!(json(|o| guild(o, 7))["roles"][0]["id"], "7");
        assert_eq!(json(|o| member(o, 7))["user"]["id"], "7");
        assert_eq!(json(|o| webhook(o, 7, "a\"b"))["token"], "a\"b");
        assert!(json(gateway)["url"].is_string());
        let settings = GatewaySettings {
            max_concurrency: 16,
            ..GatewaySettings::default()
        };
        let bot = json(|o| gateway_bot(o, &settings));
        assert_eq!(bot["session_start_limit"]["max_concurrency"], 16);
    }

    #[test]
    fn a_message_repeats_content_and_files_of_its_request() {
        let mut body = Body::default();
        body.begin("multipart/form-data; boundary=b", None);
        body.feed(
            b"--b\r\nContent-Disposition: form-data; name=\"files[0]\"; filename=\"a b.txt\"\r\n\
              \r\n12345\r\n--b\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n\
              {\"content\":\"hi \\\"you\\\"\"}\r\n--b--\r\n",
        );
        let parts = MessageParts {
            id: 1 << 40,
            channel_id: 5,
            author_id: 6,
            webhook_id: 0,
        };
        let message = json(|o| message(o, parts, &body));
        assert_eq!(message["content"], "hi \"you\"");
        assert_eq!(message["attachments"][0]["filename"], "a b.txt");
        assert_eq!(message["attachments"][0]["size"], 5);
        assert_eq!(
            (&message["channel_id"], &message["author"]["id"]),
            (&"5".into(), &"6".into())
        );
    }

    #[test]
    fn ids_carry_their_time_and_are_never_marked_missing() {
        let mut ids = Snowflakes::new(3);
        let mut last = 0;
        for _ in 0..5000 {
            let id = ids.next(1_700_000_000_000);
            assert_eq!(snowflake_ms(id), 1_700_000_000_000);
            assert!(!matches!(id % 1000, 403 | 404) && id > last);
            last = id;
        }
    }
}
