//! What is accepted, what is refused, and what a client that leaves costs.

use std::io::Write;
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::settings::GatewaySettings;

use super::support::http::Client;
use super::support::queue::{FREE, Stage, ask, assert_free, request};
use super::support::tls::Authority;
use super::support::{TOKEN, pem_file};

const SPACING: Duration = Duration::from_secs(5);
/// The same as a client sees it, whose clock begins when it has read the answer before: on a busy
/// machine that is a while after it left.
const SPACING_SEEN: Duration = Duration::from_millis(4_850);

#[test]
fn every_method_path_header_and_body_is_accepted() {
    let stage = Stage::start(1_000);
    let long = "x".repeat(100_000);
    let requests = [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        request("/?shard=1"),
        format!(
            "POST /a/b/c?shard=2 HTTP/1.1\r\nAuthorization: {TOKEN}\r\nContent-Length: 100000\r\n\r\n{long}"
        ),
        format!(
            "PUT /?shard=3 HTTP/1.1\r\nAuthorization: {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
        format!(
            "TRACE http://a/?shard=4 HTTP/1.1\r\nAuthorization: {TOKEN}\r\nHost: a\r\nHost: b\r\n\r\n"
        ),
        format!("brew *?shard=5 HTTP/1.1\r\nAuthorization: {TOKEN}\r\nExpect: tea\r\n\r\n"),
        format!("GET /?shard=6 HTTP/1.0\r\nAuthorization: {TOKEN}\r\n\r\n"),
    ];
    for request in requests {
        let mut client = Client::connect(stage.queue());
        let answer = client.ask(&request);
        assert_free(&answer);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("generated-by-proxy"), Some("true"));
    }
    let mut client = Client::connect(stage.queue());
    let head = format!("HEAD /?shard=7 HTTP/1.1\r\nAuthorization: {TOKEN}\r\n\r\n");
    assert_eq!(client.ask(&head).status, 200);
    // It waits for its body to be wanted.
    client.send(format!(
        "POST /?shard=8 HTTP/1.1\r\nAuthorization: {TOKEN}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    ));
    thread::sleep(Duration::from_millis(50));
    client.send("abc");
    let answer = client.answer(false);
    assert_eq!(
        (answer.interim.as_slice(), answer.status),
        (&[100][..], 200)
    );
}

#[test]
fn a_connection_is_kept_for_the_next_shard_and_closed_where_its_client_wants_that() {
    let stage = Stage::start(16);
    let mut client = Client::connect(stage.queue());
    for shard in 0..3 {
        assert_free(&client.ask(&request(&format!("/?shard={shard}"))));
    }
    // Two sent at once are answered one after the other.
    client.send(request("/?shard=3") + &request("/?shard=4"));
    assert_free(&client.answer(false));
    assert_free(&client.answer(false));
    let close =
        format!("GET /?shard=5 HTTP/1.1\r\nAuthorization: {TOKEN}\r\nConnection: close\r\n\r\n");
    let answer = client.ask(&close);
    assert_free(&answer);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
    let mut old = Client::connect(stage.queue());
    assert_free(&old.ask("GET /?shard=6 HTTP/1.0\r\n\r\n"));
    assert!(old.is_closed());
}

#[test]
fn what_is_no_request_is_refused_and_what_does_not_come_is_cut_off() {
    let stage = Stage::with(GatewaySettings::default(), |config| {
        config.client_header_timeout = Duration::from_millis(300);
    });
    for (sent, status) in [
        ("GET /\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: x\n\n".to_owned(), 400),
        (
            format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(70_000)),
            431,
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n{}",
                "a".repeat(1_200_000)
            ),
            413,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".to_owned(),
            400,
        ),
        // The rest never comes.
        ("GET / HTTP/1.1\r\nHost:".to_owned(), 408),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab".to_owned(),
            408,
        ),
    ] {
        let mut client = Client::connect(stage.queue());
        // weir may have answered before all of it was sent.
        let _ = client.stream.write_all(sent.as_bytes());
        let answer = client.answer(false);
        assert_eq!(answer.status, status, "{sent:.60}");
        assert!(client.is_closed());
    }
    // Silence is cut off without a word.
    let mut silent = Client::connect(stage.queue());
    assert!(silent.is_closed());
    assert_eq!(
        stage
            .metrics()
            .matches("weir_identify_granted_total 0")
            .count(),
        1
    );
}

#[test]
fn a_client_that_leaves_while_it_waits_costs_its_key_no_slot() {
    let stage = Stage::start(1);
    assert_free(&stage.ask("/?shard=0").answer(false));
    let went = Instant::now();
    let leaving: Vec<_> = (1..4).map(|n| stage.ask(&format!("/?shard={n}"))).collect();
    stage.wait_for_waiting(3);
    let mut last = stage.ask("/?shard=4");
    stage.wait_for_waiting(4);
    thread::sleep(Duration::from_millis(150));
    for (n, client) in leaving.into_iter().enumerate() {
        match n {
            // It has sent its next request already.
            0 => {
                let mut client = client;
                client.send(request("/?shard=9"));
                // Soon behind it, its end could be that of its half.
                thread::sleep(Duration::from_millis(600));
                drop(client);
            }
            1 => client.stream.shutdown(Shutdown::Both).unwrap(),
            _ => drop(client),
        }
    }
    stage.wait_for_waiting(1);
    assert_free(&last.answer(false));
    let waited = went.elapsed();
    assert!(waited >= SPACING_SEEN, "{waited:?}: none is released early");
    assert!(waited < SPACING + Duration::from_secs(2), "{waited:?}");
}

/// Asks as a process of its own, which its parent kills.
#[test]
fn a_process_that_is_killed_while_it_waits_costs_its_key_no_slot() {
    if let Ok(queue) = std::env::var("WEIR_TEST_QUEUE_TO_BE_KILLED_AT") {
        ask(queue.parse().unwrap(), "/?shard=1").answer(false);
        return;
    }
    let stage = Stage::start(1);
    assert_free(&stage.ask("/?shard=0").answer(false));
    let went = Instant::now();
    let mut children: Vec<_> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "door::a_process_that_is_killed_while_it_waits_costs_its_key_no_slot",
                ])
                .env("WEIR_TEST_QUEUE_TO_BE_KILLED_AT", stage.queue().to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    stage.wait_for_waiting(3);
    let mut last = stage.ask("/?shard=2");
    stage.wait_for_waiting(4);
    thread::sleep(Duration::from_millis(150));
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_free(&last.answer(false));
    let waited = went.elapsed();
    assert!(
        (SPACING_SEEN..SPACING + Duration::from_secs(2)).contains(&waited),
        "{waited:?}"
    );
}

#[test]
fn a_client_that_only_ends_its_half_is_answered() {
    let stage = Stage::start(1);
    // The second waits, if only for one of another process.
    for shard in 0..2 {
        let mut client = stage.ask(&format!("/?shard={shard}"));
        client.finish();
        assert_free(&client.answer(false));
    }
}

#[test]
fn a_wait_that_is_too_long_is_refused_at_once_with_how_long_it_is() {
    let stage = Stage::start(1);
    assert_free(&stage.ask("/?shard=0").answer(false));
    let _waits = stage.ask("/?shard=1");
    stage.wait_for_waiting(1);
    let answer = stage.ask("/?shard=2&max_wait=6").answer(false);
    assert_eq!(answer.status, 429, "{}", answer.text());
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((8..=11).contains(&after), "{after}");
    assert!(answer.header("via").is_some());
    assert!(answer.text().contains("retry_after"), "{}", answer.text());
    let started = Instant::now();
    let answer = stage.ask("/?shard=2&max_wait=11").answer(false);
    assert_free(&answer);
    assert!(started.elapsed() > Duration::from_secs(5));
}

#[test]
fn each_bound_has_its_answer() {
    let stage = Stage::with(GatewaySettings::default(), |config| {
        config.gateway_queue_max_waiting = 4;
        config.gateway_queue_max_waiting_per_bot = 3;
        config.gateway_queue_max_bots = 2;
    });
    assert_free(&stage.ask("/?shard=0").answer(false));
    let _waiting: Vec<_> = (0..3).map(|n| stage.ask(&format!("/?shard={n}"))).collect();
    stage.wait_for_waiting(3);
    let answer = stage.ask("/?shard=4").answer(false);
    let text = answer.text();
    assert_eq!(answer.status, 429, "{text}");
    assert!(text.contains("GATEWAY_QUEUE_MAX_WAITING_PER_BOT"), "{text}");
    assert!(answer.header("retry-after").is_some());
    let of = |who: &str| {
        let mut client = Client::connect(stage.queue());
        client.send(format!("GET / HTTP/1.1\r\n{who}\r\n\r\n"));
        client
    };
    assert_free(&of("A: b").answer(false));
    let answer = of("Authorization: Bot another").answer(false);
    let text = answer.text();
    assert_eq!(answer.status, 503, "{text}");
    assert!(text.contains("GATEWAY_QUEUE_MAX_BOTS"), "{text}");
    assert!(answer.header("retry-after").is_some());
    let _waits = of("A: b");
    stage.wait_for_waiting(4);
    let answer = of("A: b").answer(false);
    let text = answer.text();
    assert_eq!(answer.status, 503, "{text}");
    assert!(text.contains("(GATEWAY_QUEUE_MAX_WAITING)"), "{text}");
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn who_may_connect_and_how_often_holds_here_too() {
    let stage = Stage::with(GatewaySettings::default(), |config| {
        config.allow_from = "10.0.0.0/8".parse().unwrap();
    });
    let mut stranger = Client::connect(stage.queue());
    let _ = stranger.stream.write_all(request("/").as_bytes());
    assert!(stranger.try_answer(false).is_none());
    let stage = Stage::with(GatewaySettings::default(), |config| {
        config.max_connections_per_client = Some(2);
    });
    assert_free(&stage.ask("/?shard=0").answer(false));
    let waiting: Vec<_> = (1..3).map(|n| stage.ask(&format!("/?shard={n}"))).collect();
    stage.wait_for_waiting(2);
    let answer = stage.ask("/?shard=3").answer(false);
    assert_eq!(answer.status, 503, "{}", answer.text());
    drop(waiting);
}

#[test]
fn with_a_certificate_shards_ask_under_tls() {
    let authority = Authority::new();
    let identity = authority.server();
    let stage = Stage::with(GatewaySettings::default(), |config| {
        config.tls_cert_file = Some(pem_file(&identity.cert));
        config.tls_key_file = Some(pem_file(&identity.key));
    });
    let believer = std::sync::Arc::new(authority.believer(rustls::ALL_VERSIONS, None));
    let mut client = Client::secure(stage.queue(), &believer);
    for shard in 0..2 {
        let answer = client.ask(&request(&format!("/?shard={shard}")));
        assert_eq!((answer.status, answer.text().as_str()), (200, FREE));
    }
}

#[test]
fn who_waits_when_weir_ends_is_told_so() {
    let stage = Stage::start(1);
    assert_free(&stage.ask("/?shard=0").answer(false));
    let mut waiting = stage.ask("/?shard=1");
    let mut later = stage.ask("/?shard=2");
    stage.wait_for_waiting(2);
    let Stage { mock, weir } = stage;
    let ended = thread::spawn(move || weir.shutdown(Duration::from_secs(7)));
    // Whose turn comes before the end is served.
    assert_free(&waiting.answer(false));
    let answer = later.answer(false);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!ended.join().unwrap());
    drop(mock);
}
