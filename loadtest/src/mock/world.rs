//! Discord as one value: judges each request and takes note of it. Pure: time is an argument.
//!
//! The server holds one `World` behind a lock, taken once a request; a judgement costs well below
//! a microsecond. A second one can be fed the same requests to learn what would have happened, as
//! the demo does to count the 429s that weir avoided.

use std::net::IpAddr;
use std::sync::Arc;

use ahash::AHashMap;

use super::endpoint::Endpoint;
use super::faults::{Action, Faults};
use super::limits::{Cause, Demand, GlobalQuota, Invalid, InvalidSettings, Limits, OpRule, View};
use super::oracle::{Judged, Oracle, OracleReport, Tag};
use super::route::{self, Method, Owner};
use super::settings::{AnswerSettings, GatewaySettings, Settings};
use super::stable_hash;

/// Kinds of request told apart; what comes beyond is counted as one. Discord has about 250.
const OPS_MAX: usize = 2048;

/// Senders told apart; what comes beyond is counted as one.
const SENDERS_MAX: usize = 20_000;

/// Bots named in a report, the first to come.
const BOTS_REPORTED_MAX: usize = 1000;

/// A request as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: &'a str,
    /// `Authorization`, empty without.
    pub authorization: &'a str,
    /// The sender's address.
    pub source: IpAddr,
    /// The JSON body (of a multipart upload, its `payload_json`), possibly cut.
    pub json: &'a [u8],
    /// Bytes of the whole body.
    pub body_bytes: u64,
    /// Connection and ordinal on it, for the log.
    pub connection: (u64, u32),
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The endpoint's own answer.
    Serve(Endpoint),
    /// A refusal by a limit, with the wait in nanoseconds.
    Limited(Cause, u64),
    /// An error of Discord: status, code and message.
    Error(u16, u32, &'static str),
}

/// A judgement.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is answered.
    pub reply: Reply,
    /// The bucket that the headers show, with its hash.
    pub limit: Option<(View, Arc<str>)>,
    /// The bot's user id, zero when unknown.
    pub bot_id: u64,
    /// The form of answers.
    pub answers: AnswerSettings,
    /// What the gateway endpoint tells.
    pub gateway: GatewaySettings,
    /// The form of a ban's answer.
    pub ban: InvalidSettings,
}

/// The state of Discord.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    ops: Vec<Op>,
    /// By method, then by template.
    op_index: [AHashMap<String, usize>; Method::COUNT],
    senders: AHashMap<u64, Sender>,
    limits: Limits,
    invalid: Invalid,
    /// Faults and how far they are used up.
    pub faults: Faults,
    /// What was seen.
    pub oracle: Oracle,
    started_ns: u64,
    template: String,
}

#[derive(Debug)]
struct Op {
    name: String,
    template: String,
    method: Method,
    rule: OpRule,
    endpoint: Endpoint,
}

#[derive(Clone, Copy, Debug)]
struct Sender {
    bot_id: u64,
    global: Option<GlobalQuota>,
    dead: bool,
    requests: u64,
}

impl World {
    /// A Discord that has seen nothing.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut world = Self {
            settings: Settings::default(),
            ops: Vec::new(),
            op_index: Default::default(),
            senders: AHashMap::new(),
            limits: Limits::default(),
            invalid: Invalid::default(),
            faults: Faults::new(seed),
            oracle: Oracle::default(),
            started_ns: 0,
            template: String::new(),
        };
        world.configure(settings);
        world
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings; counters and counts stay.
    pub fn configure(&mut self, settings: Settings) {
        for op in &mut self.ops {
            op.rule = settings.limits.rule_of(op.method, &op.template);
        }
        // Limits and deadness of senders are read again when they next come.
        for sender in self.senders.values_mut() {
            sender.global = settings.limits.global_of(Some(sender.bot_id));
        }
        let dead_changed = settings.auth != self.settings.auth;
        if dead_changed {
            self.senders.clear();
        }
        self.oracle.log.bound(settings.log_entries);
        if settings.faults != self.settings.faults {
            self.faults.replace(&settings.faults);
        }
        self.settings = settings;
    }

    /// Forgets what was seen, all counters and all bans; the settings stay, faults are fresh.
    pub fn reset(&mut self, now_ns: u64) {
        self.limits.clear();
        self.invalid.clear();
        self.senders.clear();
        self.oracle.clear();
        self.faults.replace(&self.settings.faults);
        self.started_ns = now_ns;
    }

    /// What the oracle can tell at `now_ns`.
    pub fn report(&self, now_ns: u64) -> OracleReport {
        let mut report = self
            .oracle
            .report(self.ops.iter().map(|op| op.name.as_str()));
        report.elapsed_ms = now_ns.saturating_sub(self.started_ns) / 1_000_000;
        report.invalid_in_window = self.invalid.most() as u64;
        for sender in self
            .senders
            .values()
            .filter(|s| s.requests > 0)
            .take(BOTS_REPORTED_MAX)
        {
            let name = if sender.bot_id == 0 {
                "other".to_owned()
            } else {
                sender.bot_id.to_string()
            };
            *report.bots.entry(name).or_default() += sender.requests;
        }
        report
    }

    /// Takes note of a request whose answer a fault replaces (`status`; 0 for none).
    pub fn strike(&mut self, now_ns: u64, unix_ms: u64, request: &Request<'_>, status: u16) {
        let mut template = std::mem::take(&mut self.template);
        if route::parse(request.method, request.target, unix_ms, &mut template).is_none() {
            "other".clone_into(&mut template);
        }
        let op = self.op(request.method, &template);
        self.template = template;
        self.note_invalid(now_ns, request.source, status, None);
        self.oracle.record(Judged {
            op,
            status,
            refused: None,
            accepted: false,
        });
        self.note_arrival(now_ns, request, status, 0);
    }

    /// Judges a request that arrives at `now_ns`; `unix_ms` is the server's wall clock.
    pub fn judge(&mut self, now_ns: u64, unix_ms: u64, request: &Request<'_>) -> Outcome {
        let mut template = std::mem::take(&mut self.template);
        let path = route::parse(request.method, request.target, unix_ms, &mut template);
        let Some(path) = path else {
            self.template = template;
            let op = self.op(request.method, "other");
            let reply = Reply::Error(404, 0, "404: Not Found");
            return self.conclude(now_ns, request, op, reply, None, 0);
        };
        let op = self.op(request.method, &template);
        self.template = template;
        if let Some(wait) = self.invalid.banned_for(request.source, now_ns) {
            self.oracle.banned_requests += 1;
            let reply = Reply::Limited(Cause::Cloudflare, wait);
            return self.conclude(now_ns, request, op, reply, None, 0);
        }
        let (identity, sender) = self.sender(request);
        let endpoint = self.ops[op].endpoint;
        if let Some(denied) = self.authenticate(request, &path, endpoint, sender) {
            return self.conclude(now_ns, request, op, denied, None, sender.bot_id);
        }
        let (identity, global) = match path.owner {
            Owner::Sender => (identity, sender.global),
            Owner::Webhook | Owner::Interaction => (path.major, None),
        };
        let rule = &self.ops[op].rule;
        let hidden = hidden_mask(rule, request.json);
        let demand = Demand {
            identity,
            major: path.major,
            global,
            rule,
            hidden,
        };
        let decision = self.limits.decide(now_ns, &demand);
        let limit = decision
            .view
            .filter(|_| rule.headers)
            .map(|view| (view, Arc::clone(&rule.bucket)));
        let lane = rule.counter ^ identity.rotate_left(21) ^ path.major.rotate_left(42);
        let reply = match decision.refused {
            Some((cause, wait)) => Reply::Limited(cause, wait),
            None => {
                if let Some(id) = path.number(route::REQUEST_PARAM) {
                    self.oracle.once.record(id, request.method, request.target);
                }
                if let Some(tag) = Tag::find(path.query, request.json) {
                    self.oracle.order.record(lane, tag, request.target);
                }
                endpoint
                    .missing(&path, &self.settings.ids)
                    .unwrap_or(Reply::Serve(endpoint))
            }
        };
        self.conclude(now_ns, request, op, reply, limit, sender.bot_id)
    }

    /// Which fault befalls a request.
    pub fn fault(&mut self, method: Method, target: &str, authorization: &str) -> Option<Action> {
        let fault = self.faults.strike(method, target, authorization)?;
        self.oracle.faults += 1;
        let label = fault.label();
        match self.oracle.struck.get_mut(label) {
            Some(count) => *count += 1,
            None => drop(self.oracle.struck.insert(label.to_owned(), 1)),
        }
        Some(fault.action.clone())
    }

    fn conclude(
        &mut self,
        now_ns: u64,
        request: &Request<'_>,
        op: usize,
        reply: Reply,
        limit: Option<(View, Arc<str>)>,
        bot_id: u64,
    ) -> Outcome {
        let (status, refused, accepted) = match &reply {
            Reply::Serve(endpoint) => (endpoint.status(request.target), None, true),
            Reply::Limited(cause, _) => (429, Some(*cause), false),
            Reply::Error(status, ..) => (*status, None, false),
        };
        self.note_invalid(now_ns, request.source, status, refused);
        self.oracle.record(Judged {
            op,
            status,
            refused,
            accepted,
        });
        self.note_arrival(now_ns, request, status, bot_id);
        let Settings {
            answers,
            gateway,
            invalid: ban,
            ..
        } = self.settings;
        Outcome {
            reply,
            limit,
            bot_id,
            answers,
            gateway,
            ban,
        }
    }

    fn note_invalid(&mut self, now_ns: u64, source: IpAddr, status: u16, cause: Option<Cause>) {
        let counts = matches!(status, 401 | 403 | 429)
            && !matches!(cause, Some(Cause::Shared | Cause::Cloudflare));
        if counts {
            self.oracle.invalid += 1;
            let banned = self.invalid.record(&self.settings.invalid, source, now_ns);
            self.oracle.bans += u64::from(banned);
        }
    }

    fn note_arrival(&mut self, now_ns: u64, request: &Request<'_>, status: u16, bot_id: u64) {
        let (connection, ordinal) = request.connection;
        let connections = &mut self.oracle.connections;
        connections.requests_on_reused += u64::from(ordinal > 1);
        connections.requests_max = connections.requests_max.max(u64::from(ordinal));
        connections.body_bytes_in += request.body_bytes;
        self.oracle.log.push(|entry| {
            entry.at_ns = now_ns;
            request.method.as_str().clone_into(&mut entry.method);
            request.target.clone_into(&mut entry.target);
            entry.status = status;
            (entry.connection, entry.ordinal) = (connection, ordinal);
            entry.bot_id = bot_id;
            entry.body_bytes = request.body_bytes;
        });
    }

    /// A 401, or a missing token where one is needed.
    fn authenticate(
        &self,
        request: &Request<'_>,
        path: &route::Path<'_>,
        endpoint: Endpoint,
        sender: Sender,
    ) -> Option<Reply> {
        if path.owner != Owner::Sender {
            let token = path.segment(2);
            let dead = self
                .settings
                .auth
                .dead_tokens
                .iter()
                .any(|t| token.contains(t.as_str()));
            return dead.then_some(Reply::Error(401, 50_027, "Invalid Webhook Token"));
        }
        let missing = request.authorization.is_empty()
            && self.settings.auth.required
            && !endpoint.is_public();
        (sender.dead || missing).then_some(Reply::Error(401, 0, "401: Unauthorized"))
    }

    fn sender(&mut self, request: &Request<'_>) -> (u64, Sender) {
        let identity = if request.authorization.is_empty() {
            match request.source {
                IpAddr::V4(ip) => u64::from(u32::from(ip)),
                IpAddr::V6(ip) => stable_hash(&ip.octets()),
            }
        } else {
            stable_hash(request.authorization.as_bytes())
        };
        let key = if self.senders.len() < SENDERS_MAX || self.senders.contains_key(&identity) {
            identity
        } else {
            0
        };
        let settings = &self.settings;
        let sender = self.senders.entry(key).or_insert_with(|| {
            let bot_id = route::bot_id(request.authorization).filter(|_| key != 0);
            let dead = |t: &String| request.authorization.contains(t.as_str());
            Sender {
                bot_id: bot_id.unwrap_or(0),
                global: settings.limits.global_of(bot_id),
                dead: settings.auth.dead_tokens.iter().any(dead),
                requests: 0,
            }
        });
        sender.requests += 1;
        (identity, *sender)
    }

    fn op(&mut self, method: Method, template: &str) -> usize {
        if let Some(&op) = self.op_index[method as usize].get(template) {
            return op;
        }
        if self.ops.len() >= OPS_MAX {
            return OPS_MAX - 1;
        }
        self.ops.push(Op {
            name: format!("{} {template}", method.as_str()),
            template: template.to_owned(),
            method,
            rule: self.settings.limits.rule_of(method, template),
            endpoint: Endpoint::of(method, template),
        });
        self.op_index[method as usize].insert(template.to_owned(), self.ops.len() - 1);
        self.ops.len() - 1
    }
}

/// Which hidden limits of `rule` concern this body.
fn hidden_mask(rule: &OpRule, json: &[u8]) -> u32 {
    if rule.hidden.is_empty() {
        return 0;
    }
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(json) else {
        return 0;
    };
    let concerned = |fields: &[String]| fields.iter().any(|f| body.contains_key(f));
    let bits = rule.hidden.iter().take(32).enumerate();
    bits.fold(0, |mask, (i, h)| {
        mask | u32::from(concerned(&h.fields)) << i
    })
}

#[cfg(test)]
mod tests;
