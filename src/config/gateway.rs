//! The identify queue: `GATEWAY_QUEUE_PORT`, its bounds, and the token of the bot that it is for.

use std::fmt;
use std::str::FromStr;

use super::bounds;
use super::setting::{Effect, PORT_ALLOWED, Setting, count, port, set};

/// Bytes of a token: a bot's has some 75.
const TOKEN_BYTES_MAX: usize = 256;

/// `DISCORD_TOKEN`: a bot's token. Secret, so that nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct BotToken {
    /// Invariant: a scheme, a space, and printable ASCII.
    authorization: String,
}

impl BotToken {
    /// The value of `Authorization` that it makes.
    pub fn authorization(&self) -> &[u8] {
        self.authorization.as_bytes()
    }
}

impl fmt::Debug for BotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BotToken(…)")
    }
}

/// The text cannot be a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAToken;

impl fmt::Display for NotAToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a bot's token")
    }
}

impl std::error::Error for NotAToken {}

impl FromStr for BotToken {
    type Err = NotAToken;

    /// A token, with or without `Bot ` in front.
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let token = match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bot") => token,
            Some(_) => return Err(NotAToken),
            None => text,
        };
        let sound = !token.is_empty()
            && token.len() <= TOKEN_BYTES_MAX
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !sound {
            return Err(NotAToken);
        }
        Ok(Self {
            authorization: format!("Bot {token}"),
        })
    }
}

pub(super) const GATEWAY: &[Setting] = &[
    Setting {
        name: "GATEWAY_QUEUE_PORT",
        help: "Port where shards ask when they may IDENTIFY; 0 takes a free one; unset, there is none; in a cluster the same at all nodes, which ask each other there",
        default: "",
        allowed: PORT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.gateway_queue_port, Some(Some(port(v)?)))),
    },
    Setting {
        name: "DISCORD_TOKEN",
        help: "Token of the bot whose shards ask without an Authorization of their own; better not as a flag, which others can see",
        default: "",
        allowed: "a bot's token",
        effect: Effect::Lists(|c, v| {
            // What is wrong with it may be one letter: it is a secret all the same.
            let token = v.parse::<BotToken>().map_err(|_| "…".to_owned())?;
            c.discord_token = Some(token);
            Ok(())
        }),
    },
    Setting {
        name: "GATEWAY_QUEUE_MAX_WAITING",
        help: "Shards that wait to IDENTIFY; more are refused",
        default: "65536",
        allowed: "a number 1 to 1048576",
        effect: Effect::Sets(|c, v| {
            let range = 1..=bounds::GATEWAY_WAITING_MAX;
            set(&mut c.gateway_queue_max_waiting, count(v, range))
        }),
    },
    Setting {
        name: "GATEWAY_QUEUE_MAX_WAITING_PER_BOT",
        help: "The same for one bot",
        default: "16384",
        allowed: "a number 1 to 1048576",
        effect: Effect::Sets(|c, v| {
            let range = 1..=bounds::GATEWAY_WAITING_MAX;
            set(&mut c.gateway_queue_max_waiting_per_bot, count(v, range))
        }),
    },
    Setting {
        name: "GATEWAY_QUEUE_MAX_BOTS",
        help: "Bots that are kept track of there; one that nobody waits for makes room for another",
        default: "1024",
        allowed: "a number 1 to 65536",
        effect: Effect::Sets(|c, v| {
            let range = 1..=bounds::GATEWAY_BOTS_MAX;
            set(&mut c.gateway_queue_max_bots, count(v, range))
        }),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_with_or_without_its_scheme_and_is_never_printed() {
        for text in ["abc.def.ghi", "Bot abc.def.ghi", "bot abc.def.ghi"] {
            let token: BotToken = text.parse().unwrap();
            assert_eq!(token.authorization(), b"Bot abc.def.ghi");
            assert!(!format!("{token:?}").contains("abc"));
        }
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        for text in [
            "",
            "Bot ",
            "Bearer abc",
            "Bot a b",
            "a\tb",
            "ä",
            "a\r\nb",
            &long,
        ] {
            assert_eq!(text.parse::<BotToken>(), Err(NotAToken), "{text:?}");
        }
    }
}
