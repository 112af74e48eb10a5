//! Two nodes with one queue: a bot's shards line up at the node that it belongs to, wherever they ask.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::settings::{GatewaySettings, Settings};
use loadtest::mock::{self, MockConfig, MockHandle};
use weir::{Config, Handle};

use super::support::http::Client;
use super::support::queue::assert_free;
use super::support::{
    self,
    cluster::{self, Member, Plan, token},
};

pub(super) const PERIOD: Duration = Duration::from_secs(5);
/// What two answers may differ by on their way.
pub(super) const BLUR: Duration = Duration::from_millis(50);

/// One of two nodes that look for each other, with this port for its queue, if it has one.
pub(super) fn start_node(
    mock: &MockHandle,
    ip: &str,
    queue: Option<u16>,
    cluster_port: u16,
) -> Handle {
    let mut config = support::config(&mock.url(), support::ca_file(mock));
    config.bind_ip = ip.parse().expect("an address");
    config.workers = Some(1);
    config.gateway_queue_port = queue;
    config.cluster_port = cluster_port;
    config.cluster_members = ["127.0.0.1", "127.0.0.2"]
        .iter()
        .map(|ip| ip.parse().expect("a peer"))
        .collect();
    weir::start(config).expect("weir starts")
}

pub(super) fn see_each_other(nodes: [&Handle; 2]) {
    let until = Instant::now() + Duration::from_secs(20);
    let members = |node: &Handle| node.members().expect("a cluster").ownership();
    while nodes.iter().any(|node| members(node).nodes().len() < 2) {
        assert!(Instant::now() < until, "they never see each other");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port that is free at both nodes; not one of those that the system gives out by itself.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 9_000) as u16;
    let mut ports = (0..).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed));
    let is_free = |port: &u16| {
        let free = |ip: &str| TcpListener::bind((ip, *port)).is_ok();
        free("127.0.0.1") && free("127.0.0.2")
    };
    ports.find(is_free).expect("a port")
}

struct Two {
    _mock: MockHandle,
    nodes: Vec<Member>,
    secret: Option<&'static str>,
}

impl Two {
    fn start(secret: Option<&'static str>, change: impl Fn(&mut Config)) -> Self {
        let mock = mock::start(MockConfig {
            settings: Settings {
                gateway: GatewaySettings::default(),
                ..Settings::default()
            },
            ..MockConfig::default()
        })
        .expect("the mock starts");
        let plan = Plan {
            upstream: mock.url(),
            ca_file: support::ca_file(&mock),
            secret,
        };
        let port = free_port();
        let nodes = cluster::together(&plan, 2, |_, config| {
            config.gateway_queue_port = Some(port);
            change(config);
        });
        Self {
            _mock: mock,
            nodes,
            secret,
        }
    }

    /// A bot of this node's.
    fn bot(&self, owner: usize, number: u64) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|member| member.node).collect();
        token(&nodes, &nodes[owner], self.secret, number)
    }

    fn queue(&self, node: usize) -> SocketAddr {
        let addr = self.nodes[node].weir.gateway_queue_addr();
        addr.expect("the queue is served")
    }

    fn ask(&self, node: usize, bot: &str, query: &str) -> Client {
        let mut client = Client::connect(self.queue(node));
        client.send(format!(
            "GET /?{query} HTTP/1.1\r\nHost: queue\r\nAuthorization: {bot}\r\n\r\n"
        ));
        client
    }

    /// Waits until so many shards wait at this node.
    fn wait_for_waiting(&self, node: usize, count: u64) {
        self.wait_for(node, "weir_identify_waiting", count);
    }

    /// Waits until this is counted: a shard that goes is counted a moment after its answer.
    fn wait_for(&self, node: usize, name: &str, count: u64) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.nodes[node].now(name) != count {
            assert!(Instant::now() < until, "{name} is never {count}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn shards_that_ask_at_two_nodes_go_one_after_the_other_and_their_order_is_kept() {
    let two = Two::start(Some("hush, hush, hush"), |_| ());
    let bot = two.bot(0, 0);
    let mut shards = Vec::new();
    for (n, node) in [(0, 1), (1, 0), (2, 1)] {
        // A shard that comes without `Bot` is the same bot's.
        let spelled = bot.strip_prefix("Bot ").filter(|_| n == 2);
        shards.push(two.ask(node, spelled.unwrap_or(&bot), &format!("shard={n}")));
        two.wait_for_waiting(0, n + 1);
    }
    let mut last: Option<Instant> = None;
    for shard in &mut shards {
        assert_free(&shard.answer(false));
        let now = Instant::now();
        if let Some(last) = last.replace(now) {
            let apart = now - last;
            assert!(apart >= PERIOD - BLUR, "{apart:?} apart");
        }
    }
    assert_eq!(two.nodes[1].now("weir_identify_relayed_total"), 2);
    assert_eq!(two.nodes[1].now("weir_identify_granted_total"), 0);
    two.wait_for(0, "weir_identify_granted_total", 3);
}

#[test]
fn a_client_that_leaves_at_the_other_node_gives_its_place_up_at_the_owner() {
    let two = Two::start(None, |_| ());
    let bot = two.bot(0, 0);
    let mut first = two.ask(0, &bot, "shard=0");
    two.wait_for_waiting(0, 1);
    let leaving = two.ask(1, &bot, "shard=1");
    two.wait_for_waiting(0, 2);
    let mut last = two.ask(1, &bot, "shard=2");
    two.wait_for_waiting(0, 3);
    thread::sleep(Duration::from_millis(150));
    drop(leaving);
    let left = Instant::now();
    two.wait_for_waiting(0, 2);
    assert!(left.elapsed() < Duration::from_secs(1));
    assert_free(&first.answer(false));
    let went = Instant::now();
    assert_free(&last.answer(false));
    let apart = went.elapsed();
    assert!(apart >= PERIOD - BLUR && apart < 2 * PERIOD, "{apart:?}");
}

#[test]
fn a_refusal_of_the_owners_is_told_as_it_is() {
    let two = Two::start(Some("hush, hush, hush"), |_| ());
    let bot = two.bot(0, 0);
    let _first = two.ask(0, &bot, "shard=0");
    two.wait_for_waiting(0, 1);
    let mut second = two.ask(1, &bot, "shard=1&max_wait=0.5");
    let answer = second.answer(false);
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((2..=12).contains(&wait), "{wait}");
    assert!(answer.text().contains("max_wait"), "{}", answer.text());
    assert_eq!(answer.header("x-ratelimit-scope"), Some("user"));
    // The connection serves the next shard.
    second.send(format!(
        "GET /?shard=1 HTTP/1.1\r\nHost: queue\r\nAuthorization: {bot}\r\n\r\n"
    ));
    two.wait_for_waiting(0, 2);
}

#[test]
fn what_waited_at_an_owner_that_ends_waits_on_here_and_nobody_goes_too_early() {
    let mut two = Two::start(None, |_| ());
    let bot = two.bot(0, 0);
    let mut first = two.ask(1, &bot, "shard=0");
    let mut second = two.ask(1, &bot, "shard=1");
    two.wait_for_waiting(0, 2);
    assert_free(&first.answer(false));
    let went = Instant::now();
    let settled = Instant::now() + Duration::from_millis(500);
    while two.nodes[0].now("weir_identify_waiting") != 1 && Instant::now() < settled {
        thread::sleep(Duration::from_millis(5));
    }
    if two.nodes[0].now("weir_identify_waiting") != 1 {
        println!("this machine is too busy: the nodes had lost sight of each other before");
        return;
    }
    // Nobody tells the other that it has gone.
    drop(two.nodes.remove(0));
    assert_free(&second.answer(false));
    let apart = went.elapsed();
    assert!(apart >= PERIOD - BLUR, "{apart:?}");
    assert!(apart < 3 * PERIOD, "{apart:?}");
    two.wait_for(0, "weir_identify_granted_total", 1);
}

#[test]
fn who_waits_when_its_bot_changes_hands_waits_on_at_the_new_owner() {
    let two = Two::start(None, |_| ());
    let bot = two.bot(0, 0);
    let mut first = two.ask(0, &bot, "shard=0");
    let _second = two.ask(1, &bot, "shard=1");
    two.wait_for_waiting(0, 2);
    // The first leaves the cluster, and serves on.
    let rest = [two.nodes[1].node];
    two.nodes[0].know(&rest);
    two.nodes[1].know(&rest);
    let changed = Instant::now();
    two.wait_for_waiting(0, 0);
    two.wait_for_waiting(1, 2);
    assert!(changed.elapsed() < Duration::from_secs(2), "late");
    assert_free(&first.answer(false));
    assert_eq!(two.nodes[0].now("weir_identify_granted_total"), 0);
}

#[test]
fn two_nodes_that_take_each_other_for_the_owner_send_nobody_round() {
    for secret in [None, Some("hush, hush, hush")] {
        let two = Two::start(secret, |_| ());
        let (first, second) = (two.nodes[0].node, two.nodes[1].node);
        two.nodes[0].know(&[second]);
        two.nodes[1].know(&[first]);
        let bot = two.bot(0, 0);
        let _shard = two.ask(0, &bot, "shard=0");
        two.wait_for_waiting(1, 1);
        assert_eq!(two.nodes[0].now("weir_identify_relayed_total"), 1);
        assert_eq!(two.nodes[1].now("weir_identify_relayed_total"), 0);
    }
}

#[test]
fn a_client_cannot_claim_to_be_a_node_where_there_is_a_secret() {
    let two = Two::start(Some("hush, hush, hush"), |_| ());
    let bot = two.bot(0, 0);
    let claim = |more: &str| {
        let mut client = Client::connect(two.queue(1));
        client.send(format!(
            "GET /?shard=0 HTTP/1.1\r\nHost: queue\r\nAuthorization: {bot}\r\nnirn-routed-to: {}\r\n{more}\r\n",
            two.nodes[1].addr()
        ));
        client
    };
    // Without a pass it is a client like any other.
    let _waiting = claim("");
    two.wait_for_waiting(0, 1);
    let mut client = claim("weir-pass: none\r\n");
    assert!(client.try_answer(false).is_none());
    assert_eq!(two.nodes[1].now("weir_relay_unproven_total"), 1);
}

#[test]
fn a_bot_that_changes_hands_as_planned_goes_on_where_it_stopped() {
    let mock = mock::start(MockConfig {
        settings: Settings {
            gateway: GatewaySettings::default(),
            ..Settings::default()
        },
        ..MockConfig::default()
    })
    .expect("the mock starts");
    let (port, cluster_port) = (free_port(), free_port());
    let start = |ip: &str| start_node(&mock, ip, Some(port), cluster_port);
    let (first, second) = (start("127.0.0.1"), start("127.0.0.2"));
    see_each_other([&first, &second]);
    let ownership = first.members().expect("a cluster").ownership();
    let bot = token(ownership.nodes(), ownership.me(), None, 0);
    let ask = |node: &Handle, shard: u32| {
        let mut client = Client::connect(node.gateway_queue_addr().expect("the queue is served"));
        client.send(format!(
            "GET /?shard={shard} HTTP/1.1\r\nHost: queue\r\nAuthorization: {bot}\r\n\r\n"
        ));
        assert_free(&client.answer(false));
        Instant::now()
    };
    let apart = |before: Instant, now: Instant| {
        let apart = now - before;
        // A careful start would begin the five seconds anew.
        let most = PERIOD + PERIOD / 4;
        assert!((PERIOD - BLUR..most).contains(&apart), "{apart:?}");
    };
    let zeroth = ask(&second, 0);
    thread::sleep(PERIOD / 2);
    first.shutdown(Duration::from_secs(5));
    let next = ask(&second, 1);
    apart(zeroth, next);
    thread::sleep(PERIOD / 2);
    let first = start("127.0.0.1");
    see_each_other([&first, &second]);
    apart(next, ask(&first, 2));
}
