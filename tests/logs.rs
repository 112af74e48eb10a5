//! What weir says of requests, and of what its guards do: names, one line for each event, and nothing
//! else.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, pipe};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};
use support::http::Client;
use support::program::{Program, command};
use support::upstream::{Peer, Recorder};
use support::{TOKEN, request};

/// Whose [`TOKEN`] it is.
const BOT: &str = "203039963636301824";

/// A bot whose token Discord refuses: the base64 of 392827169497284619.
const REFUSED: &str = "Bot MzkyODI3MTY5NDk3Mjg0NjE5.GGGGGG.refusedefghijklmnopqrstuvwxyz0123456789";

/// Answers as the target asks for it, after its `?`.
fn upstream() -> Recorder {
    upstream_that_tells().0
}

/// The same, and everything that it was sent.
fn upstream_that_tells() -> (Recorder, Arc<Mutex<String>>) {
    let heard = Arc::new(Mutex::new(String::new()));
    let told = heard.clone();
    let recorder = Recorder::start(move |peer: &mut Peer| {
        while let Ok(asked) = peer.read_request() {
            let asked = String::from_utf8_lossy(&asked).into_owned();
            told.lock().expect("nobody panics with it").push_str(&asked);
            let target = asked.split(' ').nth(1).unwrap_or_default();
            let what = target.split_once('?').map_or("", |(_, what)| what);
            let (status, head, body) = match what {
                _ if asked.contains("refused") => ("401 Unauthorized", "", "{\"code\": 0}"),
                "gone" => ("404 Not Found", "", "{\"code\": 10015}"),
                "missing" => ("404 Not Found", "", "{\"code\": 10008}"),
                "cloudflare" => {
                    peer.send(
                        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
                    );
                    continue;
                }
                "close" => return,
                "slow" => {
                    thread::sleep(Duration::from_millis(200));
                    ("200 OK", "", "{}")
                }
                "one-a-second" => (
                    "200 OK",
                    "X-RateLimit-Bucket: b\r\nX-RateLimit-Limit: 1\r\nX-RateLimit-Remaining: 0\r\n\
                     X-RateLimit-Reset-After: 1.000\r\n",
                    "{}",
                ),
                _ => ("200 OK", "", "{}"),
            };
            let length = body.len();
            peer.send(&format!(
                "HTTP/1.1 {status}\r\nVia: 1.1 google\r\n{head}Content-Length: {length}\r\n\r\n{body}"
            ));
        }
    });
    (recorder, heard)
}

fn mock() -> MockHandle {
    mock::start(MockConfig {
        tls: Tls::Plain,
        ..MockConfig::default()
    })
    .expect("the mock starts")
}

fn start(upstream: &Recorder, settings: &[(&str, &str)]) -> Program {
    let (mock, url) = (mock(), upstream.url());
    let mut all = vec![("UPSTREAM_URL", url.as_str()), ("WORKERS", "2")];
    all.extend_from_slice(settings);
    Program::start(&mock, &all)
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: weir\r\n{lines}\r\n")
}

fn as_bot(lines: &str) -> String {
    format!("Authorization: {TOKEN}\r\n{lines}")
}

/// A line of JSON.
fn read(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Everything that was said, to the end.
fn all_said(mut weir: Program) -> Vec<String> {
    weir.signal("TERM");
    weir.wait(Duration::from_secs(20));
    // What was written last is on its way through the pipe.
    thread::sleep(Duration::from_millis(100));
    weir.log_lines()
}

/// The lines of the access log.
fn accesses(lines: &[String]) -> Vec<serde_json::Value> {
    let lines = lines.iter().map(|line| read(line));
    lines.filter(|line| line["message"] == "access").collect()
}

/// Lines that are worth a look, by their messages' first words.
fn events(lines: &[String]) -> BTreeMap<String, Vec<serde_json::Value>> {
    let mut events: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for line in lines.iter().map(|line| read(line)) {
        let message = line["message"].as_str().unwrap_or_default();
        let words: Vec<_> = message.split(' ').take(4).collect();
        events
            .entry(words.join(" "))
            .or_default()
            .push(line.clone());
    }
    events
}

#[test]
fn each_request_has_a_line_with_its_name_and_who_answered_it() {
    let (upstream, heard) = upstream_that_tells();
    let weir = start(&upstream, &[("ACCESS_LOG", "all"), ("MAX_WAIT", "100")]);
    let mut client = Client::connect(weir.proxy);
    let from = client.stream.local_addr().unwrap().to_string();
    let mut ask = |path: &str, lines: &str| client.ask(&get(path, &as_bot(lines)));
    let message = "/api/v10/channels/203039963636301824/messages/1";
    assert_eq!(
        ask(&format!("{message}?missing"), "X-Request-Id: mine-1\r\n").status,
        404
    );
    let limited = "/api/v10/channels/203039963636301824/messages?one-a-second";
    assert_eq!(ask(limited, "").status, 200);
    // Of weir's own making: they say what they were called.
    let refused = ask(limited, "x-request-ID: mine-2\r\n");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-request-id"), Some("mine-2"));
    let unnamed = ask(limited, "");
    let odd = ask(limited, &format!("X-Request-Id: {}\r\n", "x".repeat(129)));
    let health = ask("/nirn/healthz", "X-Request-Id: h\r\n");
    assert_eq!(health.header("x-request-id"), Some("h"));
    let lines = accesses(&all_said(weir));
    assert_eq!(lines.len(), 5, "{lines:#?}");
    let by_status = |status: u64| lines.iter().filter(move |line| line["status"] == status);

    let missing = by_status(404).next().unwrap();
    for (field, expected) in [
        ("id", "mine-1"),
        ("bot", BOT),
        ("by", "discord"),
        ("method", "GET"),
        ("route", "/channels/!/messages/!"),
        ("from", &from),
        ("level", "INFO"),
    ] {
        assert_eq!(missing[field], expected, "{missing}");
    }
    assert!(missing["upstream_ms"].as_f64().unwrap() > 0.0);
    assert!(missing["total_ms"].as_f64() >= missing["upstream_ms"].as_f64());
    assert!(missing["bytes"].as_u64().unwrap() > 40, "{missing}");
    assert_eq!(missing["why"], serde_json::Value::Null);
    assert_eq!(
        (&missing["retries"], &missing["relayed"]),
        (&0.into(), &false.into())
    );

    let refused: Vec<_> = by_status(429).collect();
    assert!(
        refused
            .iter()
            .all(|line| line["by"] == "weir" && line["why"] == "wait_too_long")
    );
    let ids: Vec<_> = refused
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    let own = [&unnamed, &odd].map(|answer| answer.header("x-request-id").unwrap());
    assert!(
        ids.contains(&"mine-2") && own.iter().all(|id| ids.contains(id)),
        "{ids:?} {own:?}"
    );
    assert!(
        own[0] != own[1] && own.iter().all(|id| id.len() < 40),
        "{own:?}"
    );

    // Discord is sent what its clients sent, and nothing of ours.
    let sent = heard.lock().unwrap().clone();
    assert!(sent.contains("X-Request-Id: mine-1\r\n"));
    assert_eq!(
        sent.to_lowercase().matches("request-id").count(),
        1,
        "{sent}"
    );
}

#[test]
fn errors_alone_are_written_where_that_is_asked_for_and_nothing_by_default() {
    let upstream = upstream();
    for (setting, expected) in [("errors", 2), ("off", 0)] {
        let weir = start(&upstream, &[("ACCESS_LOG", setting)]);
        let mut client = Client::connect(weir.proxy);
        for what in ["ok", "missing", "ok"] {
            client.ask(&get(&format!("/api/v10/users/@me?{what}"), &as_bot("")));
        }
        // weir retries it once, on a fresh connection.
        let broken = client.ask(&request("POST", "/api/v10/users/@me/channels?close", "{}"));
        assert_eq!(broken.status, 502);
        assert_eq!(broken.header("x-request-id").is_some(), expected > 0);
        let lines = accesses(&all_said(weir));
        assert_eq!(lines.len(), expected, "{lines:#?}");
        if let [.., broken] = &lines[..] {
            assert_eq!(broken["why"], "closed_before_answer");
        }
    }
}

#[test]
fn what_waited_was_resent_or_left_says_so() {
    let upstream = Recorder::start(|peer: &mut Peer| {
        let mut first = true;
        while peer.read_request().is_ok() {
            // Every connection ends under its second request.
            if !first {
                return;
            }
            first = false;
            peer.send(
                "HTTP/1.1 200 OK\r\nVia: 1.1 google\r\nX-RateLimit-Bucket: b\r\n\
                       X-RateLimit-Limit: 1\r\nX-RateLimit-Remaining: 0\r\n\
                       X-RateLimit-Reset-After: 0.300\r\nContent-Length: 2\r\n\r\n{}",
            );
        }
    });
    let weir = start(&upstream, &[("ACCESS_LOG", "all"), ("WORKERS", "1")]);
    let mut client = Client::connect(weir.proxy);
    let path = "/api/v10/channels/203039963636301824/messages";
    for id in ["first", "waits"] {
        let answer = client.ask(&get(path, &as_bot(&format!("X-Request-Id: {id}\r\n"))));
        assert_eq!(answer.status, 200, "{id}");
    }
    // On a connection of which nothing was told yet.
    let mut client = Client::connect(weir.proxy);
    client.send(get(path, &as_bot("X-Request-Id: leaves\r\n")));
    thread::sleep(Duration::from_millis(150));
    // By a reset, after which nobody knows where it was from.
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(client);
    thread::sleep(Duration::from_millis(100));
    let lines = accesses(&all_said(weir));
    let line = |id: &str| lines.iter().find(|line| line["id"] == id).unwrap();
    assert!(line("first")["wait_ms"].as_f64().unwrap() < 100.0);
    let waits = line("waits");
    let waited = waits["wait_ms"].as_f64().unwrap();
    assert!((200.0..2_000.0).contains(&waited), "{waits}");
    assert_eq!(
        waits["retries"], 1,
        "its pooled connection had ended: {waits}"
    );
    let left = line("leaves");
    assert_eq!(
        (&left["by"], &left["why"]),
        (&"nobody".into(), &"client_gone".into())
    );
    assert_eq!(left["status"], serde_json::Value::Null);
    assert!(left["from"].is_string(), "it was asked for in time: {left}");
}

#[test]
fn a_request_has_one_line_at_debug_and_its_steps_at_trace() {
    let upstream = upstream();
    for (level, most) in [("debug", 1), ("trace", 50)] {
        let weir = start(&upstream, &[("LOG_LEVEL", level)]);
        let mut client = Client::connect(weir.proxy);
        let asked = get("/api/v10/users/@me", &as_bot("X-Request-Id: mine\r\n"));
        assert_eq!(client.ask(&asked).status, 200);
        drop(client);
        let said = all_said(weir);
        let lines: Vec<_> = said.iter().map(|line| read(line)).collect();
        let of_it: Vec<_> = lines.iter().filter(|line| line["id"] == "mine").collect();
        assert!((1..=most).contains(&of_it.len()), "{level}: {of_it:#?}");
        let line = of_it
            .iter()
            .find(|line| line["message"] == "request")
            .unwrap();
        assert_eq!(
            (&line["status"], &line["by"]),
            (&200.into(), &"discord".into())
        );
        assert_eq!(
            (&line["bot"], &line["route"]),
            (&BOT.into(), &"/users/@me".into())
        );
        assert_eq!(of_it.len() > 2, level == "trace", "{of_it:#?}");
    }
}

#[test]
fn each_event_of_a_guard_is_one_line_that_says_whose_it_is_and_what_to_do() {
    let upstream = upstream();
    let weir = start(&upstream, &[("MAX_WAITING_PER_BUCKET", "3")]);
    let each = |count: usize, asked: &str| {
        thread::scope(|scope| {
            let asked: Vec<_> = (0..count)
                .map(|_| scope.spawn(|| Client::connect(weir.proxy).ask(asked).status))
                .collect();
            let answers = asked
                .into_iter()
                .map(|asked| asked.join().expect("an answer"));
            answers.collect::<Vec<_>>()
        })
    };
    let refused = get(
        "/api/v10/users/@me",
        &format!("Authorization: {REFUSED}\r\n"),
    );
    each(4, &refused);
    until("it is locked", || {
        let answer = Client::connect(weir.proxy).ask(&refused);
        answer.header("generated-by-proxy").is_some()
    });
    each(4, &refused);
    let webhook = format!("/api/v10/webhooks/{BOT}/{}?gone", "w".repeat(68));
    // No more than may wait behind one.
    each(4, &request("POST", &webhook, "{}"));
    // Three wait, and those behind them are refused; two workers, one line.
    let full = get(
        "/api/v10/channels/203039963636301824/messages?slow",
        &as_bot(""),
    );
    let answers = each(12, &full);
    assert!(
        answers.iter().filter(|&&status| status == 429).count() > 2,
        "{answers:?}"
    );
    each(
        6,
        &get("/api/v10/guilds/203039963636301824?cloudflare", &as_bot("")),
    );
    until("the block has ended", || {
        let asked = get("/api/v10/guilds/203039963636301825", &as_bot(""));
        Client::connect(weir.proxy).ask(&asked).status == 200
    });
    let events = events(&all_said(weir));
    let one = |words: &str| {
        let lines = events
            .get(words)
            .unwrap_or_else(|| panic!("{words}: {events:#?}"));
        assert_eq!(lines.len(), 1, "{words}: {lines:#?}");
        lines[0].clone()
    };
    let locked = one("Discord refuses this bot's");
    assert_eq!(
        (&locked["bot"], &locked["level"]),
        (&"392827169497284619".into(), &"WARN".into())
    );
    assert_eq!(locked["confirmed"], true);
    assert!(locked["until"].as_str().unwrap().ends_with('Z'));
    assert!(
        locked["message"]
            .as_str()
            .unwrap()
            .contains("give the bot a token that works")
    );
    let dead = one("this webhook is gone");
    assert_eq!(dead["webhook"], BOT);
    let full = one("requests are refused with");
    assert_eq!(
        (&full["bot"], &full["route"]),
        (&BOT.into(), &"/channels/!/messages".into())
    );
    assert!(
        full["message"]
            .as_str()
            .unwrap()
            .contains("MAX_WAITING_PER_BUCKET")
    );
    let blocked = one("Cloudflare blocks this egress");
    assert_eq!(
        (&blocked["again"], &blocked["level"]),
        (&false.into(), &"ERROR".into())
    );
    one("Cloudflare's block of this");
}

#[test]
fn an_upstream_out_of_reach_is_told_of_once_for_all_workers_and_that_it_is_back() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let url = format!("http://{addr}");
    let weir = Program::start(&mock(), &[("UPSTREAM_URL", url.as_str()), ("WORKERS", "2")]);
    let asked = get("/api/v10/users/@me", &as_bot(""));
    for _ in 0..12 {
        assert_eq!(Client::connect(weir.proxy).ask(&asked).status, 502);
    }
    let back = TcpListener::bind(addr).unwrap();
    thread::spawn(move || {
        for stream in back.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if stream.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nVia: 1.1 google\r\nContent-Length: 0\r\n\r\n";
            let _ = std::io::Write::write_all(stream.get_mut(), answer);
        }
    });
    until("it is back", || {
        Client::connect(weir.proxy).ask(&asked).status == 200
    });
    let events = events(&all_said(weir));
    let out = &events["the upstream cannot be"];
    assert_eq!(out.len(), 1, "{out:#?}");
    assert!(
        out[0]["message"].as_str().unwrap().contains("firewall"),
        "{out:#?}"
    );
    assert_eq!(events["the upstream can be"].len(), 1);
}

#[test]
fn the_journal_gets_a_priority_in_front_of_each_line_and_no_time() {
    for (format, own) in [("text", "INFO weir serves"), ("json", "{\"timestamp\"")] {
        let (read, write) = pipe().expect("a pipe");
        let write: OwnedFd = write.into();
        let file = File::from(write.try_clone().unwrap());
        let journal = file
            .metadata()
            .map(|m| format!("{}:{}", m.dev(), m.ino()))
            .unwrap();
        drop(file);
        let mut weir = command(&[
            ("LOG_FORMAT", format),
            ("ACCESS_LOG", "all"),
            ("UPSTREAM_URL", "http://127.0.0.1:9"),
            ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "true"),
            ("JOURNAL_STREAM", &journal),
        ]);
        weir.stderr(Stdio::from(write.try_clone().unwrap()));
        weir.stdout(Stdio::from(write));
        let mut child = weir.spawn().expect("weir starts");
        drop(weir);
        let mut lines = BufReader::new(read).lines().map_while(Result::ok);
        let serves = lines.find(|line| line.contains("weir serves")).unwrap();
        assert!(
            serves.starts_with("<6>") && serves[3..].trim_start().starts_with(own),
            "{serves}"
        );
        let proxy = serves.split("proxy").nth(1).unwrap();
        let proxy: String = proxy
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':'))
            .collect();
        let asked = get("/api/v10/users/@me", &as_bot(""));
        Client::connect(proxy.parse().unwrap()).ask(&asked);
        // A warning of the log and a line of the access log, whichever is first.
        let (mut warning, mut access) = (None, None);
        while warning.is_none() || access.is_none() {
            let line = lines.next().expect("both are said");
            if line.contains("WARN") {
                warning = Some(line);
            } else if line.contains("access") {
                access = Some(line);
            }
        }
        let (warning, access) = (warning.unwrap(), access.unwrap());
        assert!(warning.starts_with("<4>"), "{warning}");
        assert!(
            access.starts_with("<6>") && access.contains("502"),
            "{access}"
        );
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn a_log_that_cannot_be_written_is_not_taken_for_a_slow_reader() {
    let (read, gone) = pipe().expect("a pipe");
    drop(read);
    let full = File::options().write(true).open("/dev/full").unwrap();
    for (to, why) in [
        (OwnedFd::from(gone), "whoever read stdout is gone"),
        (OwnedFd::from(full), "stdout cannot be written: No space"),
    ] {
        let upstream = upstream();
        let url = upstream.url();
        let settings = [("UPSTREAM_URL", url.as_str()), ("ACCESS_LOG", "all")];
        let weir = Program::start_with(&mock(), &settings, |command| {
            command.stdout(Stdio::from(to));
        });
        let ask = || Client::connect(weir.proxy).ask(&get("/api/v10/users/@me", &as_bot("")));
        assert_eq!(ask().status, 200);
        let mut said = Vec::new();
        until(why, || {
            said.extend(weir.log_lines());
            said.iter()
                .any(|line| line.contains("lines of the access log"))
        });
        assert!(said.iter().any(|line| line.contains(why)), "{said:#?}");
        assert_eq!(ask().status, 200, "it serves on");
    }
}

#[test]
fn who_waits_for_a_connection_when_weir_ends_is_told_so() {
    // It accepts, and says nothing: a handshake that takes for ever.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let mut weir = Program::start(
        &mock(),
        &[("UPSTREAM_URL", url.as_str()), ("SHUTDOWN_TIMEOUT", "300")],
    );
    let mut client = Client::connect(weir.proxy);
    client.send(get("/api/v10/users/@me", &as_bot("X-Request-Id: mine\r\n")));
    let (_held, _) = silent.accept().unwrap();
    let began = Instant::now();
    weir.signal("TERM");
    let answer = client.answer(false);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        weir.wait(Duration::from_secs(10)).code(),
        Some(3),
        "one was not served"
    );
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
