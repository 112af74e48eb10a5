//! What `/gateway/bot` says and does not say: the budget, failures, restarts, several bots.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use loadtest::mock::faults::Fault;
use loadtest::mock::settings::GatewaySettings;
use loadtest::mock::{self, MockConfig};
use serde_json::json;

use super::support::http::Client;
use super::support::program::Program;
use super::support::queue::{Stage, ask, assert_free, request, sum};
use super::support::{TOKEN, config};

fn within(what: Duration, from_ms: u64, to_ms: u64) -> bool {
    (Duration::from_millis(from_ms)..=Duration::from_millis(to_ms)).contains(&what)
}

#[test]
fn the_daily_budget_is_never_exceeded_and_the_reset_is_waited_for() {
    let gateway = GatewaySettings {
        max_concurrency: 16,
        total: 1_000,
        remaining: 3,
        reset_after_ms: 4_000,
        ..GatewaySettings::default()
    };
    let stage = Stage::with(gateway, |_| ());
    let began = Instant::now();
    let mut shards: Vec<_> = (0..5).map(|n| stage.ask(&format!("/?shard={n}"))).collect();
    stage.wait_for_waiting(2);
    // Its client does not wait for the reset, and is told when that is.
    let answer = stage.ask("/?shard=9&max_wait=1").answer(false);
    assert_eq!(answer.status, 429, "{}", answer.text());
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((2..=4).contains(&after), "{after}");
    for shard in &mut shards {
        assert_free(&shard.answer(false));
    }
    let took = began.elapsed();
    assert!(within(took, 3_900, 8_000), "{took:?}");
    // Once at the first sight, once at the reset.
    assert_eq!(stage.mock.arrivals("/gateway/bot").len(), 2);
    // The last is counted a moment after its answer.
    let until = Instant::now() + Duration::from_secs(5);
    while sum(&stage.metrics(), "weir_identify_granted_total") < 5.0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let metrics = stage.metrics();
    assert_eq!(sum(&metrics, "weir_identify_granted_total"), 5.0);
    let left = "weir_identify_budget_remaining{client=\"203039963636301824\"}";
    assert_eq!(sum(&metrics, left), 1.0, "{metrics}");
    assert_eq!(
        sum(
            &metrics,
            "weir_identify_refused_total{reason=\"wait_too_long\"}"
        ),
        1.0
    );
    assert_eq!(sum(&metrics, "weir_identify_wait_seconds_count"), 5.0);
}

#[test]
fn a_gateway_that_cannot_be_asked_blocks_nobody_and_a_warning_says_so() {
    let mock = mock::start(MockConfig::default()).unwrap();
    let fault: Fault = serde_json::from_value(json!({
        "target": "/gateway/bot",
        "action": {"kind": "answer", "status": 500, "body": "{}"},
    }))
    .unwrap();
    mock.set_faults(vec![fault]);
    let weir = Program::start(&mock, &[("GATEWAY_QUEUE_PORT", "0")]);
    let queue = weir.queue.unwrap();
    let began = Instant::now();
    assert_free(&ask(queue, "/?shard=0").answer(false));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_free(&ask(queue, "/?shard=1").answer(false));
    assert!(began.elapsed() > Duration::from_secs(5), "one at a time");
    let log = weir.log_lines().join("\n");
    let warned = log.contains("WARN") && log.contains("/gateway/bot tells nothing of a bot");
    assert!(warned, "{log}");
    assert!(log.contains("203039963636301824"), "which bot: {log}");
    let secret = TOKEN.rsplit('.').next().unwrap();
    assert!(!log.contains(secret), "{log}");
}

#[test]
fn an_upstream_that_is_not_there_blocks_nobody() {
    let mut config = config("http://127.0.0.1:9", None);
    config.gateway_queue_port = Some(0);
    let weir = weir::start(config).unwrap();
    let began = Instant::now();
    assert_free(&ask(weir.gateway_queue_addr().unwrap(), "/?shard=0").answer(false));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn bots_have_queues_of_their_own_and_a_shard_without_one_has_discord_tokens() {
    let gateway = GatewaySettings {
        max_concurrency: 2,
        ..GatewaySettings::default()
    };
    let stage = Stage::with(gateway, |config| {
        let token = TOKEN.strip_prefix("Bot ").unwrap();
        config.discord_token = Some(token.parse().unwrap());
    });
    let of = |who: &str, shard: u64| {
        let mut client = Client::connect(stage.queue());
        client.send(format!(
            "GET /?shard={shard} HTTP/1.1\r\nHost: q\r\n{who}\r\n"
        ));
        client
    };
    let began = Instant::now();
    let another = "Authorization: Bot MjAzMDM5OTYzNjM2MzAxODI1.a.b\r\n";
    for shard in 0..2 {
        assert_free(&of("", shard).answer(false));
        assert_free(&of(another, shard).answer(false));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // The token of the settings and the same in a request are one bot.
    assert_free(&stage.ask("/?shard=2").answer(false));
    assert!(began.elapsed() >= Duration::from_secs(5));
    let asked = stage.mock.arrivals("/gateway/bot");
    assert_eq!(asked.len(), 2);
}

#[test]
fn without_a_token_max_concurrency_is_one_and_discord_is_not_asked() {
    let stage = Stage::start(16);
    let bare = |shard| {
        let mut client = Client::connect(stage.queue());
        client.send(format!("GET /?shard={shard} HTTP/1.1\r\nHost: q\r\n\r\n"));
        client
    };
    let began = Instant::now();
    assert_free(&bare(0).answer(false));
    assert_free(&bare(1).answer(false));
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert_eq!(stage.mock.arrivals("/gateway/bot").len(), 0);
}

#[test]
fn a_restart_forgets_neither_the_last_start_nor_the_budget() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("identify-{}.state", std::process::id()));
    let gateway = GatewaySettings {
        remaining: 500,
        ..GatewaySettings::default()
    };
    let stage = Stage::with(gateway, |config| config.state_file = Some(state.clone()));
    assert_free(&stage.ask("/?shard=0").answer(false));
    let went = Instant::now();
    let Stage { mock, weir } = stage;
    assert!(weir.shutdown(Duration::from_secs(5)));
    // The next one cannot ask.
    let mut again = config("http://127.0.0.1:9", None);
    again.gateway_queue_port = Some(0);
    again.state_file = Some(state.clone());
    let weir = weir::start(again).unwrap();
    let mut client = Client::connect(weir.gateway_queue_addr().unwrap());
    assert_free(&client.ask(&request("/?shard=1")));
    let waited = went.elapsed();
    assert!(within(waited, 4_990, 9_000), "{waited:?}");
    let mut metrics = Client::connect(weir.metrics_addr().unwrap());
    let text = metrics
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .text();
    assert_eq!(sum(&text, "weir_identify_budget_remaining"), 498.0);
    drop((weir, mock));
    std::fs::remove_file(state).unwrap();
}

#[test]
fn however_a_token_is_spelled_it_is_one_bot() {
    let stage = Stage::start(1);
    let token = TOKEN.strip_prefix("Bot ").unwrap();
    let began = Instant::now();
    for (nth, spelled) in [TOKEN, token].into_iter().enumerate() {
        let mut client = Client::connect(stage.queue());
        client.send(format!(
            "GET /?shard=0 HTTP/1.1\r\nHost: q\r\nAuthorization: {spelled}\r\n\r\n"
        ));
        assert_free(&client.answer(false));
        let spaced = Duration::from_secs(5) * nth as u32;
        assert!(began.elapsed() >= spaced, "{nth}: {:?}", began.elapsed());
    }
    assert_eq!(stage.mock.arrivals("/gateway/bot").len(), 1);
}
