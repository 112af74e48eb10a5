//! Nodes find each other, notice who dies and who leaves, and keep strangers out.

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{self, MockConfig, MockHandle};
use socket2::{Domain, Socket, Type};
use support::cluster::token;
use support::config;
use support::http::Client;
use support::program::Program;
use weir::Handle;
use weir::cluster::member::Node;
use weir::cluster::owner::Owner;
use weir::config::ClusterSecret;

/// Tests that were given a port.
static PORTS_TAKEN: AtomicUsize = AtomicUsize::new(0);
/// What is promised of a node that dies.
const DETECTED_WITHIN: Duration = Duration::from_secs(2);
/// What has no promise but is not to take for ever.
const PATIENCE: Duration = Duration::from_secs(20);

fn mock() -> MockHandle {
    mock::start(MockConfig::default()).expect("the mock starts")
}

/// A port that is free for datagrams and streams on all three addresses, as far as can be known. Not
/// one of those that the system gives out by itself.
fn free_port() -> u16 {
    let mut ports = (0..10_000).map(|n| 20_000 + ((std::process::id() + n * 7) % 10_000) as u16);
    let is_free = |port: &u16| {
        ["127.0.0.1", "127.0.0.2", "127.0.0.3"].iter().all(|ip| {
            UdpSocket::bind((*ip, *port)).is_ok() && TcpListener::bind((*ip, *port)).is_ok()
        })
    };
    let taken = PORTS_TAKEN.fetch_add(1, Ordering::Relaxed);
    ports.nth(37 * taken).expect("a few tests");
    ports.find(is_free).expect("a port")
}

fn program(mock: &MockHandle, ip: &str, port: u16, more: &[(&str, &str)]) -> Program {
    let port = port.to_string();
    let mut variables = vec![
        ("BIND_IP", ip),
        ("CLUSTER_PORT", port.as_str()),
        ("CLUSTER_MEMBERS", "127.0.0.1,127.0.0.2,127.0.0.3"),
        ("WORKERS", "1"),
    ];
    variables.extend_from_slice(more);
    Program::start(mock, &variables)
}

/// The node's own log, read until it says that there are `count` nodes; how long that took.
fn sees(node: &Program, seen: &mut Vec<String>, count: usize) -> Duration {
    let began = Instant::now();
    let wanted = format!("\"nodes\":{count},");
    loop {
        seen.extend(node.log_lines());
        let last = seen.iter().rev().find(|line| line.contains("\"nodes\":"));
        if last.is_some_and(|line| line.contains(&wanted)) {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "never {count} nodes: {seen:#?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn three_processes_find_each_other_and_notice_who_dies_and_who_leaves() {
    let (mock, port) = (mock(), free_port());
    let secret = [("CLUSTER_SECRET", "the same for all of them")];
    let first = program(&mock, "127.0.0.1", port, &secret);
    let mut third = program(&mock, "127.0.0.3", port, &secret);
    let (mut at_first, mut at_third) = (Vec::new(), Vec::new());
    let mut detected = Duration::MAX;
    // The promise is weir's; what a busy machine adds to it is not there every time.
    for _ in 0..3 {
        let second = program(&mock, "127.0.0.2", port, &secret);
        sees(&first, &mut at_first, 3);
        sees(&third, &mut at_third, 3);
        second.signal("KILL");
        let slowest = sees(&first, &mut at_first, 2).max(sees(&third, &mut at_third, 2));
        detected = detected.min(slowest);
        if detected < DETECTED_WITHIN {
            break;
        }
    }
    assert!(detected < DETECTED_WITHIN, "{detected:?}");
    assert!(
        at_first
            .iter()
            .any(|line| line.contains("a node of the cluster may be dead"))
    );

    at_first.clear();
    third.signal("TERM");
    sees(&first, &mut at_first, 1);
    // It said so itself: nobody had to suspect it.
    assert!(
        !at_first.iter().any(|line| line.contains("may be dead")),
        "{at_first:#?}"
    );
    assert!(
        at_first
            .iter()
            .any(|line| line.contains("this node is alone"))
    );
    assert!(third.wait(PATIENCE).success());
}

fn node(mock: &MockHandle, ip: &str, port: u16, change: impl FnOnce(&mut weir::Config)) -> Handle {
    let mut config = config(&mock.url(), support::ca_file(mock));
    config.bind_ip = ip.parse().expect("an address");
    config.workers = Some(1);
    config.cluster_port = port;
    change(&mut config);
    weir::start(config).expect("weir starts")
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn counts(weir: &Handle) -> weir::metrics::Cluster {
    weir.members().expect("a cluster").counts()
}

fn nodes(weir: &Handle) -> usize {
    weir.members().expect("a cluster").ownership().nodes().len()
}

#[test]
fn nodes_that_a_name_resolves_to_share_out_identities_and_agree_on_it() {
    let (mock, port) = (mock(), free_port());
    let by_name = |config: &mut weir::Config| {
        config.cluster_dns = Some("localhost".parse().expect("a host"));
    };
    let nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| node(&mock, ip, port, by_name));
    wait_until("all see all", || {
        nodes.iter().all(|weir| self::nodes(weir) == 3)
    });
    let mut views: Vec<_> = nodes
        .iter()
        .map(|w| w.members().expect("a cluster").view())
        .collect();
    for identity in (0..1_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let owners: Vec<_> = views
            .iter_mut()
            .zip(&nodes)
            .map(|(view, weir)| match view.owner(identity) {
                Owner::Here => weir.proxy_addr(),
                Owner::There(node) => node.proxy_addr(),
            })
            .collect();
        assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
    }
    // Each view learns of a change by itself.
    let [first, second, third] = nodes;
    third.shutdown(Duration::ZERO);
    wait_until("two are left", || {
        self::nodes(&first) == 2 && self::nodes(&second) == 2
    });
    let gone = (0..1_000_u64).any(|n| match views[0].owner(n << 32) {
        Owner::There(node) => node.addr.ip().to_string() == "127.0.0.3",
        Owner::Here => false,
    });
    assert!(!gone);
}

#[test]
fn a_node_with_another_secret_or_none_stays_alone_and_is_counted() {
    let (mock, port) = (mock(), free_port());
    let with = |secret: Option<&'static str>| {
        move |config: &mut weir::Config| {
            config.cluster_members = vec!["127.0.0.1".parse().expect("a host")];
            config.cluster_secret = secret.and_then(ClusterSecret::new);
        }
    };
    let first = node(&mock, "127.0.0.1", port, |config| {
        with(Some("the secret of this cluster"))(config);
        let nobody = "127.0.0.9".parse().expect("a host");
        config.cluster_members.push(nobody);
    });
    let _other = node(
        &mock,
        "127.0.0.2",
        port,
        with(Some("the secret of another one")),
    );
    let _open = node(&mock, "127.0.0.3", port, with(None));
    let members = first.members().expect("a cluster").clone();
    let ignored = |label: &str| {
        let count = members.ignored().find(|(reason, _)| *reason == label);
        count.map_or(0, |(_, count)| count)
    };
    wait_until("both have knocked", || {
        ignored("wrong_tag") > 1 && ignored("unsealed") > 1
    });
    assert_eq!(nodes(&first), 1);
    // A person sees so, and what to do, without reading logs.
    let metrics = first.metrics_addr().expect("a metrics port");
    let said = || {
        let answer = Client::connect(metrics)
            .ask("GET /nirn/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let status: weir::status::Status = serde_json::from_str(&answer.text()).expect("JSON");
        status.attention
    };
    wait_until("it is said", || {
        let said = said();
        let about = |what: &str, text: &str| {
            let mut all = said.iter();
            all.any(|item| item.what == what && item.text.contains(text))
        };
        about("cluster_alone", "serves everybody")
            && about("cluster_missing", "127.0.0.9 (for ")
            && about("cluster_ignored", &format!("127.0.0.2:{port}"))
            && about("cluster_ignored", &format!("127.0.0.3:{port}"))
    });
    assert!(said().iter().all(|item| !item.text.contains("127.0.0.1 ")));
}

#[test]
fn garbage_does_not_end_a_nodes_part_in_the_cluster() {
    let (mock, port) = (mock(), free_port());
    let with = |config: &mut weir::Config| {
        config.cluster_members = vec!["127.0.0.1".parse().expect("a host")];
    };
    let first = node(&mock, "127.0.0.1", port, with);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for n in 0..2_000_u32 {
        let mut bytes = n
            .wrapping_mul(2_654_435_761)
            .to_le_bytes()
            .repeat(n as usize % 300);
        if n % 2 == 0 && bytes.len() > 4 {
            bytes[..4].copy_from_slice(b"\xc3w\x01\x01");
        }
        stranger.send_to(&bytes, ("127.0.0.1", port)).expect("sent");
    }
    let second = node(&mock, "127.0.0.2", port, with);
    wait_until("they find each other", || {
        nodes(&first) == 2 && nodes(&second) == 2
    });
    let ignored: u64 = first
        .members()
        .expect("a cluster")
        .ignored()
        .map(|(_, n)| n)
        .sum();
    // Of a flood, what the kernel had room for.
    assert!(ignored > 20, "{ignored}");
}

#[test]
fn a_node_that_ends_hands_over_what_it_knows_and_who_waits() {
    let (mock, port) = (mock(), free_port());
    let members = "127.0.0.1,127.0.0.2";
    let among = |config: &mut weir::Config| {
        let peers = members.split(',').map(|ip| ip.parse().expect("a peer"));
        config.cluster_members = peers.collect();
    };
    let leaves = node(&mock, "127.0.0.1", port, among);
    let stays = node(&mock, "127.0.0.2", port, among);
    wait_until("both see both", || {
        nodes(&leaves) == 2 && nodes(&stays) == 2
    });
    let ownership = leaves.members().expect("a cluster").ownership();
    let token = token(ownership.nodes(), ownership.me(), None, 0);
    let post = move |addr, number: u32| {
        let body = format!(r#"{{"content":"id:{number}"}}"#);
        let request = format!(
            "POST /api/v10/channels/203039963636301824/messages HTTP/1.1\r\nHost: x\r\n\
             Authorization: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Client::connect(addr).ask(&request)
    };
    // One more in each second after these.
    for number in 0..5 {
        assert_eq!(post(stays.proxy_addr(), number).status, 200);
    }
    let waiting: Vec<_> = [leaves.proxy_addr(), stays.proxy_addr()]
        .into_iter()
        .enumerate()
        .map(|(index, addr)| {
            let post = post.clone();
            thread::spawn(move || post(addr, 10 + u32::try_from(index).expect("small")))
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let before = counts(&stays);
    let began = Instant::now();
    // The client that came in here waits on, at the other node.
    assert!(leaves.shutdown(PATIENCE));
    for client in waiting {
        let answer = client.join().expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(began.elapsed() > Duration::from_secs(1), "the limit holds");
    let (oracle, after) = (mock.oracle(), counts(&stays));
    assert_eq!(oracle.violations, 0, "{oracle:?}");
    assert_eq!(oracle.once.repeated_unsafe, 0);
    assert_eq!(
        (after.received, after.members),
        (before.received + 1, 1),
        "{after:?}"
    );
}

#[test]
fn who_waits_at_a_node_that_ends_does_not_keep_it() {
    let (mock, port) = (mock(), free_port());
    let among = |config: &mut weir::Config| {
        config.cluster_members = vec!["127.0.0.2".parse().expect("a peer")];
    };
    let leaves = node(&mock, "127.0.0.1", port, among);
    let stays = node(&mock, "127.0.0.2", port, |config| {
        config.cluster_members = vec!["127.0.0.1".parse().expect("a peer")];
    });
    wait_until("both see both", || {
        nodes(&leaves) == 2 && nodes(&stays) == 2
    });
    let ownership = leaves.members().expect("a cluster").ownership();
    let token = token(ownership.nodes(), ownership.me(), None, 0);
    let ask = move |addr, method: &str, tail: &str| {
        let request = format!(
            "{method} /api/v10/channels/203039963636301824{tail} HTTP/1.1\r\nHost: x\r\n\
             Authorization: {token}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        Client::connect(addr).ask(&request)
    };
    for _ in 0..5 {
        assert_eq!(ask(stays.proxy_addr(), "POST", "/messages").status, 200);
    }
    let addr = stays.proxy_addr();
    let waiting: Vec<_> = (0..6)
        .map(|_| {
            let ask = ask.clone();
            thread::spawn(move || ask(addr, "POST", "/messages"))
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert!(leaves.shutdown(PATIENCE));
    // The last of them has its turn in more than five seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    for client in waiting {
        assert_eq!(client.join().expect("an answer").status, 200);
    }
    assert_eq!(mock.oracle().violations, 0);
}

#[test]
fn the_metrics_port_shows_members_and_nothing_secret() {
    let (mock, port) = (mock(), free_port());
    let secret = "nobody is to see this";
    let start = |ip, other: &str| {
        node(&mock, ip, port, |config| {
            config.cluster_members = vec![other.parse().expect("a peer")];
            config.cluster_secret = ClusterSecret::new(secret);
        })
    };
    let (first, second) = (
        start("127.0.0.1", "127.0.0.2"),
        start("127.0.0.2", "127.0.0.1"),
    );
    wait_until("both see both", || {
        nodes(&first) == 2 && nodes(&second) == 2
    });
    let addr = first.metrics_addr().expect("metrics are on");
    let page = |path| {
        Client::connect(addr)
            .ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .text()
    };
    let shown: serde_json::Value = serde_json::from_str(&page("/nirn/cluster")).expect("JSON");
    let members = shown["members"].as_array().expect("members");
    let states: Vec<_> = members.iter().map(|m| m["state"].as_str()).collect();
    assert_eq!(states, [Some("alive"); 2], "{shown}");
    let slots = members.iter().filter_map(|m| m["slots"].as_u64());
    assert_eq!(slots.sum::<u64>(), 4_096);
    assert_eq!(members[0]["this_node"], true);
    assert_eq!(members[1]["proxy"], second.proxy_addr().to_string());
    let metrics = page("/metrics");
    assert!(metrics.contains("\nweir_cluster_members 2\n"), "{metrics}");
    assert!(!metrics.contains(secret) && !shown.to_string().contains(secret));
}

#[test]
fn what_was_relayed_to_a_node_that_hangs_is_let_go_when_it_counts_as_dead() {
    let (mock, port) = (mock(), free_port());
    let first = program(&mock, "127.0.0.1", port, &[]);
    let second = program(&mock, "127.0.0.2", port, &[]);
    let mut seen = Vec::new();
    sees(&first, &mut seen, 2);
    let alone = Node::at((std::net::Ipv4Addr::LOCALHOST, 1).into());
    let tokens: Vec<String> = (0..8).map(|n| token(&[alone], &alone, None, n)).collect();
    // Its kernel goes on to take connections and to confirm what comes on them.
    second.signal("STOP");
    let ask = |method: &str, token: &str| {
        let began = Instant::now();
        let body = if method == "GET" { "" } else { "{}" };
        let request = format!(
            "{method} /api/v10/channels/203039963636301824/messages HTTP/1.1\r\nHost: x\r\n\
             Authorization: {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let status = Client::connect(first.proxy).ask(&request).status;
        (status, began.elapsed())
    };
    let answers = thread::scope(|scope| {
        let asks: Vec<_> = tokens
            .iter()
            .flat_map(|token| ["GET", "POST"].map(|method| (method, token)))
            .map(|(method, token)| (method, scope.spawn(move || ask(method, token))))
            .collect();
        let answers = asks.into_iter();
        answers
            .map(|(method, answer)| (method, answer.join().expect("an answer")))
            .collect::<Vec<_>>()
    });
    second.signal("KILL");
    assert!(
        answers
            .iter()
            .any(|(_, (_, took))| *took > Duration::from_millis(500)),
        "none of them was the other node's: {answers:?}"
    );
    for (method, (status, took)) in &answers {
        let expected: &[u16] = if *method == "GET" {
            &[200]
        } else {
            &[200, 429]
        };
        assert!(expected.contains(status), "{method}: {answers:?}");
        assert!(*took < PATIENCE, "{method}: {answers:?}");
    }
    seen.extend(first.log_lines());
    assert!(
        seen.iter()
            .any(|line| line.contains("a node of the cluster is dead"))
    );
}

/// Opens a connection to the cluster's port of 127.0.0.2 from this address, and announces a part.
fn greet(from: &str, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from.parse().expect("an address"), 0).into())?;
    socket.connect(&SocketAddr::from(([127, 0, 0, 2], port)).into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&16_000_u32.to_le_bytes())?;
    Ok(stream)
}

#[test]
fn strangers_that_dribble_do_not_keep_hand_overs_out() {
    let (mock, port) = (mock(), free_port());
    let among = |config: &mut weir::Config| {
        config.cluster_secret = ClusterSecret::new("the same for all of them");
        let members = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().expect("a peer"));
        config.cluster_members = members.to_vec();
    };
    let leaves = node(&mock, "127.0.0.1", port, among);
    let stays = node(&mock, "127.0.0.2", port, among);
    wait_until("both see both", || {
        nodes(&leaves) == 2 && nodes(&stays) == 2
    });
    // What they told each other as they met.
    wait_until("the first told the second", || counts(&stays).received > 0);
    let before = counts(&stays);
    let (strangers, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut streams: Vec<Option<TcpStream>> = (0..32).map(|_| None).collect();
            while !over.load(Ordering::Relaxed) {
                for stream in &mut streams {
                    let goes_on = |s: &mut TcpStream| s.write_all(b"x").is_ok();
                    if !stream.as_mut().is_some_and(goes_on) {
                        *stream = greet("127.0.0.9", port).ok();
                        strangers.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        wait_until("they are there", || strangers.load(Ordering::Relaxed) >= 32);
        let left = leaves.shutdown(PATIENCE);
        over.store(true, Ordering::Relaxed);
        assert!(left);
    });
    assert_eq!(counts(&stays).received, before.received + 1);
    stays.shutdown(PATIENCE);
}

#[test]
fn who_dribbles_is_not_listened_to_for_long_even_from_a_members_address() {
    let (mock, port) = (mock(), free_port());
    let _node = node(&mock, "127.0.0.2", port, |config| {
        config.cluster_members = vec!["127.0.0.2".parse().expect("a peer")];
    });
    let began = Instant::now();
    let mut stream = greet("127.0.0.2", port).expect("a connection");
    // A part of this pace would take half an hour.
    while stream.write_all(b"x").is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is listened to all the same");
        thread::sleep(Duration::from_millis(100));
    }
}
