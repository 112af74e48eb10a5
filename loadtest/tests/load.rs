//! The load generator against the mock.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

use std::time::Duration;

use loadtest::client::Target;
use loadtest::load::{self, LoadConfig, LoadReport, Plan, Recipe};
use loadtest::mock::faults::{Action, Fault};
use loadtest::mock::settings::Settings;
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};

fn start(tls: Tls, settings: Settings) -> MockHandle {
    mock::start(MockConfig {
        tls,
        settings,
        ..MockConfig::default()
    })
    .unwrap()
}

fn config(mock: &MockHandle, rate: Option<f64>) -> LoadConfig {
    let target = if mock.ca_pem.is_empty() {
        Target::plain(mock.addr)
    } else {
        Target::tls(mock.addr, &mock.ca_pem).unwrap()
    };
    LoadConfig {
        target,
        connections: 8,
        under_way: None,
        rate,
        duration: Duration::from_millis(500),
        warmup: Duration::from_millis(100),
        plan: Plan::spread(&Recipe::default(), 1),
    }
}

fn run(config: &LoadConfig) -> LoadReport {
    load::run(config).unwrap()
}

#[test]
fn a_closed_loop_keeps_every_connection_busy_over_plain_and_tls() {
    for tls in [Tls::Plain, Tls::Valid] {
        let mock = start(tls, Settings::unlimited());
        let report = run(&config(&mock, None));
        assert_eq!(
            (report.errors, report.reconnects, report.statuses.len()),
            (0, 0, 1)
        );
        assert!(report.statuses[&200] > 100, "{report}");
        assert_eq!(mock.oracle().connections.opened, 8);
        assert!(mock.oracle().requests >= report.answers());
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let mock = start(Tls::Plain, Settings::unlimited());
    let report = run(&config(&mock, Some(400.0)));
    let answers = report.answers();
    assert!((190..=210).contains(&answers), "{answers} of 200");
}

#[test]
fn an_open_loop_blames_the_server_for_those_who_had_to_wait() {
    let mock = start(Tls::Plain, Settings::unlimited());
    // One connection, and one answer that takes 200 ms: ten others become due meanwhile.
    mock.set_faults(vec![Fault {
        skip: 10,
        ..Fault::from(Action::Stall { bytes: 0, ms: 200 }).times(1)
    }]);
    let report = run(&LoadConfig {
        connections: 1,
        ..config(&mock, Some(50.0))
    });
    let slow = report.latency_ns.count_between(20_000_000, u64::MAX);
    assert!(slow >= 7, "only {slow} requests were slow: {report}");
    assert!(report.delayed >= 7, "{report}");
}

#[test]
fn requests_take_turns_on_all_connections_and_no_more_are_under_way_than_asked_for() {
    let mock = start(Tls::Plain, Settings::unlimited());
    // Every answer takes 20 ms: two at a time are 100 a second, however many connections there are.
    mock.set_faults(vec![Fault::from(Action::Stall { bytes: 0, ms: 20 })]);
    let report = run(&LoadConfig {
        connections: 8,
        under_way: Some(2),
        ..config(&mock, None)
    });
    let answers = report.answers();
    assert!((20..=55).contains(&answers), "{report}");
    assert_eq!(mock.oracle().connections.opened, 8);
    let used = mock.oracle().connections;
    assert_eq!(report.errors, 0, "{used:?}");
}

#[test]
fn lost_connections_are_counted_and_made_again() {
    let mock = start(Tls::Plain, Settings::unlimited());
    mock.set_faults(vec![Fault::from(Action::ResetUnprocessed).times(3)]);
    let report = run(&LoadConfig {
        warmup: Duration::ZERO,
        ..config(&mock, Some(200.0))
    });
    assert_eq!((report.errors, report.reconnects), (3, 3), "{report}");
    assert!(report.answers() >= 90, "{report}");
}

#[test]
fn chunked_answers_and_refusals_are_told_apart() {
    let settings = Settings::default()
        .patched(&serde_json::json!({"answers": {"chunked": true}, "limits": {"rules": []}}))
        .unwrap();
    let mock = start(Tls::Plain, settings);
    let report = run(&LoadConfig {
        warmup: Duration::ZERO,
        ..config(&mock, Some(40.0))
    });
    assert_eq!(
        report.statuses.keys().copied().collect::<Vec<_>>(),
        [200, 429]
    );
    assert_eq!(report.statuses[&429], mock.oracle().violations);
    let json = report.to_json();
    assert_eq!(json["statuses"]["429"], mock.oracle().violations);
}

#[test]
fn nothing_but_loopback_is_loaded() {
    let mock = start(Tls::Plain, Settings::default());
    let mut config = config(&mock, None);
    config.target = Target::plain("192.0.2.1:80".parse().unwrap());
    let error = load::run(&config).unwrap_err();
    assert!(error.to_string().contains("no loopback"), "{error}");
}
