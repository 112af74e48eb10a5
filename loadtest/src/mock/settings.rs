//! What a scenario can change while the mock runs.
//!
//! Settings are one JSON document: `GET /__mock/config` shows it, `POST /__mock/config` merges a
//! patch into it (RFC 7386: absent members stay, `null` restores the default, arrays are replaced).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::faults::Fault;
use super::limits::{InvalidSettings, LimitSettings};

/// Everything that can change at run time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Time on the network and in Discord's servers, in milliseconds: half of it passes before a
    /// request is judged and half after, so it looks like distance.
    pub latency_ms: f64,
    /// Added to the latency, evenly spread between zero and this, in milliseconds.
    pub jitter_ms: f64,
    /// Rate limits.
    pub limits: LimitSettings,
    /// The ban of addresses.
    pub invalid: InvalidSettings,
    /// Who may come in.
    pub auth: AuthSettings,
    /// Which ids exist.
    pub ids: IdSettings,
    /// The bot's gateway, as `/gateway/bot` tells it.
    pub gateway: GatewaySettings,
    /// The form of answers.
    pub answers: AnswerSettings,
    /// What happens to connections.
    pub connections: ConnectionSettings,
    /// Injected faults; the first that matches a request and is not used up applies.
    pub faults: Vec<Fault>,
    /// Arrivals kept in the log; the oldest leave first.
    pub log_entries: usize,
}

/// Arrivals kept unless a scenario asks for more: 16,384 are about 3 MB.
const LOG_ENTRIES: usize = 16_384;

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency_ms: 0.0,
            jitter_ms: 0.0,
            limits: LimitSettings::default(),
            invalid: InvalidSettings::default(),
            auth: AuthSettings::default(),
            ids: IdSettings::default(),
            gateway: GatewaySettings::default(),
            answers: AnswerSettings::default(),
            connections: ConnectionSettings::default(),
            faults: Vec::new(),
            log_entries: LOG_ENTRIES,
        }
    }
}

impl Settings {
    /// Settings without limits, bans and log: what a measurement of throughput wants.
    pub fn unlimited() -> Self {
        Self {
            limits: LimitSettings {
                enforce: false,
                ..LimitSettings::default()
            },
            invalid: InvalidSettings {
                threshold: u32::MAX,
                ..InvalidSettings::default()
            },
            log_entries: 0,
            ..Self::default()
        }
    }

    /// These settings with `patch` merged in.
    ///
    /// # Errors
    /// What serde says when the result is not a settings document; nothing is changed then.
    pub fn patched(&self, patch: &Value) -> Result<Self, serde_json::Error> {
        let mut document = serde_json::to_value(self)?;
        merge(&mut document, patch);
        serde_json::from_value(document)
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

/// Who may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether routes that need a token answer 401 without one.
    pub required: bool,
    /// Tokens (or parts of them) that are answered 401.
    pub dead_tokens: Vec<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            required: true,
            dead_tokens: vec!["dead-token".to_owned()],
        }
    }
}

/// Which ids exist: told by how they end, so that a test can name a missing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdSettings {
    /// Ids with this ending are unknown (404 with the code of their kind).
    pub unknown_suffix: String,
    /// Ids with this ending may not be touched (403).
    pub forbidden_suffix: String,
}

impl Default for IdSettings {
    fn default() -> Self {
        Self {
            unknown_suffix: "404".to_owned(),
            forbidden_suffix: "403".to_owned(),
        }
    }
}

/// What `/gateway/bot` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Recommended number of shards.
    pub shards: u32,
    /// Identifies allowed a day.
    pub total: u32,
    /// Identifies left today.
    pub remaining: u32,
    /// Until the day ends, in milliseconds.
    pub reset_after_ms: u64,
    /// Identifies allowed in 5 s.
    pub max_concurrency: u32,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            shards: 1,
            total: 1000,
            remaining: 1000,
            reset_after_ms: 14_400_000,
            max_concurrency: 1,
        }
    }
}

/// The form of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerSettings {
    /// Whether JSON comes chunked, as Cloudflare often sends it, instead of with its length.
    pub chunked: bool,
    /// Whether errors come compressed for a client that accepts it.
    pub compress_errors: bool,
    /// Whether every answer is preceded by `103 Early Hints`.
    pub early_hints: bool,
    /// How far the server's clock (`Date`, `X-RateLimit-Reset`, ids) is ahead, in milliseconds.
    pub clock_skew_ms: i64,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// Close after this many answers, without having announced it.
    pub close_after_requests: Option<u32>,
    /// How long after that last answer, in milliseconds; what arrives meanwhile is never read.
    pub close_delay_ms: u64,
    /// Close a connection that was idle for this long, in milliseconds.
    pub idle_ms: Option<u64>,
    /// How long a new connection lies before anything is read from it, its handshake included, in
    /// milliseconds: a server far away, or one that is short of CPU.
    pub handshake_delay_ms: u64,
    /// What befalls a connection as soon as it is accepted.
    pub on_accept: OnAccept,
}

/// What befalls a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAccept {
    /// It is served.
    #[default]
    Serve,
    /// It is closed in order (FIN).
    Close,
    /// It is reset (RST).
    Reset,
    /// Nothing is ever read or written: a TLS handshake hangs.
    Hang,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names_and_null_restores_the_default() {
        let settings = Settings::default();
        let changed = settings
            .patched(&json!({"latency_ms": 20, "limits": {"global": {"limit": 7}}}))
            .unwrap();
        assert_eq!((changed.latency_ms, changed.limits.global.limit), (20.0, 7));
        assert_eq!(changed.limits.rules, settings.limits.rules);
        let back = changed
            .patched(&json!({"limits": null, "latency_ms": null}))
            .unwrap();
        assert_eq!(back, settings);
    }

    #[test]
    fn a_patch_with_an_unknown_name_is_refused() {
        let error = Settings::default()
            .patched(&json!({"latensy_ms": 20}))
            .unwrap_err();
        assert!(error.to_string().contains("latensy_ms"), "{error}");
    }
}
