//! The mock's own endpoints, for tests in other languages.
//!
//! | request | answer |
//! |---|---|
//! | `GET /__mock/oracle` | the [`OracleReport`](super::oracle::OracleReport) |
//! | `GET /__mock/log?target=PART` | arrivals whose target contains PART, oldest first |
//! | `GET /__mock/config` | the settings |
//! | `POST /__mock/config` | merges a patch into the settings, shows the result |
//! | `POST /__mock/reset` | forgets what was seen and all counters |
//! | `POST /__mock/close` | ends every connection of the main listener |
//! | `POST /__mock/refuse`, `/__mock/listen` | closes the main listener, opens it again |

use serde_json::{Value, json};

use super::route::Method;
use super::server::{Command, Shared};

/// What every control path begins with.
pub(super) const PREFIX: &str = "/__mock/";

/// Carries out a control request; status and JSON of its answer.
pub(super) fn answer(shared: &Shared, method: Method, target: &str, body: &[u8]) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let done = || (200, "{}".to_owned());
    match (method, path.strip_prefix(PREFIX).unwrap_or("")) {
        (Method::Get, "oracle") => to_json(&shared.report()),
        (Method::Get, "log") => {
            let part = query
                .split('&')
                .find_map(|p| p.strip_prefix("target="))
                .unwrap_or("");
            to_json(&shared.world().oracle.log.of(part))
        }
        (Method::Get, "config") => to_json(shared.world().settings()),
        (Method::Post, "config") => {
            let patch = serde_json::from_slice::<Value>(body);
            match patch.and_then(|patch| shared.patch(&patch)) {
                Ok(()) => to_json(shared.world().settings()),
                Err(error) => (400, json!({ "error": error.to_string() }).to_string()),
            }
        }
        (Method::Post, "reset") => {
            shared.reset();
            done()
        }
        (Method::Post, "close") => {
            shared.command(Command::CloseAll);
            done()
        }
        (Method::Post, "refuse") => {
            shared.command(Command::Refuse);
            done()
        }
        (Method::Post, "listen") => {
            shared.command(Command::Listen);
            done()
        }
        _ => (404, json!({ "error": "no such control" }).to_string()),
    }
}

fn to_json(value: &impl serde::Serialize) -> (u16, String) {
    match serde_json::to_string(value) {
        Ok(text) => (200, text),
        Err(error) => (500, json!({ "error": error.to_string() }).to_string()),
    }
}
