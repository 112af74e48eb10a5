//! Who a request's `Authorization` header stands for.
//!
//! The header is borrowed for the length of one look and never kept: what stays is a keyed hash
//! ([`super::Keys::identity_key`]) and the public id of the bot, which its token carries in front
//! as base64. Two spellings of one token (`Bot X` and a bare `X`) are two identities on purpose:
//! Discord refuses the second, and its refusals must not lock the first.

use std::fmt;

use super::{base64, path::number};

/// Bytes of the longest user id in base64: 20 digits are 27 characters, and some libraries pad
/// more than the rule asks for.
const ID_BASE64_BYTES_MAX: usize = 32;

/// What an `Authorization` header is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A bot's token.
    Bot {
        /// The bot's user id, from the token; `None` if the token does not carry one.
        user_id: Option<u64>,
    },
    /// An OAuth2 bearer token.
    Bearer,
    /// No header, or an empty one.
    None,
    /// Anything else, as the Basic scheme of an OAuth2 token exchange.
    Other,
}

/// An `Authorization` header that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// What it is.
    pub kind: Kind,
    /// The header's bytes without outer blanks; empty exactly for [`Kind::None`].
    pub(super) secret: &'a [u8],
}

// The header is a secret: only what it is may be printed.
impl fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<'a> Identity<'a> {
    /// Whom the metrics call the sender: the bot's user id, `Bearer`, `NoAuth` or `Unknown`.
    pub fn client(&self) -> Client {
        match self.kind {
            Kind::Bot { user_id: Some(id) } => Client::Bot(id),
            Kind::Bearer => Client::Bearer,
            Kind::None => Client::NoAuth,
            Kind::Bot { user_id: None } | Kind::Other => Client::Unknown,
        }
    }

    /// A bot's token without its scheme, the same however the header spells it; `None` for others.
    pub fn bot_token(&self) -> Option<&'a [u8]> {
        let Kind::Bot { .. } = self.kind else {
            return None;
        };
        let scheme_end = self.secret.iter().position(u8::is_ascii_whitespace);
        let token = scheme_end.map_or(self.secret, |end| &self.secret[end..]);
        Some(token.trim_ascii_start())
    }
}

/// The `clientId` of metrics and logs: public, small and `Copy`, unlike the identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Client {
    /// A bot, by its user id.
    Bot(u64),
    /// Any bearer token.
    Bearer,
    /// Sent without `Authorization`.
    NoAuth,
    /// `Authorization` that says nothing about its sender.
    Unknown,
}

impl Client {
    /// A number for the label: equal labels, equal numbers.
    pub const fn key(self) -> u64 {
        match self {
            Self::Bot(id) => id,
            Self::Bearer => 0,
            Self::NoAuth => 1,
            Self::Unknown => 2,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bot(id) => id.fmt(f),
            Self::Bearer => f.write_str("Bearer"),
            Self::NoAuth => f.write_str("NoAuth"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

/// Looks at an `Authorization` header. Every input has an identity.
///
/// The scheme is read without regard to case (RFC 9110 11.1). A header without a scheme is a bot's
/// if it starts as a bot's token does: libraries have sent such.
pub fn parse(authorization: Option<&[u8]>) -> Identity<'_> {
    let secret = authorization.unwrap_or_default().trim_ascii();
    let kind = if secret.is_empty() {
        Kind::None
    } else {
        match secret.iter().position(|b| b.is_ascii_whitespace()) {
            Some(end) => {
                let (scheme, token) = (&secret[..end], secret[end..].trim_ascii_start());
                if scheme.eq_ignore_ascii_case(b"bot") {
                    Kind::Bot {
                        user_id: user_id(token),
                    }
                } else if scheme.eq_ignore_ascii_case(b"bearer") {
                    Kind::Bearer
                } else {
                    Kind::Other
                }
            }
            None => match user_id(secret) {
                Some(id) => Kind::Bot { user_id: Some(id) },
                None => Kind::Other,
            },
        }
    };
    Identity { kind, secret }
}

/// Numbers below this are nobody's id, and stand for those without one in [`Client::key`].
const ID_MIN: u64 = 3;

/// The user id in front of a bot's token, `base64(id).….…`.
fn user_id(token: &[u8]) -> Option<u64> {
    let start = &token[..token.len().min(ID_BASE64_BYTES_MAX + 1)];
    let end = start.iter().position(|&byte| byte == b'.')?;
    let mut room = [0; ID_BASE64_BYTES_MAX / 4 * 3];
    number(base64::decode(&token[..end], &mut room)?).filter(|id| *id >= ID_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOT: Kind = Kind::Bot {
        user_id: Some(392_827_169_497_284_619),
    };

    fn kind(header: &str) -> Kind {
        parse(Some(header.as_bytes())).kind
    }

    #[test]
    fn a_bots_id_is_read_from_its_token_however_it_is_written() {
        for header in [
            "Bot MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.secret",
            "bot MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.secret",
            " BOT   MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.secret ",
            "Bot\tMzkyODI3MTY5NDk3Mjg0NjE5.x",
            "MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.secret",
            "Bot MzkyODI3MTY5NDk3Mjg0NjE5====.Gabcde.secret",
        ] {
            assert_eq!(kind(header), BOT, "{header}");
        }
        // 19 digits need padding in strict base64; libraries and Discord leave it out.
        for token in ["MTE3NDEwOTgyMDAyNjg4MDAwMA", "MTE3NDEwOTgyMDAyNjg4MDAwMA=="] {
            let user_id = Some(1_174_109_820_026_880_000);
            assert_eq!(
                kind(&format!("Bot {token}.a.b")),
                Kind::Bot { user_id },
                "{token}"
            );
        }
    }

    #[test]
    fn what_is_no_bots_token_is_told_apart() {
        assert_eq!(parse(None).kind, Kind::None);
        for (header, expected) in [
            ("", Kind::None),
            (" \t ", Kind::None),
            ("Bearer abc", Kind::Bearer),
            ("bearer MzkyODI3MTY5NDk3Mjg0NjE5.a.b", Kind::Bearer),
            ("Basic dXNlcjpwYXNz", Kind::Other),
            ("Bearerabc", Kind::Other),
            ("Bot token", Kind::Bot { user_id: None }),
            ("Bot bm90YW51bWJlcg.a.b", Kind::Bot { user_id: None }),
            ("Bot .a.b", Kind::Bot { user_id: None }),
            ("Bot", Kind::Other),
            ("garbage.a.b", Kind::Other),
            // 21 digits: no 64-bit id.
            (
                "Bot OTk5OTk5OTk5OTk5OTk5OTk5OTk5.a",
                Kind::Bot { user_id: None },
            ),
        ] {
            assert_eq!(kind(header), expected, "{header:?}");
        }
    }

    #[test]
    fn a_bots_token_is_the_same_however_it_is_spelled() {
        let token = |header: &'static str| parse(Some(header.as_bytes())).bot_token();
        for header in ["Bot Mw.a.b", " bot \t Mw.a.b ", "Mw.a.b"] {
            assert_eq!(token(header), Some(&b"Mw.a.b"[..]), "{header}");
        }
        for header in ["", "Bearer Mw.a.b", "Bot", "Basic abc"] {
            assert_eq!(token(header), None, "{header}");
        }
    }

    #[test]
    fn the_client_label_names_bots_by_id() {
        for (header, client) in [
            ("Bot MzkyODI3MTY5NDk3Mjg0NjE5.a.b", "392827169497284619"),
            ("Bot token", "Unknown"),
            ("Bearer abc", "Bearer"),
            ("", "NoAuth"),
            ("Basic abc", "Unknown"),
        ] {
            assert_eq!(
                parse(Some(header.as_bytes())).client().to_string(),
                client,
                "{header}"
            );
        }
    }

    #[test]
    fn two_clients_share_a_number_only_if_they_share_a_label() {
        // "Mg" is 2, which would be the number of `Unknown`.
        let headers = ["Bot Mg.a.b", "Bot Mw.a.b", "Bearer x", "", "Basic x"];
        let clients = headers.map(|header| parse(Some(header.as_bytes())).client());
        for one in clients {
            for other in clients {
                let same_label = one.to_string() == other.to_string();
                assert_eq!(one.key() == other.key(), same_label, "{one} {other}");
            }
        }
        assert_eq!(clients[..2], [Client::Unknown, Client::Bot(3)]);
    }

    #[test]
    fn a_printed_identity_holds_no_token() {
        let printed = format!(
            "{:?}",
            parse(Some(b"Bot MzkyODI3MTY5NDk3Mjg0NjE5.Gabcde.secret"))
        );
        assert!(
            !printed.contains("secret") && !printed.contains("Gabcde"),
            "{printed}"
        );
    }

    proptest! {
        #[test]
        fn any_header_has_an_identity(header in prop::collection::vec(any::<u8>(), 0..200)) {
            let identity = parse(Some(&header));
            prop_assert_eq!(identity.kind == Kind::None, identity.secret.is_empty());
            identity.client().to_string();
        }

        #[test]
        fn every_id_comes_back_out_of_its_token(id in ID_MIN.., url_safe: bool, pad in 0_usize..3) {
            let first = base64::encode(id.to_string().as_bytes(), url_safe) + &"=".repeat(pad);
            let header = format!("Bot {first}.Gabcde.tail");
            prop_assert_eq!(kind(&header), Kind::Bot { user_id: Some(id) });
        }
    }
}
