//! Changing a running weir.
//!
//! | request | does |
//! |---|---|
//! | `GET /admin/log-level` | how much is logged |
//! | `PUT /admin/log-level`, body `debug` | logs so much from now on |
//! | `GET /admin/overrides` | global limits that were set, by bot |
//! | `GET`, `PUT`, `DELETE /admin/overrides/<bot>`, body `100` | one bot's, in requests a second |
//! | `GET /admin/locks` | tokens that are locked, webhooks that are gone, Cloudflare's block, with the time left |
//! | `DELETE /admin/locks` | opens all of them |
//! | `DELETE /admin/locks/tokens`, `…/webhooks`, `…/cloudflare` | those of one kind |
//! | `DELETE /admin/locks/tokens/<bot>`, `…/webhooks/<id>` | one, by its id or its `key` |
//! | `POST /admin/drain` | ends weir as SIGTERM does: who waits and what is under way finishes |
//! | `POST /admin/state` | writes `STATE_FILE` now |
//!
//! Answers are JSON: what holds after the change, or `{"message": …, "code": 0}`. What is changed holds
//! until weir ends, for this node alone, and each change is a line of the log: who, what, from, to.
//!
//! A drain is not undone: connections are closed within half a second, and who is not served here any
//! more has gone elsewhere.

pub(super) mod locks;
pub(super) mod overrides;

use std::fmt::Display;
use std::time::Duration;

use super::answer::Answer;
use super::log;
use super::pages::Asked;
use crate::config::LogLevel;

/// Longest body: a word or a number, in quotes or an object.
pub(super) const BODY_BYTES_MAX: usize = 64;

/// One line of the log for each change.
pub(super) fn changed(asked: &Asked<'_>, what: &str, was: &dyn Display, now: &dyn Display) {
    tracing::info!(
        from = %asked.from.to_canonical(),
        what,
        %was,
        %now,
        "changed at run time"
    );
}

/// What a body says: as it stands, as a string of JSON, or as the one value of an object.
fn word(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let value = match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(object)) if object.len() == 1 => {
            object.into_iter().next().map(|(_, value)| value)?
        }
        Ok(value) => value,
        Err(_) => return Some(text.to_owned()),
    };
    match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    }
}

/// A number in decimal digits.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn json(value: &serde_json::Value) -> Answer {
    Answer::json(value.to_string() + "\n")
}

const NOT_OURS: &str = "the program that weir is a part of keeps its log by itself";

/// `GET /admin/log-level`
pub(super) fn read_log_level(_asked: &Asked<'_>) -> Answer {
    match log::level() {
        Ok(level) => json(&serde_json::json!({ "level": level.as_str() })),
        Err(log::NotOurs) => Answer::error(409, NOT_OURS),
    }
}

/// `PUT /admin/log-level`
pub(super) fn set_log_level(asked: &Asked<'_>) -> Answer {
    let Some(level) = word(asked.body).and_then(|word| LogLevel::named(&word)) else {
        return Answer::error(
            400,
            "the body is none of error, warn, info, debug and trace",
        );
    };
    let Ok(was) = log::level() else {
        return Answer::error(409, NOT_OURS);
    };
    // Before it, if nobody would hear of it afterwards.
    let before = level < LogLevel::Info;
    if before {
        changed(asked, "log level", &was.as_str(), &level.as_str());
    }
    match log::set_level(level) {
        Ok(was) => {
            if !before {
                changed(asked, "log level", &was.as_str(), &level.as_str());
            }
            read_log_level(asked)
        }
        Err(log::NotOurs) => Answer::error(409, NOT_OURS),
    }
}

/// `POST /admin/drain`
pub(super) fn drain(asked: &Asked<'_>) -> Answer {
    let process = asked.process;
    if process.is_draining() {
        return Answer::error(409, "weir is draining already");
    }
    changed(asked, "draining", &false, &true);
    (process.drain)();
    let within = millis(process.config.shutdown_timeout);
    let told = serde_json::json!({ "draining": true, "ends_within_ms": within });
    json(&told).accepted()
}

/// `POST /admin/state`
pub(super) fn write_state(asked: &Asked<'_>) -> Answer {
    let Some(write) = asked.process.write_state.get() else {
        return Answer::error(404, "STATE_FILE is not set");
    };
    match write() {
        Ok(bytes) => json(&serde_json::json!({ "bytes": bytes })),
        Err(error) => Answer::error(500, &format!("STATE_FILE cannot be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_word_or_a_number_however_it_is_wrapped() {
        for body in ["debug", " debug\n", "\"debug\"", "{\"level\": \"debug\"}"] {
            assert_eq!(word(body.as_bytes()).as_deref(), Some("debug"), "{body}");
        }
        for body in ["100", "\"100\"", "{\"limit\":100}"] {
            let read = word(body.as_bytes()).and_then(|word| number(&word));
            assert_eq!(read, Some(100), "{body}");
        }
        for body in [
            "-1",
            "1.5",
            "+1",
            "",
            "{\"a\":1,\"b\":2}",
            "[1]",
            "null",
            "1e3",
            "\u{b2}",
        ] {
            let read = word(body.as_bytes()).and_then(|word| number(&word));
            assert_eq!(read, None, "{body}");
        }
        assert_eq!(word(b"\xff"), None);
    }
}
