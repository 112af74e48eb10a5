//! TLS between the nodes of a cluster: relays, hand-overs and shards go to a node with a certificate
//! under TLS, to one without in plain text, and to one that cannot prove to be a node not at all.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::settings::Settings;
use loadtest::mock::{self, MockConfig, MockHandle};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use support::cluster::{Member, Plan, together, token};
use support::config;
use support::http::{Answer, Client};
use support::program::Program;
use support::queue::assert_free;
use support::tls::{Authority, Files, file};
use weir::cluster::member::Node;
use weir::{Config, Handle};

const SECRET: &str = "a secret of some length";
const CHANNEL: u64 = 203_039_963_636_301_824;
const PATIENCE: Duration = Duration::from_secs(20);
const ADDRESSES: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

/// Certificates of nodes, and whom their clients and they believe.
struct Papers {
    authority: Authority,
    ca: PathBuf,
    nodes: Vec<Files>,
}

impl Papers {
    /// Each for its own address.
    fn new() -> Self {
        Self::by(|authority, ip| authority.node(&["localhost", ip]).files())
    }

    fn by(issue: impl Fn(&Authority, &str) -> Files) -> Self {
        let authority = Authority::new();
        Self {
            ca: file(&authority.pem()),
            nodes: ADDRESSES.map(|ip| issue(&authority, ip)).into(),
            authority,
        }
    }

    /// What the node of this index is told of TLS.
    fn apply(&self, index: u8, config: &mut Config) {
        self.nodes[usize::from(index)].apply(config);
        config.cluster_ca_file = Some(self.ca.clone());
    }

    /// A client that shows a certificate if it is asked for one.
    fn client(&self) -> Arc<ClientConfig> {
        let own = self.authority.client();
        Arc::new(self.authority.believer(&[&TLS13, &TLS12], Some(&own)))
    }
}

fn unlimited() -> MockHandle {
    let config = MockConfig {
        settings: Settings::unlimited(),
        ..MockConfig::default()
    };
    mock::start(config).expect("the mock starts")
}

fn plan(mock: &MockHandle) -> Plan<'static> {
    Plan {
        upstream: mock.url(),
        ca_file: support::ca_file(mock),
        secret: Some(SECRET),
    }
}

fn owned_by(members: &[Member], index: usize) -> String {
    let nodes: Vec<Node> = members.iter().map(|member| member.node).collect();
    token(&nodes, &members[index].node, Some(SECRET), 0)
}

/// A request that the oracle tells from all others.
fn numbered(method: &str, token: &str, body: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!(
        "{method} /api/v10/channels/{CHANNEL}/messages?request={number} HTTP/1.1\r\nHost: weir\r\n\
         Authorization: {token}\r\n{length}\r\n{body}"
    )
}

fn client(member: &Member, papers: &Papers) -> Client {
    if member.node.tls {
        Client::secure(member.addr(), &papers.client())
    } else {
        Client::connect(member.addr())
    }
}

/// Requests of each node's, asked for at each.
fn all_to_all(members: &[Member], papers: &Papers) {
    let large = "x".repeat(300 * 1024);
    for owner in 0..members.len() {
        let token = owned_by(members, owner);
        for member in members {
            let mut client = client(member, papers);
            for (method, body) in [("GET", ""), ("POST", "{}"), ("POST", &large)] {
                let answer = client.ask(&numbered(method, &token, body));
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(answer.header("generated-by-proxy"), None);
            }
        }
    }
}

fn sum(members: &[Member], name: &str) -> u64 {
    members.iter().map(|member| member.metric(name)).sum()
}

#[test]
fn nodes_with_certificates_relay_to_each_other_and_show_their_own_where_one_is_asked_for() {
    for asked_for in [false, true] {
        let (mock, papers) = (unlimited(), Papers::new());
        let members = together(&plan(&mock), 3, |index, config| {
            papers.apply(index, config);
            config.tls_client_ca_file = asked_for.then(|| papers.ca.clone());
        });
        all_to_all(&members, &papers);
        assert_eq!(sum(&members, "nirn_proxy_requests_routed_sent"), 18);
        assert_eq!(sum(&members, "nirn_proxy_requests_routed_received"), 18);
        assert_eq!(sum(&members, "nirn_proxy_requests_routed_error"), 0);
        assert_eq!(sum(&members, "weir_relay_unproven_total"), 0);
        assert_eq!(mock.oracle().once.repeated_unsafe, 0);
    }
}

#[test]
fn one_name_may_stand_in_the_certificates_of_all() {
    let by_name =
        |authority: &Authority, _: &str| authority.node(&["localhost", "weir.test"]).files();
    let (mock, papers) = (unlimited(), Papers::by(by_name));
    let named = |name: Option<&str>| {
        let members = together(&plan(&mock), 2, |index, config| {
            papers.apply(index, config);
            config.cluster_tls_name = name.map(str::to_owned);
        });
        all_to_all(&members, &papers);
        sum(&members, "nirn_proxy_requests_routed_received")
    };
    assert_eq!(named(Some("weir.test")), 6);
    // A certificate of the right authority, for somebody else: nothing is relayed to it.
    assert_eq!(named(None), 0);
    assert_eq!(named(Some("other.test")), 0);
}

#[test]
fn a_node_that_another_authority_vouches_for_is_sent_nothing() {
    let (mock, papers, strange) = (unlimited(), Papers::new(), Papers::new());
    let members = together(&plan(&mock), 2, |index, config| {
        papers.apply(index, config);
        if index == 0 {
            config.cluster_ca_file = Some(strange.ca.clone());
        }
    });
    all_to_all(&members, &papers);
    assert!(members[0].metric("nirn_proxy_requests_routed_error") > 0);
    assert_eq!(members[1].metric("nirn_proxy_requests_routed_received"), 0);
    assert_eq!(members[0].metric("nirn_proxy_requests_routed_received"), 3);
}

#[test]
fn nodes_with_and_without_certificates_serve_together_while_they_are_given_them() {
    let (mock, papers) = (unlimited(), Papers::new());
    let members = together(&plan(&mock), 3, |index, config| {
        papers.apply(index, config);
        if index > 0 {
            (config.tls_cert_file, config.tls_key_file) = (None, None);
        }
    });
    all_to_all(&members, &papers);
    assert_eq!(sum(&members, "nirn_proxy_requests_routed_received"), 18);
    assert_eq!(sum(&members, "nirn_proxy_requests_routed_error"), 0);
    // The new one is known, but not yet what it speaks.
    let nodes: Vec<Node> = members.iter().map(|member| member.node).collect();
    let otherwise = |index: usize| {
        let mut nodes = nodes.clone();
        nodes[index].tls = !nodes[index].tls;
        nodes[index].generation += 1;
        nodes
    };
    for (from, to) in [(1, 0), (0, 1)] {
        let token = owned_by(&members, to);
        for method in ["GET", "POST"] {
            members[from].know(&otherwise(to));
            let before = members[from].metric("nirn_proxy_requests_routed_error");
            let body = if method == "GET" { "" } else { "{}" };
            let answer = client(&members[from], &papers).ask(&numbered(method, &token, body));
            assert_eq!(answer.status, 200, "{from} {method}: {}", answer.text());
            assert!(members[from].metric("nirn_proxy_requests_routed_error") > before);
            members[from].know(&nodes);
        }
    }
    assert_eq!(mock.oracle().once.repeated_unsafe, 0);
    all_to_all(&members, &papers);
}

#[test]
fn files_that_are_read_again_hold_for_relays_from_then_on() {
    let (mock, papers, renewed) = (unlimited(), Papers::new(), Authority::new());
    let members = together(&plan(&mock), 2, |index, config| {
        papers.apply(index, config);
        // Connections between nodes idle half as long.
        config.client_idle_timeout = Duration::from_millis(200);
    });
    let nodes: Vec<Node> = members.iter().map(|member| member.node).collect();
    let token = owned_by(&members, 1);
    let relays = || {
        thread::sleep(Duration::from_millis(300));
        members[0].know(&nodes);
        let before = members[1].metric("nirn_proxy_requests_routed_received");
        let answer = client(&members[0], &papers).ask(&numbered("GET", &token, ""));
        assert_eq!(answer.status, 200);
        members[1].metric("nirn_proxy_requests_routed_received") > before
    };
    assert!(relays());
    fs::write(&papers.ca, renewed.pem()).expect("the file is written");
    assert!(relays(), "nobody has said that it is to be read again");
    assert!(members[0].weir.reload().expect("files that can be used"));
    assert!(!relays());
    papers.nodes[1].replace(&renewed.node(&["localhost", "127.0.0.2"]));
    assert!(members[1].weir.reload().expect("files that can be used"));
    assert!(relays());
    fs::write(&papers.ca, "no certificate").expect("the file is written");
    members[0].weir.reload().expect_err("no certificate");
    assert!(relays(), "what was used before is used on");
}

#[test]
fn shards_ask_under_tls_at_the_node_that_owns_their_bot() {
    let (mock, papers) = (
        mock::start(MockConfig::default()).expect("a mock"),
        Papers::new(),
    );
    let port = free_port();
    let members = together(&plan(&mock), 3, |index, config| {
        config.gateway_queue_port = Some(port);
        papers.apply(index, config);
        config.tls_client_ca_file = Some(papers.ca.clone());
        if index == 2 {
            (config.tls_cert_file, config.tls_key_file) = (None, None);
            config.tls_client_ca_file = None;
        }
    });
    let ask = |node: usize, bot: &str, shard: u32| {
        let addr = members[node].weir.gateway_queue_addr().expect("a queue");
        let mut client = match node {
            2 => Client::connect(addr),
            _ => Client::secure(addr, &papers.client()),
        };
        client.send(format!(
            "GET /?shard={shard} HTTP/1.1\r\nHost: queue\r\nAuthorization: {bot}\r\n\r\n"
        ));
        client
    };
    let waits = |node: usize, count: u64| {
        let until = Instant::now() + PATIENCE;
        while members[node].now("weir_identify_waiting") != count {
            assert!(Instant::now() < until, "never {count} at node {node}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    // From a node with a certificate to another, and to one without.
    let mut clients = Vec::new();
    for owner in [0, 2] {
        let bot = owned_by(&members, owner);
        clients.push(ask(1, &bot, 0));
        waits(owner, 1);
        let leaving = ask(1, &bot, 1);
        waits(owner, 2);
        drop(leaving);
        waits(owner, 1);
    }
    for client in &mut clients {
        assert_free(&client.answer(false));
    }
    assert_eq!(members[1].now("weir_identify_relayed_total"), 4);
    assert_eq!(members[1].now("weir_identify_granted_total"), 0);
    assert_eq!(sum(&members, "nirn_proxy_requests_routed_error"), 0);
    // One without has none to show to one that asks for it: the shard is served all the same.
    let mut shard = ask(2, &owned_by(&members, 1), 0);
    assert_free(&shard.answer(false));
    assert!(members[2].now("nirn_proxy_requests_routed_error") > 0);
}

/// A port that is free on all addresses, as far as can be known; not one of those that the system
/// gives out by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + (std::process::id() % 8_000) as u16;
    let mut ports = (0..).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed));
    let is_free = |port: &u16| {
        ADDRESSES.iter().all(|ip| {
            UdpSocket::bind((*ip, *port)).is_ok() && TcpListener::bind((*ip, *port)).is_ok()
        })
    };
    ports.find(is_free).expect("a port")
}

/// A node that finds the others by itself.
fn node(mock: &MockHandle, index: u8, port: u16, change: impl FnOnce(&mut Config)) -> Handle {
    let mut config = config(&mock.url(), support::ca_file(mock));
    config.bind_ip = ADDRESSES[usize::from(index)].parse().expect("an address");
    config.workers = Some(1);
    config.cluster_port = port;
    config.cluster_members = ADDRESSES[..2]
        .iter()
        .map(|ip| ip.parse().expect("a peer"))
        .collect();
    change(&mut config);
    weir::start(config).expect("weir starts")
}

fn nodes(weir: &Handle) -> usize {
    weir.members().expect("a cluster").ownership().nodes().len()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_known_is_handed_over_under_tls_and_not_to_a_stranger() {
    let (papers, strange) = (Papers::new(), Papers::new());
    // Who leaves and who stays has a certificate; whether the first believes the second.
    for (leaves_tls, stays_tls, believes) in [
        (true, true, true),
        (false, true, true),
        (true, false, true),
        (true, true, false),
    ] {
        let (mock, port) = (
            mock::start(MockConfig::default()).expect("a mock"),
            free_port(),
        );
        let start = |index: u8, tls: bool, believes: bool| {
            node(&mock, index, port, |config| {
                papers.apply(index, config);
                if !believes {
                    config.cluster_ca_file = Some(strange.ca.clone());
                }
                if !tls {
                    (config.tls_cert_file, config.tls_key_file) = (None, None);
                }
            })
        };
        let leaves = start(0, leaves_tls, believes);
        let stays = start(1, stays_tls, true);
        wait_until("both see both", || {
            nodes(&leaves) == 2 && nodes(&stays) == 2
        });
        let ownership = leaves.members().expect("a cluster").ownership();
        let token = token(ownership.nodes(), ownership.me(), None, 0);
        let ask = |addr: SocketAddr, tls: bool| -> Answer {
            let mut client = match tls {
                true => Client::secure(addr, &papers.client()),
                false => Client::connect(addr),
            };
            client.ask(&numbered("POST", &token, "{}"))
        };
        for _ in 0..5 {
            assert_eq!(ask(leaves.proxy_addr(), leaves_tls).status, 200);
        }
        let counts = |weir: &Handle| weir.members().expect("a cluster").counts();
        // Both told each other of something when they met, or tried to.
        wait_until("they are done", || {
            let (first, second) = (counts(&leaves), counts(&stays));
            first.sent + first.failed > 0 || second.sent > 0
        });
        let before = counts(&stays).received;
        leaves.shutdown(Duration::from_secs(4));
        wait_until("it is gone", || nodes(&stays) == 1);
        let told = counts(&stays).received - before;
        assert_eq!(told, u64::from(believes), "{leaves_tls} {stays_tls}");
        if believes {
            // The limit was used up there, and holds here.
            assert_eq!(ask(stays.proxy_addr(), stays_tls).status, 200);
            let oracle = mock.oracle();
            assert_eq!(oracle.violations, 0, "{oracle:?}");
        }
    }
}

#[test]
fn the_log_says_who_is_not_believed_and_why() {
    let (mock, papers, strange, port) = (unlimited(), Papers::new(), Papers::new(), free_port());
    let start = |ip: &str, files: &Files, ca: &PathBuf| {
        let port = port.to_string();
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let (cert, key, ca) = (path(&files.cert), path(&files.key), path(ca));
        Program::start(
            &mock,
            &[
                ("BIND_IP", ip),
                ("CLUSTER_PORT", &port),
                ("CLUSTER_MEMBERS", "127.0.0.1,127.0.0.2"),
                ("WORKERS", "1"),
                ("TLS_CERT_FILE", &cert),
                ("TLS_KEY_FILE", &key),
                ("CLUSTER_CA_FILE", &ca),
            ],
        )
    };
    // Its certificate is the other's.
    let first = start("127.0.0.1", &papers.nodes[1], &papers.ca);
    let said = |seen: &[String], what: &str, why: &str| {
        let mut lines = seen.iter();
        lines.any(|line| line.contains(what) && line.contains(why))
    };
    let mut at_first = first.before_serving.clone();
    at_first.extend(first.log_lines());
    let warned = "the other nodes will not believe TLS_CERT_FILE";
    assert!(said(&at_first, warned, "127.0.0.2"), "{at_first:#?}");
    let second = start("127.0.0.2", &papers.nodes[1], &strange.ca);
    let mut at_second = second.before_serving.clone();
    wait_until("it sees the other", || {
        let page = Client::connect(second.metrics)
            .ask("GET /nirn/cluster HTTP/1.1\r\nHost: localhost\r\n\r\n");
        page.text().matches("\"alive\"").count() == 2
    });
    let alone = Node::at(([127, 0, 0, 1], 1).into());
    let mut client = Client::secure(second.proxy, &papers.client());
    for number in 0..12 {
        let token = token(&[alone], &alone, None, number);
        assert_eq!(client.ask(&numbered("GET", &token, "")).status, 200);
    }
    at_second.extend(second.log_lines());
    let told = "no TLS with a node of the cluster";
    assert!(
        said(&at_second, told, "invalid peer certificate"),
        "{at_second:#?}"
    );
    assert!(
        said(&at_second, warned, "invalid peer certificate"),
        "{at_second:#?}"
    );
}
