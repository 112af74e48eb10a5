//! Which limit binds which method and template: a table that a scenario can change.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Quota, Window};
use crate::mock::route::Method;
use crate::mock::stable_hash;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Method in capitals, or `*`.
    pub method: String,
    /// Template with `!` for every id, as `route` makes it; a final `*` matches any rest.
    pub template: String,
    /// Requests in one window.
    pub limit: u32,
    /// Length of the window in milliseconds.
    pub per_ms: u64,
    /// How slots return.
    #[serde(default)]
    pub window: Window,
    /// The hash that `X-RateLimit-Bucket` shows; derived from the counter when absent.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Rules with one counter name share one count. Absent: the bucket's name, or else the rule
    /// counts alone. Two rules of one bucket with two counters are Discord's misleading case.
    #[serde(default)]
    pub counter: Option<String>,
    /// Whether the answers carry limit headers at all.
    #[serde(default = "yes")]
    pub headers: bool,
    /// A limit over all identities, refused with scope `shared`.
    #[serde(default)]
    pub shared: Option<Quota>,
    /// Limits on body fields that no header shows.
    #[serde(default)]
    pub hidden: Vec<Hidden>,
}

/// A limit on requests whose JSON body has one of some fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    /// Top-level field names; one is enough.
    pub fields: Vec<String>,
    /// What they are limited to.
    pub quota: Quota,
}

/// The limit over all routes of one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalQuota {
    /// Requests in one window.
    pub limit: u32,
    /// Length of the window in milliseconds.
    pub per_ms: u64,
    /// How the window moves.
    pub window: GlobalWindow,
}

impl Default for GlobalQuota {
    fn default() -> Self {
        Self {
            limit: 50,
            per_ms: 1000,
            window: GlobalWindow::Sliding,
        }
    }
}

/// How the global window moves; Discord does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlobalWindow {
    /// No period of the window's length may hold more than the limit: strictest, the default.
    #[default]
    Sliding,
    /// A window opens with its first request.
    Fixed,
}

/// All limits of a mock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Whether limits refuse anything; without, headers show huge buckets.
    pub enforce: bool,
    /// The global limit of a bot without an entry in `global_by_bot`.
    pub global: GlobalQuota,
    /// Global limits of bots by user id.
    pub global_by_bot: BTreeMap<String, u32>,
    /// What binds a route that no rule names.
    pub default: Quota,
    /// The table; the first rule that matches counts.
    pub rules: Vec<Rule>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            enforce: true,
            global: GlobalQuota::default(),
            global_by_bot: BTreeMap::new(),
            default: Quota::sliding(5, 5000),
            rules: default_rules(),
        }
    }
}

/// A rule made ready for one method and template.
#[derive(Clone, Debug)]
pub struct OpRule {
    /// The visible bucket.
    pub quota: Quota,
    /// Names the count.
    pub counter: u64,
    /// The value of `X-RateLimit-Bucket`.
    pub bucket: Arc<str>,
    /// Whether headers are sent.
    pub headers: bool,
    /// The limit over all identities.
    pub shared: Option<Quota>,
    /// The limits no header shows.
    pub hidden: Vec<Hidden>,
}

impl LimitSettings {
    /// The rule that binds `method` on `template`.
    pub fn rule_of(&self, method: Method, template: &str) -> OpRule {
        // HEAD is a GET without a body and counted as one.
        let method = if method == Method::Head {
            Method::Get
        } else {
            method
        };
        let own = format!("{} {template}", method.as_str());
        let found = self.rules.iter().find(|r| {
            (r.method == "*" || r.method == method.as_str())
                && match r.template.strip_suffix('*') {
                    Some(start) => template.starts_with(start),
                    None => r.template == template,
                }
        });
        let (quota, counter) = match found {
            Some(r) => (
                Quota {
                    limit: r.limit,
                    per_ms: r.per_ms,
                    window: r.window,
                },
                r.counter
                    .clone()
                    .or_else(|| r.bucket.clone())
                    .unwrap_or(own),
            ),
            None => (self.default, own),
        };
        let quota = if self.enforce {
            quota
        } else {
            Quota::sliding(1_000_000, 1000)
        };
        let bucket = match found.and_then(|r| r.bucket.as_deref()) {
            Some(name) => Arc::from(name),
            None => Arc::from(format!(
                "{:016x}{:016x}",
                stable_hash(counter.as_bytes()),
                stable_hash(format!("{counter}#").as_bytes())
            )),
        };
        OpRule {
            quota,
            counter: stable_hash(counter.as_bytes()),
            bucket,
            headers: found.is_none_or(|r| r.headers),
            shared: found.filter(|_| self.enforce).and_then(|r| r.shared),
            hidden: found
                .filter(|_| self.enforce)
                .map_or_else(Vec::new, |r| r.hidden.clone()),
        }
    }

    /// The global limit of the bot with this user id; `None` when limits are off.
    pub fn global_of(&self, bot_id: Option<u64>) -> Option<GlobalQuota> {
        if !self.enforce {
            return None;
        }
        let own = bot_id.and_then(|id| self.global_by_bot.get(&id.to_string()));
        Some(GlobalQuota {
            limit: own.copied().unwrap_or(self.global.limit),
            ..self.global
        })
    }
}

fn yes() -> bool {
    true
}

fn rule(method: &str, template: &str, quota: Quota) -> Rule {
    Rule {
        method: method.to_owned(),
        template: template.to_owned(),
        limit: quota.limit,
        per_ms: quota.per_ms,
        window: quota.window,
        bucket: None,
        counter: None,
        headers: true,
        shared: None,
        hidden: Vec::new(),
    }
}

/// Limits like those that Discord was seen to have.
fn default_rules() -> Vec<Rule> {
    let named = |name: &str, r: Rule| Rule {
        counter: Some(name.to_owned()),
        ..r
    };
    let reaction = "/channels/!/messages/!/reactions/!";
    let mut rules = vec![
        rule("POST", "/channels/!/messages", Quota::sliding(5, 5000)),
        rule("GET", "/channels/!/messages", Quota::sliding(5, 1000)),
        rule("PATCH", "/channels/!/messages/!", Quota::sliding(5, 5000)),
        // Deletion has three limits by the age of the message.
        rule(
            "DELETE",
            "/channels/!/messages/!young",
            Quota::sliding(5, 1000),
        ),
        rule("DELETE", "/channels/!/messages/!", Quota::sliding(3, 330)),
        rule(
            "DELETE",
            "/channels/!/messages/!old",
            Quota::sliding(30, 4000),
        ),
        named("reactions", rule("PUT", reaction, Quota::fixed(1, 250))),
        named("reactions", rule("DELETE", reaction, Quota::fixed(1, 250))),
        // A channel's name and topic have a limit of their own that only a 429 tells.
        Rule {
            hidden: vec![Hidden {
                fields: vec!["name".to_owned(), "topic".to_owned()],
                quota: Quota::fixed(2, 600_000),
            }],
            ..rule("PATCH", "/channels/!", Quota::sliding(5, 15_000))
        },
        rule("GET", "/guilds/!/members/!", Quota::sliding(5, 1000)),
        rule(
            "PUT",
            "/guilds/!/members/!/roles/!",
            Quota::fixed(10, 10_000),
        ),
        rule(
            "DELETE",
            "/guilds/!/members/!/roles/!",
            Quota::fixed(10, 10_000),
        ),
        // Follow-ups and executions: per webhook and token.
        rule("POST", "/webhooks/!/!", Quota::sliding(5, 2000)),
        named(
            "followup",
            rule("*", "/webhooks/!/!/messages/*", Quota::sliding(5, 2000)),
        ),
        rule("GET", "/gateway/bot", Quota::fixed(2, 5000)),
        rule("GET", "/users/@me", Quota::sliding(30, 30_000)),
    ];
    // These have the global limit alone, or headers that cannot be relied on.
    for template in [
        "/gateway",
        "/interactions/!/!/callback",
        "/guilds/!/emojis*",
    ] {
        let quota = Quota::sliding(50, 1000);
        rules.push(Rule {
            headers: false,
            ..rule("*", template, quota)
        });
    }
    // An interaction is answered once; its callback must never be what holds a bot back.
    for r in rules
        .iter_mut()
        .filter(|r| r.template.starts_with("/interactions"))
    {
        r.limit = 1_000_000;
    }
    // Not Discord's: what tests use to look at bytes and to time the path alone.
    for template in ["/echo*", "/channels/!/attachments-test"] {
        rules.push(Rule {
            headers: false,
            ..rule("*", template, Quota::sliding(1_000_000, 1000))
        });
    }
    rules
}
