//! `docs/migration.md` tried: weir under each other program's variables, as they are written there, and
//! asked as that program's clients ask it.

mod support;

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::http::Client;
use support::program::{Program, command, slow_mock};
use support::queue::FREE;
use support::target::Target;
use support::{TOKEN, request};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migration.md");

/// A row of a table of variables: its name, its default there, what it is here.
struct Row {
    name: String,
    there: String,
    here: String,
}

/// The rows of the table below a heading.
fn rows(heading: &str) -> Vec<Row> {
    let page = fs::read_to_string(PAGE).expect("the page");
    let part = page.split("\n## ").find(|part| part.starts_with(heading));
    let rows: Vec<_> = part
        .unwrap_or_else(|| panic!("{heading} is a heading"))
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.strip_prefix("| `")?.split('|').collect();
            let [name, there, here, _] = cells[..] else {
                return None;
            };
            Some(Row {
                name: name.trim().trim_end_matches('`').to_owned(),
                there: there.trim().to_owned(),
                here: here.trim().to_owned(),
            })
        })
        .collect();
    assert!(rows.len() >= 3, "{heading} has a table");
    rows
}

fn help() -> String {
    let output = command(&[])
        .arg("--help")
        .stderr(Stdio::null())
        .output()
        .expect("weir runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The names in backticks that look like variables.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split('`').skip(1).step_by(2);
    names
        .map(|name| name.split('=').next().unwrap_or(name))
        .filter(|name| {
            name.len() > 2
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        })
}

#[test]
fn every_variable_is_known_here_under_the_name_that_the_page_says() {
    let help = help();
    let knows = |name: &str| help.contains(name);
    for heading in [
        "nirn-proxy",
        "twilight's http",
        "twilight's gateway",
        "dprl",
    ] {
        for row in rows(heading) {
            if row.here.starts_with("the same") || row.here.starts_with("accepted") {
                assert!(knows(&row.name), "{} of {heading}", row.name);
            }
            for name in named(&row.here) {
                assert!(knows(name), "{name}, for {} of {heading}", row.name);
            }
        }
    }
}

#[test]
fn under_nirns_variables_it_serves_and_says_which_have_no_effect() {
    let mock = slow_mock(0.0);
    let set = [
        ("LOG_LEVEL", "info"),
        ("ENABLE_METRICS", "true"),
        ("ENABLE_PPROF", "true"),
        ("BUFFER_SIZE", "50"),
        ("OUTBOUND_IP", "127.0.0.1"),
        ("BIND_IP", "127.0.0.1"),
        ("REQUEST_TIMEOUT", "5000"),
        ("MAX_BEARER_COUNT", "1024"),
        ("DISABLE_HTTP_2", "true"),
        (
            "BOT_RATELIMIT_OVERRIDES",
            "392827169497284619:100,227115752396685313:80",
        ),
        ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "false"),
        ("DISABLE_401_LOCK", "false"),
        ("PORT", "0"),
        ("METRICS_PORT", "0"),
        ("CLUSTER_PORT", "7946"),
        ("CLUSTER_MEMBERS", ""),
        ("CLUSTER_DNS", ""),
    ];
    for row in rows("nirn-proxy") {
        let tried = set.iter().any(|(name, _)| *name == row.name);
        assert!(tried, "{} is not tried", row.name);
    }
    let weir = Program::start(&mock, &set);
    let without_effect: Vec<_> = weir
        .before_serving
        .iter()
        .filter(|line| line.contains("\"WARN\"") && line.contains("no effect"))
        .collect();
    // `PORT` is no part of `CLUSTER_PORT`; behind these words stands why.
    let is_no_name = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    for row in rows("nirn-proxy") {
        let told = without_effect.iter().any(|line| {
            let names = line.split("no effect").next().unwrap_or_default();
            names.split(is_no_name).any(|name| name == row.name)
        });
        assert_eq!(
            told && row.name != "CLUSTER_PORT",
            row.here.contains("no effect"),
            "{}: {without_effect:#?}",
            row.name
        );
    }
    let mut client = Client::connect(weir.proxy);
    let path = "/api/v10/channels/203039963636301824/messages";
    assert_eq!(client.ask(&request("GET", path, TOKEN)).status, 200);
    let health = "GET /nirn/healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(client.ask(health).status, 200);
    let metrics = Client::connect(weir.metrics)
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .text();
    let counted = metrics.lines().find(|line| {
        line.starts_with("nirn_proxy_requests_count{") && line.contains("status=\"200 OK\"")
    });
    assert!(
        counted.is_some_and(|line| line.ends_with(" 1")),
        "{metrics}"
    );
}

#[test]
fn defaults_are_those_that_the_page_calls_the_same() {
    let help = help();
    for row in rows("nirn-proxy") {
        let same = row.here == "the same" || row.here.starts_with("the same,");
        if !same || row.there.is_empty() || row.here.contains("default") {
            continue;
        }
        // What follows the name, up to the next setting.
        let text = help
            .split(&format!("env: {}]", row.name))
            .nth(1)
            .or_else(|| help.split(&row.name).nth(1))
            .expect("it is in the help");
        let about = &text[..text.find("env: ").unwrap_or(text.len())];
        let there = row.there.trim_matches('`');
        let found = about.contains(there) || help.contains(&format!("{} {there}", row.name));
        assert!(found, "{}: {there} in {about:?}", row.name);
    }
}

#[test]
fn shards_that_asked_gateway_queue_ask_here() {
    let mock = slow_mock(0.0);
    let token = TOKEN.trim_start_matches("Bot ");
    let weir = Program::start(
        &mock,
        &[
            ("BIND_IP", "127.0.0.1"),
            ("GATEWAY_QUEUE_PORT", "0"),
            ("DISCORD_TOKEN", token),
        ],
    );
    let mut client = Client::connect(weir.queue.expect("it is served"));
    let answer = client.ask("GET /?shard=0 HTTP/1.1\r\nHost: gateway-queue\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, FREE));
    // The bot of DISCORD_TOKEN, and no other's, was asked for.
    let metrics = Client::connect(weir.metrics)
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .text();
    let bot = "weir_identify_budget_remaining{client=\"203039963636301824\"}";
    assert!(metrics.contains(bot), "{metrics}");
}

#[test]
fn dprls_variables_cap_connections() {
    let mock = slow_mock(0.0);
    let target = Target::echo();
    let weir = Program::start(
        &mock,
        &[
            ("DPRL_PORT", "0"),
            ("DPRL_MAX_CONNECTIONS", "1"),
            ("FORWARD_ALLOW", "*,127.0.0.0/8"),
            ("LOG_LEVEL", "debug"),
        ],
    );
    let forward = weir.forward.expect("it is served");
    let connect = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", target.addr);
    let mut first = Client::connect(forward);
    first.send(&connect);
    let mut status = [0; 12];
    first.stream.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200");
    assert_eq!(Client::connect(forward).ask(&connect).status, 500);
    // The log comes a moment after the answer.
    let until = Instant::now() + Duration::from_secs(10);
    let mut logged = String::new();
    while !logged.contains(&target.addr.to_string()) {
        assert!(Instant::now() < until, "{logged}");
        thread::sleep(Duration::from_millis(10));
        logged += &weir.log_lines().join("\n");
    }
}
