//! Requests of an identity that another node of the cluster owns: relayed whole, handled in one place,
//! taken elsewhere when that node fails, and never sent twice.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::settings::Settings;
use loadtest::mock::{self, MockConfig, MockHandle};
use support::cluster::{Member, Plan, node_at, start, together, token};
use support::http::{Answer, Client};
use support::upstream::{Peer, Recorder};
use weir::cluster::member::Node;

const CHANNEL: u64 = 203_039_963_636_301_824;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 google\r\n\r\nok";
const SECRET: &str = "a secret of some length";

/// The number of the next request; the oracle tells by it whether one is processed twice.
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn plan(mock: &MockHandle) -> Plan<'static> {
    Plan {
        upstream: mock.url(),
        ca_file: support::ca_file(mock),
        secret: Some(SECRET),
    }
}

fn before(recorder: &Recorder) -> Plan<'static> {
    Plan {
        upstream: recorder.url(),
        ca_file: None,
        secret: Some(SECRET),
    }
}

fn unlimited() -> MockHandle {
    let config = MockConfig {
        settings: Settings::unlimited(),
        ..MockConfig::default()
    };
    mock::start(config).unwrap()
}

fn nodes(members: &[Member]) -> Vec<Node> {
    members.iter().map(|member| member.node).collect()
}

/// A token that the member of this index owns.
fn owned_by(members: &[Member], index: usize) -> String {
    token(&nodes(members), &members[index].node, Some(SECRET), 0)
}

fn ask(method: &str, path: &str, token: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request to a bucket of its own.
fn numbered(method: &str, token: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("/api/v10/channels/{CHANNEL}/messages?request={number}");
    if method == "GET" {
        format!("GET {path} HTTP/1.1\r\nHost: weir\r\nAuthorization: {token}\r\n\r\n")
    } else {
        ask(method, &path, token, "{}")
    }
}

/// Waits until something is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_identitys_requests_are_answered_by_one_node_whoever_took_them() {
    let mock = unlimited();
    let members = together(&plan(&mock), 3, |_, _| ());
    for owner in 0..3 {
        let token = owned_by(&members, owner);
        let before: Vec<u64> = members.iter().map(Member::answered).collect();
        for round in 0..4 {
            for member in &members {
                let mut client = Client::connect(member.addr());
                for method in ["GET", "POST"] {
                    let answer = client.ask(&numbered(method, &token));
                    assert_eq!(answer.status, 200, "{round}: {}", answer.text());
                    assert_eq!(answer.header("generated-by-proxy"), None);
                }
            }
        }
        for (index, member) in members.iter().enumerate() {
            let answered = member.answered() - before[index];
            assert_eq!(
                answered,
                if index == owner { 24 } else { 0 },
                "node {index}"
            );
        }
    }
    for member in &members {
        assert_eq!(member.metric("nirn_proxy_requests_routed_sent"), 16);
        assert_eq!(member.metric("nirn_proxy_requests_routed_received"), 16);
        assert_eq!(member.metric("nirn_proxy_requests_routed_error"), 0);
        assert_eq!(member.metric("weir_relay_seconds_count"), 16);
        assert_eq!(member.metric("weir_relay_unproven_total"), 0);
    }
    assert_eq!(mock.oracle().once.repeated_unsafe, 0);
}

#[test]
fn the_limits_of_a_bot_hold_over_all_nodes_together() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let members = together(&plan(&mock), 2, |_, _| ());
    let token = owned_by(&members, 1);
    let asked = AtomicU64::new(0);
    thread::scope(|scope| {
        for worker in 0..24_usize {
            let (addr, token, asked) = (members[worker % 2].addr(), &token, &asked);
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                loop {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    if number >= 180 {
                        return;
                    }
                    let channel = CHANNEL + (number % 40) * 1_000;
                    let path = format!("/api/v10/channels/{channel}/messages");
                    let method = if number.is_multiple_of(6) {
                        "POST"
                    } else {
                        "GET"
                    };
                    let answer = client.ask(&ask(method, &path, token, "{}"));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    let report = mock.oracle();
    assert_eq!((report.violations, report.requests), (0, 180), "{report:?}");
    assert_eq!(members[0].answered(), 0);
}

#[test]
fn what_discord_gets_and_the_client_gets_is_what_one_node_alone_would_pass_on() {
    let recorder = Recorder::start(|peer| {
        while peer.read_head() {
            peer.send(
                "HTTP/1.1 200 Fine\r\nX-RateLimit-Bucket: abc\r\nset-cookie: a=1\r\nX-Odd:   spaced\r\n\
                 Keep-Alive: timeout=5\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
            );
        }
    });
    let members = together(&before(&recorder), 2, |_, _| ());
    let there = owned_by(&members, 1);
    let mut client = Client::connect(members[0].addr());
    for _ in 0..2 {
        let answer = client.ask(&format!(
            "GET /api/v10/users/@me?&a=b HTTP/1.1\r\nhOsT: weir:8080\r\nX-Odd:   spaced\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-RateLimit-Abort-After: 5\r\n\
             Authorization: {there}\r\n\r\n"
        ));
        let names: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let expected = [
            "X-RateLimit-Bucket",
            "set-cookie",
            "X-Odd",
            "Content-Length",
        ];
        assert_eq!(
            (names.as_slice(), answer.text().as_str()),
            (&expected[..], "abc")
        );
    }
    let sent = format!(
        "GET /api/v10/users/@me?&a=b HTTP/1.1\r\nhOsT: {}\r\nX-Odd:   spaced\r\n\
         Authorization: {there}\r\n\r\n",
        recorder.addr
    );
    assert_eq!(recorder.seen(), [format!("{sent}{sent}")]);
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
     3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n";

#[test]
fn every_framing_survives_the_way_over_two_nodes() {
    let answers = [
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        CHUNKED,
        OK,
    ];
    let recorder = Recorder::start(move |peer| {
        for answer in answers.iter().chain([&CHUNKED]) {
            match peer.read_request() {
                Ok(_) => peer.send(answer),
                Err(_) => return,
            }
        }
    });
    let members = together(&before(&recorder), 2, |_, config| config.workers = Some(1));
    let there = owned_by(&members, 1);
    let mut client = Client::connect(members[0].addr());
    let get = |method: &str| {
        format!("{method} /api/v10/gateway HTTP/1.1\r\nHost: x\r\nAuthorization: {there}\r\n\r\n")
    };
    let hints = client.ask(&get("GET"));
    assert_eq!((hints.status, hints.interim.as_slice()), (200, &[103][..]));
    let head = client.ask(&get("HEAD"));
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("1000"))
    );
    assert_eq!(client.ask(&get("GET")).status, 204);
    let chunked = client.ask(&get("GET"));
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    assert_eq!(chunked.text(), "abcde");
    client.send(format!(
        "POST /api/v10/channels/1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {there}\r\n\
         Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    thread::sleep(Duration::from_millis(50));
    for piece in ["5\r\nhe", "llo\r\n", "0\r\nX-Trailer: 1\r\n", "\r\n"] {
        client.send(piece);
        thread::sleep(Duration::from_millis(20));
    }
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.interim), (200, vec![100]));
    // Now to one that cannot read chunks.
    let mut old = Client::connect(members[0].addr());
    old.send(format!(
        "GET /api/v10/gateway HTTP/1.0\r\nAuthorization: {there}\r\n\r\n"
    ));
    let all = String::from_utf8(old.rest()).unwrap();
    assert!(
        all.ends_with("\r\n\r\nabcde") && !all.contains("chunked"),
        "{all}"
    );
}

#[test]
fn bodies_of_any_size_stream_both_ways() {
    const SIZE: usize = 6 << 20;
    let recorder = Recorder::start(|peer| {
        while let Ok(request) = peer.read_request() {
            let at = request
                .windows(4)
                .position(|end| end == b"\r\n\r\n")
                .unwrap()
                + 4;
            let body = &request[at..];
            peer.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            peer.send(body);
        }
    });
    let members = together(&before(&recorder), 2, |_, _| ());
    let there = owned_by(&members, 1);
    let mut body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    body.truncate(SIZE);
    for member in &members {
        let mut client = Client::connect(member.addr());
        for _ in 0..2 {
            let mut writer = client.stream.try_clone().unwrap();
            let head = format!(
                "POST /api/v10/channels/1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {there}\r\n\
                 Content-Length: {SIZE}\r\n\r\n"
            );
            thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all(head.as_bytes()).unwrap();
                    writer.write_all(&body).unwrap();
                });
                let answer = client.answer(false);
                assert_eq!(answer.status, 200);
                assert!(answer.body == body, "{} bytes came back", answer.body.len());
            });
        }
    }
    assert_eq!(members[0].answered(), 0);
}

#[test]
fn a_client_that_leaves_while_it_waits_at_the_owner_is_never_sent_to_discord() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let members = together(&plan(&mock), 2, |_, _| ());
    let there = owned_by(&members, 1);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    // The bucket's five are used up, so that the next wait for seconds.
    for _ in 0..5 {
        assert_eq!(
            members[0].ask(&ask("POST", &path, &there, "{}")).status,
            200
        );
    }
    let waiting: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::connect(members[0].addr());
            client.send(ask("POST", &path, &there, "{}"));
            client
        })
        .collect();
    let mut stays = Client::connect(members[0].addr());
    until("four wait", || members[1].now("weir_requests_waiting") == 4);
    thread::sleep(Duration::from_millis(150));
    drop(waiting);
    until("they have left", || {
        members[1].now("weir_requests_waiting") == 0
    });
    stays.send(ask("POST", &path, &there, "{}"));
    assert_eq!(stays.answer(false).status, 200);
    let report = mock.oracle();
    assert_eq!((report.requests, report.violations), (6, 0), "{report:?}");
}

#[test]
fn a_relayed_request_waits_longer_than_every_timeout_of_connections() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let members = together(&plan(&mock), 2, |_, config| {
        config.request_timeout = Duration::from_millis(400);
        config.client_idle_timeout = Duration::from_millis(500);
        config.client_header_timeout = Duration::from_millis(500);
    });
    let there = owned_by(&members, 1);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..7 {
            let (addr, post) = (members[0].addr(), ask("POST", &path, &there, "{}"));
            scope.spawn(move || {
                let answer = Client::connect(addr).ask(&post);
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
    assert!(began.elapsed() > Duration::from_secs(2), "two have waited");
    assert_eq!(mock.oracle().violations, 0);
}

#[test]
fn a_body_larger_than_any_window_waits_with_its_request_and_leaves_with_its_client() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let members = together(&plan(&mock), 2, |_, config| {
        config.request_timeout = Duration::from_millis(900);
    });
    let there = owned_by(&members, 1);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let post = |body: &str| ask("POST", &path, &there, body);
    let waiting = || members[1].now("weir_requests_waiting");
    for _ in 0..5 {
        assert_eq!(members[0].ask(&post("{}")).status, 200);
    }
    let mut ahead: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::connect(members[0].addr());
            client.send(post("{}"));
            client
        })
        .collect();
    until("four wait", || waiting() == 4);
    let began = Instant::now();
    // What is kept of one, and all of the other, are more than a window that nobody empties.
    let large = [60_000, 4 << 20].map(|len| post(&"x".repeat(len)));
    thread::scope(|scope| {
        let staying = large.each_ref().map(|request| {
            let mut client = Client::connect(members[0].addr());
            scope.spawn(move || {
                let mut writer = client.stream.try_clone().unwrap();
                thread::scope(|scope| {
                    scope.spawn(move || writer.write_all(request.as_bytes()));
                    client.answer(false).status
                })
            })
        });
        until("six wait", || waiting() == 6);
        let leaving = Client::connect(members[0].addr());
        let mut writer = leaving.stream.try_clone().unwrap();
        let request = &large[1];
        scope.spawn(move || writer.write_all(request.as_bytes()));
        until("seven wait", || waiting() == 7);
        leaving.stream.shutdown(std::net::Shutdown::Both).unwrap();
        until("one has left", || waiting() == 6);
        assert!(began.elapsed() < Duration::from_secs(3), "not for its turn");
        assert_eq!(staying.map(|client| client.join().unwrap()), [200, 200]);
    });
    assert!(
        began.elapsed() > Duration::from_millis(3_500),
        "they waited"
    );
    for client in &mut ahead {
        assert_eq!(client.answer(false).status, 200);
    }
    assert_eq!(mock.oracle().violations, 0);
}

#[test]
fn the_longest_wait_that_a_client_allows_holds_at_the_owner() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let members = together(&plan(&mock), 2, |_, _| ());
    let there = owned_by(&members, 1);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    for _ in 0..5 {
        assert_eq!(
            members[0].ask(&ask("POST", &path, &there, "{}")).status,
            200
        );
    }
    let answer = members[0].ask(&format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {there}\r\nContent-Length: 2\r\n\
         X-RateLimit-Abort-After: 0.1\r\n\r\n{{}}"
    ));
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("generated-by-proxy"), Some("true"));
    assert_eq!(answer.header("x-ratelimit-scope"), Some("user"));
}

#[test]
fn what_is_counted_for_an_address_and_what_is_asked_of_weir_stays_here() {
    let mock = unlimited();
    let members = together(&plan(&mock), 3, |_, _| ());
    for member in &members {
        let health = member.ask("GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((health.status, health.text().as_str()), (200, "ok\n"));
        let gateway = member.ask("GET /api/v10/gateway HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(gateway.status, 200);
        assert_eq!(member.metric("nirn_proxy_requests_routed_sent"), 0);
        assert_eq!(member.answered(), 1);
    }
}

#[test]
fn a_webhook_belongs_to_one_node_whoever_sends_to_it() {
    let mock = unlimited();
    let members = together(&plan(&mock), 3, |_, _| ());
    for id in 0..12 {
        let path = format!("/api/v10/webhooks/{}/token-of-{id}", CHANNEL + id);
        let before: Vec<u64> = members.iter().map(Member::answered).collect();
        for (index, member) in members.iter().enumerate() {
            let sender = owned_by(&members, index);
            member.ask(&ask("POST", &path, &sender, "{}"));
        }
        let answered: Vec<u64> = members.iter().map(Member::answered).collect();
        let by = answered.iter().zip(before).map(|(now, then)| now - then);
        assert_eq!(by.filter(|count| *count > 0).collect::<Vec<_>>(), [3]);
    }
}

#[test]
fn a_client_says_where_its_request_is_handled_only_without_a_secret() {
    let mock = unlimited();
    for secret in [None, Some(SECRET)] {
        let plan = Plan {
            secret,
            ..plan(&mock)
        };
        let members = together(&plan, 2, |_, _| ());
        let there = token(&nodes(&members), &members[1].node, secret, 0);
        let routed = |more: &str| {
            let head = "GET /api/v10/users/@me HTTP/1.1\r\nHost: x\r\n";
            format!("{head}{more}Authorization: {there}\r\n\r\n")
        };
        let told = routed("nirn-routed-to: 127.0.0.1:8080\r\n");
        assert_eq!(members[0].ask(&told).status, 200);
        let here = u64::from(secret.is_none());
        assert_eq!(
            (members[0].answered(), members[1].answered()),
            (here, 1 - here)
        );
        assert_eq!(
            members[0].metric("nirn_proxy_requests_routed_received"),
            here
        );
        // Nothing said, for nirn-proxy.
        assert_eq!(members[0].ask(&routed("nirn-routed-to:\r\n")).status, 200);
        assert_eq!(members[0].answered(), here);
        // A pass that is none ends the connection, and nothing comes of the request.
        if secret.is_some() {
            for pass in ["none", &"0".repeat(64), "x"] {
                let forged = format!(
                    "nirn-routed-to: {}\r\nweir-pass: {pass}\r\n",
                    members[0].addr()
                );
                let mut client = Client::connect(members[0].addr());
                client.send(routed(&forged));
                let said = String::from_utf8(client.rest()).unwrap();
                assert_eq!(said, "HTTP/1.1 102 Processing\r\nweir-relay: waits\r\n\r\n");
            }
            assert_eq!(members[0].metric("weir_relay_unproven_total"), 3);
            assert_eq!(members[0].answered() + members[1].answered(), 2);
        }
    }
}

#[test]
fn nodes_that_disagree_about_the_owner_or_the_secret_pass_nothing_round_in_circles() {
    let mock = unlimited();
    let members = start(&plan(&mock), 2, |_, _| ());
    let both = nodes(&members);
    // Each takes the other for the only member.
    members[0].know(&both[1..]);
    members[1].know(&both[..1]);
    for (asked, member) in members.iter().enumerate() {
        // One that leaves, as it were: it owns nothing itself.
        let token = owned_by(&members, 0);
        let began = Instant::now();
        for method in ["GET", "POST"] {
            assert_eq!(member.ask(&numbered(method, &token)).status, 200);
        }
        // With care: whoever served it before may tell of it yet.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(140), "{took:?}");
        // There, back, and there again, where it stays.
        let sent = members
            .iter()
            .map(|m| m.metric("nirn_proxy_requests_routed_sent"));
        assert_eq!(sent.sum::<u64>(), 6 * (asked as u64 + 1));
        assert_eq!(members[1 - asked].answered(), 2);
    }
    assert_eq!(mock.oracle().requests, 4);
    drop(members);

    // The same, and neither believes the other.
    let mine = start(&plan(&mock), 1, |_, _| ()).remove(0);
    let other = Plan {
        secret: Some("another secret, as long"),
        ..plan(&mock)
    };
    let theirs = start(&other, 2, |_, _| ()).remove(1);
    mine.know(&[theirs.node]);
    theirs.know(&[mine.node]);
    let before = mock.oracle().requests;
    for member in [&mine, &theirs] {
        let token = token(&[mine.node, theirs.node], &mine.node, Some(SECRET), 0);
        for method in ["GET", "POST"] {
            assert_eq!(
                member.ask(&numbered(method, &token)).status,
                200,
                "{method}"
            );
        }
    }
    let report = mock.oracle();
    assert_eq!(
        (report.requests - before, report.once.repeated_unsafe),
        (4, 0)
    );
    assert!(mine.metric("weir_relay_unproven_total") > 0);
    assert!(theirs.metric("weir_relay_unproven_total") > 0);
}

/// A node, and one of this script that owns the token.
fn beside(
    mock: &MockHandle,
    script: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> (Member, Recorder, String) {
    let member = start(&plan(mock), 1, |_, config| config.workers = Some(1)).remove(0);
    let scripted = Recorder::start(script);
    let there = know(&member, scripted.addr);
    (member, scripted, there)
}

/// Has `member` take whoever is at `addr` for another node; a token which that one owns.
fn know(member: &Member, addr: SocketAddr) -> String {
    let mut other = node_at(addr);
    // Its own address is another's only by its cluster port.
    other.addr.set_port(7655);
    let nodes = [member.node, other];
    member.know(&nodes);
    token(&nodes, &other, Some(SECRET), 0)
}

const WAITS: &str = "HTTP/1.1 102 Processing\r\nweir-relay: waits\r\n\r\n";
const GOES: &str = "HTTP/1.1 102 Processing\r\nweir-relay: goes\r\n\r\n";

#[test]
fn a_request_in_flight_to_a_node_that_dies_goes_on_here_if_discord_cannot_have_got_it() {
    let mock = unlimited();
    let goes_on = |answer: &Answer, what: &str| {
        assert!(
            matches!(answer.status, 200 | 204),
            "{what}: {}",
            answer.text()
        );
        assert_eq!(answer.header("generated-by-proxy"), None, "{what}");
    };
    let is_lost = |answer: &Answer, what: &str| {
        assert_eq!(answer.status, 429, "{what}");
        assert_eq!(answer.header("generated-by-proxy"), Some("true"), "{what}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{what}");
    };
    // What the node had said when it died, and whether an unsafe request goes on then.
    for (said, unsafe_goes_on) in [
        ("", false),
        (WAITS, true),
        (&format!("{WAITS}{GOES}"), false),
        (&format!("{WAITS}{GOES}{WAITS}"), true),
        (&format!("{WAITS}HTTP/1.1 200 OK\r\nContent-Le"), true),
    ] {
        // Once with a connection that is pooled, once with a new one.
        for warm in [false, true] {
            for method in ["GET", "POST", "DELETE"] {
                let what = format!("{method} after {said:?}, warm {warm}");
                let last = said.to_owned();
                let (member, _scripted, token) = beside(&mock, move |peer| {
                    if warm && peer.number() == 0 {
                        peer.read_head();
                        peer.send(OK);
                    }
                    peer.read_head();
                    peer.send(&last);
                });
                let mut client = Client::connect(member.addr());
                if warm {
                    assert_eq!(client.ask(&numbered("GET", &token)).status, 200, "{what}");
                }
                let before = mock.oracle().requests;
                let answer = client.ask(&numbered(method, &token));
                let sent = mock.oracle().requests - before;
                if method == "GET" || unsafe_goes_on {
                    goes_on(&answer, &what);
                    assert_eq!(sent, 1, "{what}");
                } else {
                    is_lost(&answer, &what);
                    assert_eq!(sent, 0, "{what}");
                }
                // The client's connection goes on, and whoever comes next is served.
                let next = client.ask(&numbered("GET", "Bot x"));
                assert!(matches!(next.status, 200 | 429), "{what}");
            }
        }
    }
    assert_eq!(mock.oracle().once.repeated_unsafe, 0);
}

#[test]
fn a_node_that_hangs_and_is_let_go_may_send_a_request_yet_so_no_unsafe_one_is_sent_elsewhere() {
    let mock = unlimited();
    for (method, status) in [("GET", 200), ("POST", 429)] {
        let (ends, ended) = mpsc::channel::<()>();
        let ended = Mutex::new(ended);
        let (member, scripted, token) = beside(&mock, move |peer| {
            peer.read_head();
            peer.send(WAITS);
            // It waits for a limit and hangs: its system keeps the connection.
            let _ = ended.lock().unwrap().recv();
        });
        let mut hung = node_at(scripted.addr);
        hung.addr.set_port(7655);
        let answer = thread::scope(|scope| {
            let request = numbered(method, &token);
            let mut client = Client::connect(member.addr());
            let answer = scope.spawn(move || client.ask(&request));
            until("it has the request", || {
                scripted.seen().iter().any(|seen| seen.contains("\r\n\r\n"))
            });
            thread::sleep(Duration::from_millis(50));
            // Dead, as far as the others know.
            member.know(&[member.node]);
            member.members.set_gone(hung, weir::clock::now());
            // Its worker looks when it next has something to do.
            until("it is let go", || {
                drop(Client::connect(member.addr()));
                answer.is_finished()
            });
            answer.join().unwrap()
        });
        drop(ends);
        assert_eq!(answer.status, status, "{method}: {}", answer.text());
        let sent = mock.oracle().requests;
        assert_eq!(sent, 1, "{method}: only the safe one");
    }
}

#[test]
fn a_node_is_told_when_its_request_waits_and_before_it_goes_and_a_client_is_not() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let plan = Plan {
        secret: None,
        ..plan(&mock)
    };
    let member = together(&plan, 1, |_, _| ()).remove(0);
    let routed = format!("nirn-routed-to: {}\r\n", member.addr());
    let passed = format!("{routed}weir-pass: none\r\n");
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let send = |method: &str, more: &str| {
        let mut client = Client::connect(member.addr());
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bot x\r\nContent-Length: 2\r\n\
             {more}\r\n{{}}"
        ));
        client
    };
    for _ in 0..5 {
        let answer = send("POST", &passed).answer(false);
        assert_eq!(
            (answer.status, answer.interim.len()),
            (200, 0),
            "it did not wait"
        );
    }
    let mut waits = send("POST", &passed);
    until("it waits", || member.now("weir_requests_waiting") == 1);
    let mut others = [send("POST", ""), send("POST", &routed)];
    waits
        .stream
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    let mut said = vec![0; 4096];
    let count = waits.stream.read(&mut said).unwrap();
    assert_eq!(String::from_utf8_lossy(&said[..count]), WAITS, "at once");
    waits
        .stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let answer = waits.answer(false);
    assert_eq!(
        (answer.status, answer.interim.as_slice()),
        (200, &[102][..])
    );
    for other in &mut others {
        let answer = other.answer(false);
        assert_eq!((answer.status, answer.interim.len()), (200, 0));
    }
}

#[test]
fn a_node_that_cannot_be_reached_costs_no_request_whatever_its_method_and_size() {
    let mock = unlimited();
    let closed = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    for (method, size) in [("GET", 0), ("POST", 2), ("PUT", 300_000), ("DELETE", 0)] {
        let member = start(&plan(&mock), 1, |_, _| ()).remove(0);
        let there = know(&member, closed());
        let path = format!("/api/v10/channels/{CHANNEL}/messages?request={size}");
        let before = mock.oracle().requests;
        let answer = member.ask(&ask(method, &path, &there, &"x".repeat(size)));
        assert_eq!(answer.header("generated-by-proxy"), None, "{method}");
        assert_eq!(mock.oracle().requests - before, 1, "{method}");
        assert_eq!(
            member.metric("nirn_proxy_requests_routed_error"),
            1,
            "{method}"
        );
        assert_eq!(member.metric("weir_relay_taken_over_total"), 1, "{method}");
        // The node is passed over from now on: nobody has to find out again.
        member.ask(&ask(method, &path, &there, ""));
        assert_eq!(
            member.metric("nirn_proxy_requests_routed_error"),
            1,
            "{method}"
        );
    }
}

#[test]
fn the_first_request_that_is_taken_over_from_a_dead_node_is_served_with_care() {
    let mock = unlimited();
    // No control thread of weir's is there to be careful with what the dead node had.
    let member = start(&plan(&mock), 1, |_, _| ()).remove(0);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = know(&member, closed.local_addr().unwrap());
    drop(closed);
    let began = Instant::now();
    assert_eq!(member.ask(&numbered("GET", &there)).status, 200);
    // As long as it is waited for a node that lives to tell what it knows.
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[test]
fn a_request_goes_from_a_dead_node_to_the_next_owner_and_not_just_anywhere() {
    let mock = unlimited();
    let mut members = together(&plan(&mock), 3, |_, _| ());
    let all = nodes(&members);
    let dead = members.remove(2);
    // Of the dead one's, one that falls to the second when it is gone.
    let there = (0..)
        .map(|number| token(&all, &dead.node, Some(SECRET), number))
        .find(|there| owner(&all[..2], there) == all[1])
        .unwrap();
    drop(dead);
    for method in ["GET", "POST"] {
        assert_eq!(
            members[0].ask(&numbered(method, &there)).status,
            200,
            "{method}"
        );
    }
    assert_eq!((members[0].answered(), members[1].answered()), (0, 2));
    assert_eq!(members[0].metric("weir_relay_taken_over_total"), 1);
}

#[test]
fn a_request_that_comes_to_a_node_that_is_no_longer_the_owner_goes_on_to_who_is() {
    let mock = unlimited();
    let members = together(&plan(&mock), 3, |_, _| ());
    let all = nodes(&members);
    let there = (0..)
        .map(|number| token(&all, &all[2], Some(SECRET), number))
        .find(|there| owner(&all[..2], there) == all[1])
        .unwrap();
    // The first has not heard of the third yet.
    members[0].know(&all[..2]);
    for (method, size) in [("GET", 0), ("POST", 2), ("POST", 200_000)] {
        let request = match method {
            "GET" => numbered(method, &there),
            _ => ask(
                method,
                "/api/v10/channels/203/messages",
                &there,
                &"x".repeat(size),
            ),
        };
        assert_eq!(members[0].ask(&request).status, 200, "{method} {size}");
    }
    let answered: Vec<u64> = members.iter().map(Member::answered).collect();
    assert_eq!(answered, [0, 0, 3]);
    assert_eq!(members[1].metric("nirn_proxy_requests_routed_received"), 3);
    assert_eq!(members[1].metric("nirn_proxy_requests_routed_sent"), 3);

    // With a head that has no room for more lines it stays.
    let lines = "x: y\r\n".repeat(94);
    let long = numbered("GET", &there).replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1);
    assert_eq!(members[0].ask(&long).status, 200);
    assert_eq!(members[1].answered(), 1);
}

/// Who of these owns the token.
fn owner(nodes: &[Node], there: &str) -> Node {
    *nodes
        .iter()
        .find(|node| support::cluster::owns(nodes, node, Some(SECRET), there))
        .unwrap()
}

#[test]
fn requests_that_wait_at_a_node_that_ends_go_on_at_another() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let mut members = together(&plan(&mock), 2, |_, _| ());
    let there = owned_by(&members, 1);
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    for _ in 0..5 {
        assert_eq!(
            members[0].ask(&ask("POST", &path, &there, "{}")).status,
            200
        );
    }
    let mut waiting: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = Client::connect(members[0].addr());
            client.send(ask("POST", &path, &there, "{}"));
            client
        })
        .collect();
    until("three wait", || {
        members[1].now("weir_requests_waiting") == 3
    });
    let ends = members.remove(1);
    ends.weir.shutdown(Duration::from_millis(200));
    for client in &mut waiting {
        let answer = client.answer(false);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let report = mock.oracle();
    assert_eq!(report.once.repeated_unsafe, 0, "{report:?}");
    assert_eq!(members[0].metric("weir_relay_taken_over_total"), 3);
}

#[test]
fn a_body_too_large_to_be_kept_is_lost_with_its_node() {
    let mock = unlimited();
    let (member, _scripted, there) = beside(&mock, |peer| {
        peer.read_head();
        peer.send(WAITS);
        thread::sleep(Duration::from_millis(100));
    });
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let answer = member.ask(&ask("POST", &path, &there, &"x".repeat(200_000)));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(mock.oracle().requests, 0);
}

#[test]
fn other_nodes_are_let_in_whatever_holds_for_clients() {
    let mock = unlimited();
    let members = together(&plan(&mock), 2, |index, config| {
        if index == 1 {
            config.allow_from = "10.0.0.0/8".parse().unwrap();
            config.max_connections_per_client = Some(1);
        }
        // So that relays come from the address that the other knows.
        config.workers = Some(1);
    });
    let there = owned_by(&members, 1);
    thread::scope(|scope| {
        for _ in 0..8 {
            let (addr, there) = (members[0].addr(), &there);
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(
                        Client::connect(addr).ask(&numbered("GET", there)).status,
                        200
                    );
                }
            });
        }
    });
    assert_eq!(members[0].metric("nirn_proxy_requests_routed_sent"), 40);
    assert_eq!((members[0].answered(), mock.oracle().requests), (0, 40));
}

#[test]
fn a_request_is_called_the_same_at_both_nodes_and_nothing_at_discord() {
    let limited = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVia: 1.1 google\r\nX-RateLimit-Bucket: b\r\n\
                   X-RateLimit-Limit: 1\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 9.0\r\n\r\nok";
    let recorder = Recorder::start(move |peer: &mut Peer| {
        while peer.read_head() {
            peer.send(limited);
        }
    });
    let members = together(&before(&recorder), 2, |index, config| {
        config.max_wait = Some(Duration::from_millis(50));
        if index == 0 {
            // It gives names, and nothing of this is an error to it.
            config.access_log = "0.000001".parse().unwrap();
        }
    });
    let token = owned_by(&members, 1);
    let mut client = Client::connect(members[0].addr());
    let asked = format!(
        "GET /api/v10/channels/{CHANNEL}/messages HTTP/1.1\r\nHost: weir\r\nAuthorization: {token}\r\n"
    );
    assert_eq!(client.ask(&format!("{asked}\r\n")).status, 200);
    let refused = client.ask(&format!("{asked}\r\n"));
    assert_eq!(refused.status, 429);
    assert!(
        refused.header("x-request-id").is_some(),
        "the owner, which gives no names, says the other's: {refused:?}"
    );
    let named = client.ask(&format!("{asked}x-request-id: mine\r\n\r\n"));
    assert_eq!(named.header("x-request-id"), Some("mine"));
    let there = Client::connect(members[1].addr())
        .ask(&format!("{asked}weir-request-id: stranger\r\n\r\n"));
    assert_eq!((there.status, there.header("x-request-id")), (429, None));
    let sent = recorder.seen().join("").to_lowercase();
    assert!(
        sent.contains("/messages") && !sent.contains("request-id"),
        "{sent}"
    );
}
