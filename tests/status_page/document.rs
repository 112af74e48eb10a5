//! `/nirn/status.json`

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::demo::Bot;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use weir::status::{Level, SenderKind, State, Status, VERSION};

use super::stage::{BOT, FLOODED, REFUSED, SECRET, Stage};
use super::support::config;
use super::support::http::Client;

#[test]
fn the_first_look_knows_bots_that_sent_before_it_by_name() {
    let stage = Stage::start();
    // One request each: who waits for another is told of by name in any case.
    let bot = Bot::first(1)[0].authorization();
    for token in [&*bot, "Bearer a.secret"] {
        Client::connect(stage.weir.proxy).ask(&format!(
            "GET /api/v10/users/@me HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
        ));
    }
    let (status, text) = stage.status();
    let senders = &status.senders.top;
    let bot = senders.iter().find(|sender| sender.kind == SenderKind::Bot);
    let bot = bot.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(bot.user_id.as_deref(), Some(BOT));
    let is_bearer = |sender: &weir::status::Sender| sender.kind == SenderKind::Bearer;
    assert!(senders.iter().any(is_bearer), "{text}");
}

#[test]
fn the_document_says_how_weir_stands() {
    let mut stage = Stage::start();
    let (idle, _) = stage.status();
    assert_eq!((idle.version, idle.state), (VERSION, State::Serving));
    assert_eq!(idle.weir, env!("CARGO_PKG_VERSION"));
    assert!(idle.attention.is_empty(), "{:?}", idle.attention);
    assert_eq!(idle.workers.len(), 2);
    assert!(idle.workers.iter().all(|worker| worker.answers));
    assert!(idle.memory.held_bytes > Some(0) && idle.memory.resident_bytes > Some(0));
    assert_eq!(idle.cluster, None);

    let work = stage.work(2, 6);
    stage.be_refused();
    stage.flood(25);
    stage.identify(3);
    stage.tunnels(3);
    let has_flood = |status: &Status| {
        let flooded = Some(FLOODED.to_string());
        let of = |bucket: &weir::status::Bucket| bucket.major_id == flooded && bucket.waiting >= 10;
        status.buckets.blocked.iter().any(of)
    };
    let status = stage.until("the flood waits", has_flood);
    let flooded = Some(FLOODED.to_string());
    let blocked = status.buckets.blocked.iter();
    let bucket = blocked
        .clone()
        .find(|bucket| bucket.major_id == flooded)
        .unwrap();
    assert_eq!(
        (&*bucket.method, &*bucket.route),
        ("POST", "/channels/!/messages")
    );
    assert_eq!((&*bucket.major, bucket.kind), ("channel", SenderKind::Bot));
    assert_eq!(bucket.user_id.as_deref(), Some(BOT));
    assert!(bucket.waiting <= 25);
    assert!(bucket.opens_in_ms.is_none_or(|ms| ms < 6_000), "{bucket:?}");
    assert!(status.buckets.waited_for >= 1 && status.buckets.tracked > status.buckets.waited_for);

    let requests = &status.requests;
    assert!(
        requests.waiting >= 10 && requests.under_way >= requests.waiting,
        "{requests:?}"
    );
    assert!(requests.answered["2xx"] > 0 && requests.waited > 0);
    assert!(requests.refused["token_locked"] > 0);
    assert!(status.latency.upstream.count > 0);
    let p50 = status.latency.upstream.p50_ms.unwrap();
    assert!(
        (15.0..1_000.0).contains(&p50),
        "the mock takes 30 ms: {p50}"
    );
    assert!(status.latency.added.p50_ms.unwrap() < 1_000.0);

    let bots = stage.until("the bots are known by name", |status| {
        let top = &status.senders.top;
        top.iter()
            .any(|sender| sender.user_id.as_deref() == Some(BOT) && sender.used > 0)
    });
    let bot = bots
        .senders
        .top
        .iter()
        .find(|sender| sender.user_id.as_deref() == Some(BOT));
    let bot = bot.unwrap();
    assert!(
        bot.limit >= 50 && bot.used <= bot.limit && bot.waiting >= 5,
        "{bot:?}"
    );
    assert_eq!((bots.senders.locked, bots.senders.locks.len()), (1, 1));
    assert_eq!(bots.senders.locks[0].user_id.as_deref(), Some(REFUSED));
    let problems = bots
        .attention
        .iter()
        .filter(|item| item.level == Level::Problem);
    let problems: Vec<_> = problems
        .map(|item| (&*item.what, item.text.contains(REFUSED)))
        .collect();
    assert_eq!(problems, [("tokens", true)]);
    assert!(bots.guards.invalid.used >= 1 && bots.guards.invalid.max == 9_500);

    let busy = stage.until("the busiest are counted", |status| {
        status
            .buckets
            .busiest
            .iter()
            .any(|bucket| !bucket.route.is_empty())
    });
    let counts: Vec<_> = busy
        .buckets
        .busiest
        .iter()
        .map(|bucket| bucket.requests)
        .collect();
    assert!(
        counts.is_sorted_by(|a, b| a >= b) && counts[0] > 0,
        "{counts:?}"
    );

    let together = stage.until("interactions are counted together", |status| {
        let busiest = status.buckets.busiest.iter();
        let mut of_interactions = busiest.filter(|bucket| bucket.major == "interaction");
        of_interactions.any(|bucket| bucket.requests >= 3)
    });
    let busiest = together.buckets.busiest.iter();
    let rows = busiest.filter(|bucket| bucket.major == "interaction");
    assert_eq!(rows.count(), 1, "each has a bucket of its own");

    stage.until("three shards have asked", |status| {
        let identify = status.identify.as_ref().unwrap();
        identify.waiting + identify.granted == 3
    });
    let forward = busy.forward.as_ref().unwrap();
    assert_eq!((forward.default_limit, forward.hosts.len()), (3, 1));
    assert_eq!((forward.hosts[0].active, forward.hosts[0].limit), (3, 3));
    let pool = &busy.connections.upstream;
    assert!(
        pool.busy + pool.idle > 0 && pool.opened > 0 && pool.max > 0,
        "{pool:?}"
    );
    assert!(busy.connections.clients > 0);

    let (_, text) = stage.status();
    assert!(!text.contains(SECRET) && !text.contains("secret"), "{text}");
    work.join().unwrap();
}

#[test]
fn the_first_look_knows_by_name_who_waits_and_whose_token_is_refused() {
    let mut stage = Stage::start();
    stage.be_refused();
    stage.flood(12);
    // Until some wait; Prometheus is nobody who looks.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = Client::connect(stage.weir.metrics);
        let text = client
            .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .text();
        let waiting = text
            .lines()
            .find_map(|line| line.strip_prefix("weir_requests_waiting "));
        if waiting.is_some_and(|waiting| waiting.parse::<u32>().unwrap() >= 3) {
            break;
        }
        assert!(Instant::now() < until, "nobody waits: {text}");
        thread::sleep(Duration::from_millis(20));
    }
    let (status, text) = stage.status();
    let bucket = &status.buckets.blocked[0];
    assert_eq!(bucket.route, "/channels/!/messages", "{text}");
    assert_eq!(bucket.major_id, Some(FLOODED.to_string()));
    assert_eq!(bucket.user_id.as_deref(), Some(BOT));
    assert_eq!(status.senders.locks[0].user_id.as_deref(), Some(REFUSED));
    assert!(
        status.buckets.busiest.is_empty(),
        "nothing was counted before"
    );
}

#[test]
fn looks_that_follow_each_other_closely_share_a_document() {
    let stage = Stage::start();
    let began = Instant::now();
    let looks: Vec<_> = (0..20).map(|_| stage.status().0.unix_ms).collect();
    let took = began.elapsed();
    let mut documents = looks;
    documents.dedup();
    let most = took.as_millis() / 200 + 2;
    assert!(
        documents.len() as u128 <= most,
        "{} in {took:?}",
        documents.len()
    );
}

/// Holds whichever worker logs something while it is asked to.
struct Holding;

static HOLD: AtomicBool = AtomicBool::new(false);
static HELD: AtomicUsize = AtomicUsize::new(0);

/// `weir-0` and so on.
fn is_workers(name: &str) -> bool {
    let number = name.strip_prefix("weir-");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Subscriber for Holding {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let is_worker = thread::current().name().is_some_and(is_workers);
        if is_worker && HOLD.load(Ordering::SeqCst) && HELD.fetch_add(1, Ordering::SeqCst) == 0 {
            while HOLD.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_worker_that_hangs_is_named_and_does_not_hang_the_page() {
    tracing::subscriber::set_global_default(Holding).unwrap();
    let mut config = config("http://127.0.0.1:9", None);
    config.workers = Some(2);
    let weir = weir::start(config).expect("weir starts");
    let metrics = weir.metrics_addr().unwrap();
    let look = || {
        let began = Instant::now();
        let answer = Client::connect(metrics)
            .ask("GET /nirn/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let status: Status = serde_json::from_str(&answer.text()).unwrap();
        (status, began.elapsed())
    };
    HOLD.store(true, Ordering::SeqCst);
    let mut client = Client::connect(weir.proxy_addr());
    // Nobody listens there, which is told of.
    client.send("GET /api/v10/users/@me HTTP/1.1\r\nHost: x\r\n\r\n");
    let until = Instant::now() + Duration::from_secs(20);
    while HELD.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < until, "no worker has said anything");
        thread::sleep(Duration::from_millis(5));
    }
    let (status, took) = look();
    HOLD.store(false, Ordering::SeqCst);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let stuck = status
        .workers
        .iter()
        .filter(|worker| !worker.answers)
        .count();
    assert_eq!(stuck, 1);
    let problem = status.attention.iter().find(|item| item.what == "workers");
    let problem = problem.expect("it is said");
    assert_eq!(problem.level, Level::Problem);
    assert!(problem.text.contains("does not answer"), "{}", problem.text);
    assert_eq!(client.answer(false).status, 502);
    thread::sleep(Duration::from_millis(300));
    let (status, _) = look();
    assert!(status.workers.iter().all(|worker| worker.answers));
    assert_eq!(
        status.requests.errors.len(),
        1,
        "{:?}",
        status.requests.errors
    );
}
