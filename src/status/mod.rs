//! What `/nirn/status.json` says: how weir stands, in one document.
//!
//! The document is an interface: `weir status`, the status page and whatever an operator writes read
//! it. **[`VERSION`] changes when a field changes its meaning or goes**; fields may be added at any time,
//! so readers skip what they do not know.
//!
//! Units stand last in a field's name: `_ms` milliseconds, `_bytes` bytes, `_s` seconds. Discord's ids are
//! strings, since JavaScript cannot count so far. Counts are since weir's start unless a field says
//! otherwise. No token, no webhook's or interaction's secret and no path is in it; routes are named as
//! the metrics name them (`/channels/!/messages`), senders by their user id.
//!
//! ```text
//! {"version":1,"weir":"0.1.0","state":"serving","uptime_ms":…,
//!  "attention":[{"level":"problem","what":"cloudflare","text":"…","left_ms":41200}],
//!  "requests":{…},"latency":{…},"senders":{…},"buckets":{…},"guards":{…},"connections":{…},
//!  "workers":[…],"hand_offs":{…},"memory":{…},"cluster":null,"identify":null,"forward":null}
//! ```
//! Who makes one is [`admin`](crate::admin); this module is the types, what of them needs a person
//! ([`attention`]), and what is kept to say it: [`Names`] and [`Hot`].

mod attention;
mod hot;
mod names;
mod past;

pub use attention::{Recent, attention};
pub use hot::{HOT_MAX, Hot};
pub use names::{MAJORS_MAX, MajorName, Names, ROUTES_MAX, RouteName, SENDERS_MAX, SenderName};
pub use past::{Past, Sample};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The document's version.
pub const VERSION: u32 = 1;

/// Most entries of each list that the world outside can make long.
pub const TOP: usize = 20;

/// The document.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// Version of weir.
    pub weir: String,
    /// When this was made: milliseconds since 1970, by weir's clock.
    pub unix_ms: u64,
    /// Time since weir serves.
    pub uptime_ms: u64,
    /// Whether it serves.
    pub state: State,
    /// This node's name in its cluster; `null` if it is alone.
    pub node: Option<String>,
    /// How it speaks to the kernel: `io_uring` or `epoll`.
    pub io_driver: String,
    /// Where requests go: host, and port if it is not the scheme's own.
    pub upstream: String,
    /// What a person should know first, the worst first; empty if all is well.
    pub attention: Vec<Attention>,
    /// Requests.
    pub requests: Requests,
    /// How long they take.
    pub latency: Latency,
    /// Whose requests they are.
    pub senders: Senders,
    /// What limits them.
    pub buckets: Buckets,
    /// What protects the egress address.
    pub guards: Guards,
    /// Connections of clients and to Discord.
    pub connections: Connections,
    /// One entry a worker, in order.
    pub workers: Vec<Worker>,
    /// What workers have for each other.
    pub hand_offs: HandOffs,
    /// Memory of the process.
    pub memory: Memory,
    /// The cluster; `null` if there is none.
    pub cluster: Option<Cluster>,
    /// The identify queue; `null` if there is none.
    pub identify: Option<Identify>,
    /// The forward proxy; `null` if there is none.
    pub forward: Option<Forward>,
}

/// Whether weir serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It does.
    #[default]
    Serving,
    /// It ends: what is under way finishes, nobody new is let in.
    Draining,
}

/// Something that a person should know.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attention {
    /// How bad it is.
    pub level: Level,
    /// What it is about, for programs: `cloudflare`, `invalid_requests`, `tokens`, `workers`, …
    pub what: String,
    /// What it is, and what to do about it, in a sentence or two.
    pub text: String,
    /// When it will be over, if that is known.
    pub left_ms: Option<u64>,
}

/// How bad something is. The worst comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Requests fail that need not, until somebody does something.
    Problem,
    /// Worth knowing; weir deals with it.
    #[default]
    Notice,
}

/// Requests of clients.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Under way now, those that wait among them.
    pub under_way: u64,
    /// Waiting now: for a limit, or for a connection.
    pub waiting: u64,
    /// Waiting at most: `MAX_WAITING`; more are refused.
    pub waiting_max: u64,
    /// Answered by Discord, by class of status: `2xx`, `3xx`, `4xx`, `5xx`. 429s are among the `4xx`.
    pub answered: BTreeMap<String, u64>,
    /// Answered by weir in Discord's place, by reason: the label of `weir_refused_total`. Reasons that
    /// never happened are left out.
    pub refused: BTreeMap<String, u64>,
    /// 429s that Discord answered, by scope: `user`, `global`, `shared`, `cloudflare`, `none`. Left out
    /// if there were none.
    pub limited: BTreeMap<String, u64>,
    /// Sent once more: after a 429, or on a new connection after a pooled one had died.
    pub retried: u64,
    /// Exchanges that went wrong, by kind: the label of `weir_errors_total`. Left out if there were none.
    pub errors: BTreeMap<String, u64>,
    /// That had to wait, for whatever reason.
    pub waited: u64,
    /// That were held back because a limit was used up: 429s avoided.
    pub held_back: u64,
}

/// How long requests take. Percentiles are of the last minute or so, if somebody has looked for as long;
/// of less, or of all since the start, if not: `over_ms` says of how long.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// The time that the percentiles are of.
    pub over_ms: u64,
    /// From a request's first byte to Discord to the head of the answer.
    pub upstream: Percentiles,
    /// Waiting for limits; 0 for requests that did not wait.
    pub queue: Percentiles,
    /// What weir added beside: from a request's head to its first byte to Discord, without the wait for
    /// limits.
    pub added: Percentiles,
}

/// What so many of the times did not exceed, milliseconds; `null` if there was none.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    /// How many times there were.
    pub count: u64,
    /// Half of them.
    pub p50_ms: Option<f64>,
    /// Nine of ten.
    pub p90_ms: Option<f64>,
    /// 99 of a hundred.
    pub p99_ms: Option<f64>,
}

/// Who sends: bots, bearers and those without a token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Senders {
    /// How many are known.
    pub tracked: u64,
    /// The busiest, at most [`TOP`]: by what waits, then by what the running second has seen.
    pub top: Vec<Sender>,
    /// How many tokens are locked, because Discord refused them.
    pub locked: u64,
    /// Those that are locked longest, at most [`TOP`].
    pub locks: Vec<Lock>,
}

/// Whose request it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderKind {
    /// A bot's token.
    Bot,
    /// A bearer token.
    Bearer,
    /// Nobody's: counted for the egress address.
    NoAuth,
    /// A webhook's token in the path.
    Webhook,
    /// An interaction's token in the path.
    Interaction,
    /// Not known: its token tells nothing, or it has none and has sent nothing since somebody looks.
    #[default]
    Unknown,
}

/// One sender.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sender {
    /// What it is.
    pub kind: SenderKind,
    /// A bot's user id.
    pub user_id: Option<String>,
    /// Its global limit, requests a second.
    pub limit: u32,
    /// Of these, used in the running second.
    pub used: u32,
    /// Requests that wait, for this limit or for a bucket's.
    pub waiting: u32,
    /// Requests under way.
    pub under_way: u32,
    /// A global 429 closed it for so long; 0 if not.
    pub paused_ms: u64,
    /// A 401 came, and it is being found out whether the token works.
    pub doubtful: bool,
}

/// A token that Discord refused. Nothing is sent with it until then; then one request finds out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lock {
    /// Whose it is.
    pub kind: SenderKind,
    /// A bot's user id.
    pub user_id: Option<String>,
    /// Until it is tried again; 0 if that is being done.
    pub left_ms: u64,
}

/// Buckets: what Discord counts together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Buckets {
    /// How many are known.
    pub tracked: u64,
    /// In how many of them somebody waits.
    pub waited_for: u64,
    /// Those with most waiting, at most [`TOP`].
    pub blocked: Vec<Bucket>,
    /// Those with most requests since somebody looked last, at most [`TOP`]; empty the first time.
    pub busiest: Vec<Bucket>,
    /// The time that `busiest` counted.
    pub busiest_over_ms: u64,
    /// Shards that could not be looked at, because somebody held them.
    pub unseen_shards: u64,
}

/// One bucket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// The method of the request in front.
    pub method: String,
    /// Its route, as the metrics name it; empty if not known.
    pub route: String,
    /// What the limit is of: `channel`, `guild`, `webhook` or `interaction`; empty for none.
    pub major: String,
    /// That channel's or guild's id.
    pub major_id: Option<String>,
    /// Whose it is.
    pub kind: SenderKind,
    /// A bot's user id.
    pub user_id: Option<String>,
    /// Requests since somebody looked last; of `busiest` alone.
    pub requests: u64,
    /// Requests that wait.
    pub waiting: u32,
    /// Requests under way.
    pub under_way: u32,
    /// Its limit; `null` while none is known.
    pub limit: Option<u32>,
    /// Slots that are free now.
    pub remaining: Option<u32>,
    /// When the next request may go: 0 now, `null` when an answer comes to one that is under way.
    pub opens_in_ms: Option<u64>,
    /// When the last of those that wait will have gone, by what is known now; the global limit may take
    /// longer. 0 if nobody waits.
    pub last_in_ms: u64,
    /// A 429 closed it.
    pub paused: bool,
    /// How its slots return: `at_once`, `one_by_one`, `unknown`, or `unlimited`.
    pub returns: String,
}

/// What protects the egress address, and spares Discord hopeless requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Guards {
    /// 401, 403 and 429 within ten minutes: Discord bans the address at 10,000.
    pub invalid: InvalidRequests,
    /// Cloudflare's block.
    pub cloudflare: Cloudflare,
    /// Webhooks that Discord says do not exist: answered with 404 by weir.
    pub dead_webhooks: u64,
}

/// The budget of invalid requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InvalidRequests {
    /// Such answers in the last ten minutes.
    pub used: u64,
    /// Where weir stops sending.
    pub max: u64,
    /// Where Discord bans the address.
    pub discord_max: u64,
    /// What `used` is counted over.
    pub window_s: u64,
}

/// Cloudflare's block of the egress address.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cloudflare {
    /// Nothing is sent.
    pub blocked: bool,
    /// Until one request finds out whether it still blocks; 0 if that is being done.
    pub left_ms: u64,
}

/// Connections.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Of clients, open now.
    pub clients: u64,
    /// Of clients, at most.
    pub clients_max: u64,
    /// Of clients, accepted since the start.
    pub clients_accepted: u64,
    /// To Discord.
    pub upstream: Pool,
    /// TLS handshakes with clients; `null` for plain HTTP.
    pub tls: Option<Handshakes>,
}

/// Connections to Discord, of one worker or of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Carrying a request now.
    pub busy: u64,
    /// Idle now.
    pub idle: u64,
    /// Being opened now.
    pub opening: u64,
    /// Requests that wait for one, because all are in use.
    pub waiting: u64,
    /// At most.
    pub max: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Of those, with a TLS session that was resumed.
    pub resumed: u64,
    /// Requests that went out on a connection that was open already.
    pub reused: u64,
    /// Found dead when they were to be used again.
    pub stale: u64,
    /// Attempts to open one that failed, at connecting or shaking hands.
    pub failed: u64,
}

/// TLS handshakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handshakes {
    /// Full ones.
    pub full: u64,
    /// Resumed ones.
    pub resumed: u64,
    /// Failed ones.
    pub failed: u64,
}

/// One worker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// It was asked to turn and did, within the time of a look. If not, it is stuck, or its core has no
    /// time for it: its connections are not served.
    pub answers: bool,
    /// Requests that it has answered.
    pub requests: u64,
    /// Its requests that wait now.
    pub waiting: u64,
    /// Its client connections.
    pub clients: u64,
    /// Its connections to Discord.
    pub upstream: Pool,
}

/// What workers have for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HandOffs {
    /// Permits for a request of another worker.
    pub permits: u64,
    /// Times that a worker was woken for another's word.
    pub wakes: u64,
}

/// Memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What weir holds; `null` if it is part of another program.
    pub held_bytes: Option<u64>,
    /// What is resident.
    pub resident_bytes: Option<u64>,
}

/// The cluster, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Counts changes of who serves.
    pub epoch: u64,
    /// This node leaves.
    pub leaving: bool,
    /// The nodes.
    pub members: Vec<Member>,
    /// How long this node has seen no other; `null` if it sees one.
    pub alone_ms: Option<u64>,
    /// Entries of `CLUSTER_MEMBERS` that are no members now, at most [`TOP`].
    pub missing: Vec<MissingMember>,
    /// Datagrams that were ignored in the last minute, one entry a reason.
    pub ignored: Vec<IgnoredDatagram>,
    /// Requests that this node had another serve.
    pub sent: u64,
    /// Requests that others had this node serve.
    pub received: u64,
}

/// An entry of `CLUSTER_MEMBERS` that is no member now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MissingMember {
    /// As it was configured.
    pub name: String,
    /// The name resolves; an address does.
    pub resolves: bool,
    /// For how long it has been none.
    pub for_ms: u64,
}

/// The last datagram that was ignored for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IgnoredDatagram {
    /// As `weir_cluster_ignored_total` has it.
    pub reason: String,
    /// Who sent it.
    pub from: String,
    /// How long ago.
    pub ago_ms: u64,
    /// What to do about it.
    pub remedy: String,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Where it listens for other nodes.
    pub address: String,
    /// Where it serves bots.
    pub proxy: String,
    /// It is this one.
    pub this_node: bool,
    /// `alive`, `suspected` (may be dead) or `passed_over` (serves nobody for now).
    pub state: String,
    /// Its part of all identities, of 4,096.
    pub slots: u64,
}

/// The identify queue.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identify {
    /// Shards that wait.
    pub waiting: u64,
    /// Shards that were let go.
    pub granted: u64,
    /// Shards that were refused, by reason; left out if there were none.
    pub refused: BTreeMap<String, u64>,
    /// Bots, those with most waiting first, at most [`TOP`].
    pub bots: Vec<IdentifyBot>,
}

/// One bot of the identify queue.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentifyBot {
    /// Its user id; `null` if its token tells none.
    pub user_id: Option<String>,
    /// Its shards that wait.
    pub waiting: u64,
    /// Starts that the day still allows.
    pub remaining: u32,
    /// Starts that a day allows.
    pub total: u32,
    /// Shards that may start together.
    pub max_concurrency: u32,
    /// Until `remaining` is `total` again; `null` if that is not known.
    pub resets_in_ms: Option<u64>,
    /// Until the next shard is let go; `null` if none waits.
    pub next_in_ms: Option<u64>,
}

/// The forward proxy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Forward {
    /// Clients connected.
    pub clients: u64,
    /// What a host without a cap of its own may have; 0 for no cap.
    pub default_limit: u32,
    /// Hosts, the busiest first, at most [`TOP`].
    pub hosts: Vec<Host>,
    /// How it stands with the other proxies; `null` if caps are not shared.
    pub redis: Option<Redis>,
}

/// One host that the forward proxy connects to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name, with its port.
    pub host: String,
    /// Connections of this proxy, now.
    pub active: u64,
    /// Its cap; 0 for none.
    pub limit: u32,
    /// Clients that wait for one.
    pub waiting: u64,
    /// Refused for the cap, since the start.
    pub refused: u64,
}

/// The Redis that a fleet of forward proxies shares its caps through.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Redis {
    /// `shared`: all is well; `away`: out of reach; `joining`, `settling`: soon.
    pub standing: String,
    /// Proxies in the fleet, this one among them.
    pub proxies: u64,
}

impl Status {
    /// The document as it is sent: one line of JSON.
    pub fn to_json(&self) -> String {
        // Numbers, strings and maps with text for keys: none of them fails.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests;
