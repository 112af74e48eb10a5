//! Every cap that a person can set, its default and how far it can be set.
//!
//! A cap is here for one of two reasons: memory that a stranger could make grow, or a wait that
//! nobody would notice. Relations between caps are asserted when the crate is compiled.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Upper end of `WORKERS`: more threads than any machine that runs a proxy has cores.
pub const WORKERS_MAX: usize = 256;

/// Default of `REQUEST_TIMEOUT`: nirn-proxy's, 5 s from sending to the head of the answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(5_000);
/// Default of `CLIENT_HEADER_TIMEOUT`: 10 s, as nirn-proxy; a head is sent at once or not at all.
pub const CLIENT_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of `CLIENT_IDLE_TIMEOUT`: 75 s, as nginx, longer than what client libraries keep a
/// connection for, so that it is they who close.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Default of `CLIENT_MIN_RATE`, bytes a second: a quarter of what GPRS carried, so that no link that
/// people use is too slow, and 25 MiB take seven hours at the most.
pub const CLIENT_MIN_RATE: u64 = 1_024;
/// Upper end of `CLIENT_MIN_RATE`: 1 GiB a second, as fast as any client's network.
pub const CLIENT_MIN_RATE_MAX: u64 = 1 << 30;
/// Default of `UPSTREAM_IDLE_TIMEOUT`: 60 s, well below the minutes after which Cloudflare closes,
/// so that it is weir that closes.
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of `SHUTDOWN_TIMEOUT`: 30 s, what Kubernetes grants and a third of systemd's 90 s.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Upper end of every time that can be set: an hour, beyond which it is a typing error.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// Default of `MAX_WAITING_PER_BUCKET`, of each bucket: at a usual 5 requests in 5 s this is almost
/// three hours of waiting, longer than any client does.
pub const WAITING_PER_BUCKET: usize = 10_000;
/// Default of `MAX_WAITING`, of the process: with some 4 KiB of buffers for each, 400 MiB. Each
/// worker's shard may hold its equal part, so that one bot's flood, whose buckets may all live in
/// one shard, leaves room in the others.
pub const WAITING: usize = 100_000;
/// Upper end of both: what a machine of 64 GiB could hold.
pub const WAITING_MAX: usize = 10_000_000;

/// Default of `MAX_BUCKETS`, of the process: at 160 bytes each, 160 MB; a bot in 250,000 guilds has
/// fewer than this alive within ten minutes. Each worker's shard may hold its equal part, among
/// which hashing spreads buckets evenly.
pub const BUCKETS: usize = 1_000_000;
/// Upper end of `MAX_BUCKETS`: 16 GB of them.
pub const BUCKETS_MAX: usize = 100_000_000;

/// Default of `MAX_BEARER_COUNT`, of the process: nirn-proxy's.
pub const BEARERS: usize = 1_024;
/// Upper end of `MAX_BEARER_COUNT`: as many as there are buckets by default, since each has one.
pub const BEARERS_MAX: usize = BUCKETS;

/// Default of `MAX_CONNECTIONS`: what one client IP can open to one port.
pub const CONNECTIONS: usize = 65_536;
/// Upper end of `MAX_CONNECTIONS`: the kernel's own default of `fs.nr_open`.
pub const CONNECTIONS_MAX: usize = 1_048_576;

/// Networks that `ALLOW_FROM` can name: each accepted connection is compared with all of them, which
/// for so many takes some microseconds, less than the accept.
pub const ALLOW_FROM_MAX: usize = 1_024;

/// Default of `UPSTREAM_MAX_CONNECTIONS` of one worker: at 200 ms an exchange it carries 2,500
/// requests a second, five times the global limit of a large bot.
pub const UPSTREAM_CONNECTIONS: usize = 512;
/// Upper end of `UPSTREAM_MAX_CONNECTIONS`: the local ports towards one address.
pub const UPSTREAM_CONNECTIONS_MAX: usize = 28_232;

/// Default of `RETRIES`: one, as disgo's.
pub const RETRIES: u32 = 1;
/// Upper end of `RETRIES`: a request refused ten times in a row is refused for a reason that
/// sending it again does not mend.
pub const RETRIES_MAX: u32 = 10;
/// Upper end of `DEFAULT_BUCKET`: more than any bucket that Discord was seen to have.
pub const DEFAULT_BUCKET_MAX: u16 = 1_000;
/// Routes that `DEFAULT_BUCKETS` can name: Discord has some 230 in all.
pub const DEFAULT_BUCKETS_MAX: usize = 256;
/// Bytes of a path in `DEFAULT_BUCKETS`: twice Discord's longest, and always a route of its own.
pub const TEMPLATE_BYTES_MAX: usize = 100;
/// Bytes of a word in such a path: what stays a word in a route.
pub const TEMPLATE_WORD_BYTES_MAX: usize = 32;

/// Upper end of a limit in `BOT_RATELIMIT_OVERRIDES`, requests a second: a thousand times the
/// usual 50.
pub const GLOBAL_LIMIT_MAX: u32 = 50_000;
/// Bots that `BOT_RATELIMIT_OVERRIDES` can name: what fits into an environment variable's 128 KiB.
pub const OVERRIDES_MAX: usize = 4_096;

/// Default of `GATEWAY_QUEUE_MAX_WAITING`, of the process: as many as `MAX_CONNECTIONS`, since each is
/// one; at some 700 bytes each, 46 MB.
pub const GATEWAY_WAITING: usize = CONNECTIONS;
/// Default of `GATEWAY_QUEUE_MAX_WAITING_PER_BOT`: more shards than the largest bot has, and a quarter
/// of all places, so that one bot's leave room for others'.
pub const GATEWAY_WAITING_PER_BOT: usize = 16_384;
/// Upper end of both: that of `MAX_CONNECTIONS`.
pub const GATEWAY_WAITING_MAX: usize = CONNECTIONS_MAX;
/// Default of `GATEWAY_QUEUE_MAX_BOTS`: a large fleet's, at some 400 bytes each; each bot is asked
/// about at Discord, so that a stranger's made-up tokens must not be many.
pub const GATEWAY_BOTS: usize = 1_024;
/// Upper end of `GATEWAY_QUEUE_MAX_BOTS`: 26 MB of them.
pub const GATEWAY_BOTS_MAX: usize = 65_536;
/// Default of `FORWARD_CONNECT_TIMEOUT`: time for a lost SYN to be sent again three times (1, 2 and
/// 4 s later, RFC 6298), less than clients wait.
pub const FORWARD_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of `FORWARD_IDLE_TIMEOUT`: five minutes, beyond the pings of WebSockets and HTTP/2.
pub const FORWARD_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Default of `FORWARD_MAX_CLIENTS`: 10,000 tunnels and half as many to spare; with the hosts' ends,
/// half of what one process may usually open is left to the other clients.
pub const FORWARD_CLIENTS: usize = 16_384;
/// Upper end of a cap on connections to one host: as many as there can be clients.
pub const FORWARD_CAP_MAX: u32 = CONNECTIONS_MAX as u32;
/// Hosts that can have a cap of their own: ten times what fits on a line that somebody reads.
pub const FORWARD_HOST_LIMITS_MAX: usize = 1_024;
/// Entries of `FORWARD_ALLOW` and of `FORWARD_DENY`: each dial is compared with all of them.
pub const FORWARD_PATTERNS_MAX: usize = 1_024;
/// Default of `CLUSTER_PORT`: nirn.py's.
pub const CLUSTER_PORT: u16 = 7_654;
/// Nodes that `CLUSTER_MEMBERS` can name: each is announced to while it is not seen.
pub const CLUSTER_MEMBERS_MAX: usize = 64;
/// The shortest `CLUSTER_SECRET`, bytes: 64 bits even of hexadecimal digits, which nobody guesses who
/// has to send a datagram for each try; longer is better against who can listen.
pub const CLUSTER_SECRET_BYTES_MIN: usize = 16;
/// The longest, bytes: more than any that a person generates.
pub const CLUSTER_SECRET_BYTES_MAX: usize = 1_024;

/// The shortest `ADMIN_TOKEN`, bytes: 64 bits even of hexadecimal digits, at a few guesses a second.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 16;
/// The longest, bytes: it goes into a header line of a head of 8 KiB.
pub const ADMIN_TOKEN_BYTES_MAX: usize = 1_024;

/// Bytes of a wrong value that an error message repeats: enough to know it again.
pub const SHOWN_VALUE_BYTES_MAX: usize = 80;

/// The range of a time that may be zero.
pub(super) const TIMEOUT_OR_ZERO_MS: RangeInclusive<u64> = 0..=TIMEOUT_MAX.as_secs() * 1_000;
/// The range of a time that may not be zero.
pub(super) const TIMEOUT_MS: RangeInclusive<u64> = 1..=TIMEOUT_MAX.as_secs() * 1_000;

const _: () = {
    assert!(
        WAITING_PER_BUCKET <= WAITING,
        "one bucket never holds more than all"
    );
    assert!(WAITING <= WAITING_MAX && WAITING_PER_BUCKET <= WAITING_MAX);
    assert!(
        WAITING_MAX <= u32::MAX as usize,
        "the limiter counts them in 32 bits"
    );
    assert!(BUCKETS <= BUCKETS_MAX && BEARERS <= BEARERS_MAX);
    assert!(CONNECTIONS <= CONNECTIONS_MAX && FORWARD_CLIENTS <= CONNECTIONS_MAX);
    assert!(FORWARD_CONNECT_TIMEOUT.as_millis() <= FORWARD_IDLE_TIMEOUT.as_millis());
    assert!(FORWARD_IDLE_TIMEOUT.as_millis() <= TIMEOUT_MAX.as_millis());
    assert!(GATEWAY_WAITING_PER_BOT <= GATEWAY_WAITING && GATEWAY_WAITING <= GATEWAY_WAITING_MAX);
    assert!(GATEWAY_BOTS <= GATEWAY_BOTS_MAX);
    assert!(CLIENT_MIN_RATE <= CLIENT_MIN_RATE_MAX);
    assert!(UPSTREAM_CONNECTIONS <= UPSTREAM_CONNECTIONS_MAX);
    assert!(BEARERS_MAX <= BUCKETS_MAX, "a bearer has a bucket");
    assert!(
        CLIENT_HEADER_TIMEOUT.as_millis() <= CLIENT_IDLE_TIMEOUT.as_millis(),
        "a head that comes slowly is no better than none"
    );
    assert!(
        REQUEST_TIMEOUT.as_millis() <= SHUTDOWN_TIMEOUT.as_millis(),
        "a shutdown outlasts the exchanges under way"
    );
    assert!(SHUTDOWN_TIMEOUT.as_millis() <= TIMEOUT_MAX.as_millis());
    assert!(CLIENT_IDLE_TIMEOUT.as_millis() <= TIMEOUT_MAX.as_millis());
    assert!(UPSTREAM_IDLE_TIMEOUT.as_millis() <= TIMEOUT_MAX.as_millis());
};
