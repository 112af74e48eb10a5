//! The demonstration: without weir the bots run into the limits, and the tally foretells it; with
//! weir nothing is refused and nothing lost.

use std::time::Duration;

use loadtest::demo::{self, Bot};

#[test]
fn bots_without_a_proxy_draw_the_429s_that_the_tally_foretells() {
    let mock = demo::discord(true).unwrap();
    let mut ticks = Vec::new();
    let time = Duration::from_secs(2);
    let tell = |tick: &demo::Tick, _: &_| ticks.push(*tick);
    let report = demo::run(&mock, mock.addr, &Bot::first(2), time, tell).unwrap();
    let last = ticks.last().unwrap();
    assert_eq!((last.waiting, last.failed), (0, 0));
    assert_eq!(last.sent, report.requests);
    assert_eq!(last.refused, report.refused.values().sum::<u64>());
    // Bursts of eight into a bucket of five, to begin with.
    assert!(last.refused >= 6, "{last:?}");
    assert!(
        last.avoided.abs_diff(last.refused) * 4 <= last.refused,
        "{last:?}"
    );
    assert_eq!((report.order.inversions, report.malformed), (0, 0));
    assert!(report.order.tagged >= 4);
}

#[test]
fn the_same_bots_behind_weir_draw_none() {
    let mock = demo::discord(false).unwrap();
    let ca = std::env::temp_dir().join(format!("weir-demo-test-{}.pem", std::process::id()));
    std::fs::write(&ca, &mock.ca_pem).unwrap();
    let proxy = demo::Proxy::start(&mock.url(), &ca).unwrap();
    std::fs::remove_file(&ca).unwrap();
    let mut ticks = Vec::new();
    let time = Duration::from_secs(6);
    let tell = |tick: &demo::Tick, _: &_| ticks.push(*tick);
    let report = demo::run(&mock, proxy.addr, &Bot::first(3), time, tell).unwrap();
    let last = ticks.last().unwrap();
    assert_eq!(
        (last.waiting, last.failed, last.refused),
        (0, 0, 0),
        "{last:?}"
    );
    assert_eq!(report.violations, 0, "{report:?}");
    assert!(last.avoided >= 6, "{last:?}");
    assert_eq!(report.order.inversions, 0);
}
