//! The text that Prometheus reads, and the bounds of what it can be made to hold.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::error;

const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn key(route: u64) -> SeriesKey {
    SeriesKey {
        method: "GET",
        status: 200,
        shared: false,
        route,
        client: 9,
    }
}

fn labels(route: &str) -> impl FnOnce() -> (String, String) {
    move || (route.to_owned(), "9".to_owned())
}

fn text(table: &Table) -> String {
    let mut out = String::new();
    table.encode(&mut out);
    out
}

/// Refuses what Prometheus would: samples of no family, of one family in two places, twice.
fn check_format(text: &str) {
    let (mut family, mut families, mut samples) = ("", HashSet::new(), HashSet::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split(' ').next(), Some(family));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            assert!(samples.insert(name), "{name} twice");
            let metric = name.split('{').next().unwrap();
            let suffix = metric
                .strip_prefix(family)
                .unwrap_or_else(|| panic!("{line}"));
            assert!(
                ["", "_bucket", "_sum", "_count"].contains(&suffix),
                "{line}"
            );
        }
    }
}

#[test]
fn an_answer_is_a_histogram_in_nirns_words() {
    let mut table = Table::with_seeds(SEEDS);
    let shared = SeriesKey {
        status: 429,
        shared: true,
        ..key(1)
    };
    for millis in [100, 101, 20_001] {
        table.record(shared, labels("/channels/!"), Duration::from_millis(millis));
    }
    table.record_error();
    let slot = table.open("GET", 1, || "/channels/!".to_owned());
    let expected = r#"# HELP nirn_proxy_error Requests that failed in the proxy
# TYPE nirn_proxy_error counter
nirn_proxy_error 1
# HELP nirn_proxy_requests Seconds that the upstream took to answer requests
# TYPE nirn_proxy_requests histogram
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="0.1"} 1
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="0.25"} 2
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="1"} 2
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="2.5"} 2
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="5"} 2
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="20"} 2
nirn_proxy_requests_bucket{clientId="9",method="GET",route="/channels/!",status="429 Shared",le="+Inf"} 3
nirn_proxy_requests_sum{clientId="9",method="GET",route="/channels/!",status="429 Shared"} 20.202000
nirn_proxy_requests_count{clientId="9",method="GET",route="/channels/!",status="429 Shared"} 3
# HELP nirn_proxy_open_connections Requests of clients that are under way
# TYPE nirn_proxy_open_connections gauge
nirn_proxy_open_connections{method="GET",route="/channels/!"} 1
"#;
    assert_eq!(text(&table), expected);
    check_format(expected);
    table.close(slot);
    assert!(text(&table).ends_with("route=\"/channels/!\"} 0\n"));
}

#[test]
fn labels_are_copied_only_for_a_new_series() {
    let mut table = Table::with_seeds(SEEDS);
    table.record(key(1), labels("/a"), Duration::ZERO);
    table.record(key(1), || panic!("known"), Duration::ZERO);
    let first = table.open("GET", 1, || "/a".to_owned());
    let second = table.open("GET", 1, || panic!("known"));
    assert_eq!(first, second);
}

#[test]
fn two_keys_with_the_same_labels_are_one_series() {
    let mut table = Table::with_seeds(SEEDS);
    table.record(key(1), labels("/a"), Duration::ZERO);
    table.record(key(2), labels("/a"), Duration::ZERO);
    let shared = SeriesKey {
        shared: true,
        ..key(1)
    };
    table.record(shared, labels("/a"), Duration::ZERO);
    let text = text(&table);
    check_format(&text);
    assert!(text.contains("nirn_proxy_requests_count{clientId=\"9\",method=\"GET\",route=\"/a\",status=\"200 OK\"} 3\n"));
}

#[test]
fn each_part_of_the_key_separates_series() {
    let mut table = Table::with_seeds(SEEDS);
    let base = key(1);
    for (key, route, client) in [
        (base, "/a", "9"),
        (
            SeriesKey {
                method: "POST",
                ..base
            },
            "/a",
            "9",
        ),
        (
            SeriesKey {
                status: 204,
                ..base
            },
            "/a",
            "9",
        ),
        (
            SeriesKey {
                status: 429,
                ..base
            },
            "/a",
            "9",
        ),
        (
            SeriesKey {
                status: 429,
                shared: true,
                ..base
            },
            "/a",
            "9",
        ),
        (SeriesKey { route: 2, ..base }, "/b", "9"),
        (SeriesKey { client: 8, ..base }, "/a", "8"),
    ] {
        table.record(key, || (route.into(), client.into()), Duration::ZERO);
    }
    check_format(&text(&table));
    assert_eq!(table.requests.len(), 7);
}

#[test]
fn a_flood_of_routes_then_clients_then_statuses_ends_in_other() {
    let mut table = Table::with_seeds(SEEDS);
    let count = |table: &Table, part: &str| {
        text(table)
            .lines()
            .filter(|l| l.contains("_count{") && l.contains(part))
            .count()
    };
    let full = SERIES_MAX / 4 * 3;
    for route in 0..full as u64 + 100 {
        table.record(key(route), labels(&format!("/{route}")), Duration::ZERO);
    }
    assert_eq!(table.requests.len(), full + 1);
    assert_eq!(
        count(&table, "clientId=\"9\",method=\"GET\",route=\"other\""),
        1
    );

    for client in 100..2_000 {
        let key = SeriesKey { client, ..key(1) };
        table.record(
            key,
            || ("/1".to_owned(), client.to_string()),
            Duration::ZERO,
        );
    }
    assert_eq!(table.requests.len(), SERIES_MAX / 8 * 7 + 1);
    assert_eq!(
        count(&table, "clientId=\"other\",method=\"GET\",route=\"other\""),
        1
    );

    for status in 201..3_000 {
        let key = SeriesKey { status, ..key(1) };
        table.record(key, labels("/1"), Duration::ZERO);
    }
    assert_eq!(table.requests.len(), SERIES_MAX);
    assert_eq!(
        count(&table, "method=\"other\",route=\"other\",status=\"other\""),
        1
    );

    for known in [key(0), key(full as u64 + 5)] {
        table.record(
            known,
            || panic!("a series that exists goes on"),
            Duration::ZERO,
        );
    }
    check_format(&text(&table));
    let counts = text(&table)
        .lines()
        .filter(|line| line.starts_with("nirn_proxy_requests_count"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
        .sum::<usize>();
    assert_eq!(counts, full + 100 + 1_900 + 2_799 + 2, "nothing is lost");
}

#[test]
fn a_flood_of_keys_is_counted_though_they_cannot_all_be_remembered() {
    let mut table = Table::with_seeds(SEEDS);
    for route in 0..3 * SERIES_MAX as u64 {
        table.record(key(route), labels("/same"), Duration::ZERO);
    }
    assert_eq!(table.requests.len(), 1);
    assert!(text(&table).contains("status=\"200 OK\"} 24576\n"));
}

#[test]
fn a_flood_of_open_routes_ends_in_other_and_closes_evenly() {
    let mut table = Table::with_seeds(SEEDS);
    let many = OPEN_SERIES_MAX as u64 + 100;
    let slots: Vec<_> = (0..many)
        .map(|route| table.open("GET", route, || format!("/{route}")))
        .collect();
    assert_eq!(table.open.len(), OPEN_SERIES_MAX + 1);
    assert!(text(&table).contains("{method=\"GET\",route=\"other\"} 100\n"));
    for slot in slots {
        table.close(slot);
    }
    let text = text(&table);
    check_format(&text);
    let open = text
        .lines()
        .filter(|l| l.starts_with("nirn_proxy_open_connections{"));
    assert!(open.into_iter().all(|line| line.ends_with(" 0")));
}

#[test]
fn merged_tables_of_other_seeds_add_up_without_a_cap() {
    let (mut one, mut other) = (Table::with_seeds(SEEDS), Table::with_seeds([5, 6, 7, 8]));
    for route in 0..SERIES_MAX as u64 {
        one.record(
            key(route),
            labels(&format!("/a{route}")),
            Duration::from_secs(1),
        );
        other.record(
            key(route),
            labels(&format!("/b{route}")),
            Duration::from_secs(1),
        );
    }
    other.record(key(1 << 40), labels("/a0"), Duration::from_secs(3));
    other.record_error();
    let _open = other.open("PUT", 1, || "/b".to_owned());
    let mut all = Table::with_seeds(SEEDS);
    all.merge(&one);
    all.merge(&other);
    let text = text(&all);
    check_format(&text);
    // The routes that one table could show, of each; "other" is common to both.
    assert_eq!(all.requests.len(), 2 * (SERIES_MAX / 4 * 3) + 1);
    assert!(text.contains("nirn_proxy_error 1\n"));
    assert!(text.contains("nirn_proxy_open_connections{method=\"PUT\",route=\"/b\"} 1\n"));
    assert!(text.contains("route=\"/a1\",status=\"200 OK\"} 1.000000\n"));
    assert!(text.contains("route=\"other\",status=\"200 OK\"} 4099.000000\n"));
}

#[test]
fn weirs_own_numbers_are_merged_and_written_each_with_help() {
    let mut one = Counters {
        waiting: -1,
        held_back: 2,
        ..Counters::default()
    };
    one.queue_wait.record(1_500_000_000);
    one.added.record(40_000);
    one.upstream.record(300_000_000);
    one.refuse(Refusal::BucketFull);
    one.refuse(Refusal::Malformed);
    one.receive_429(Scope::Shared, true);
    one.receive_429(Scope::User, false);
    one.retry(Retry::Stale);
    one.receive(401);
    one.receive(404);
    one.receive(429);
    one.fail(error::Kind::Dns);
    let mut all = Counters {
        waiting: 3,
        clients: -5,
        ..Counters::default()
    };
    all.merge(&one);
    all.merge(&one);
    let mut text = String::new();
    all.encode(&mut text);
    check_format(&text);
    for line in [
        "weir_requests_waiting 1",
        "weir_client_connections 0",
        "weir_queue_wait_seconds_bucket{le=\"1\"} 0",
        "weir_queue_wait_seconds_bucket{le=\"2.5\"} 2",
        "weir_queue_wait_seconds_sum 3.000000",
        "weir_added_seconds_bucket{le=\"0.00005\"} 2",
        "weir_added_seconds_sum 0.000080",
        "weir_upstream_seconds_bucket{le=\"0.25\"} 0",
        "weir_upstream_seconds_count 2",
        "weir_429s_avoided_total 4",
        "weir_refused_total{status=\"429\",reason=\"bucket_full\"} 2",
        "weir_refused_total{status=\"4xx\",reason=\"malformed\"} 2",
        "weir_refused_total{status=\"503\",reason=\"draining\"} 0",
        "weir_upstream_429_total{scope=\"shared\",outcome=\"absorbed\"} 2",
        "weir_upstream_429_total{scope=\"shared\",outcome=\"passed\"} 0",
        "weir_upstream_429_total{scope=\"user\",outcome=\"passed\"} 2",
        "weir_retries_total{cause=\"429\"} 2",
        "weir_retries_total{cause=\"connection\"} 2",
        "weir_invalid_requests_total{status=\"401\"} 2",
        "weir_invalid_requests_total{status=\"403\"} 0",
        "weir_invalid_requests_total{status=\"429\"} 2",
        "weir_errors_total{kind=\"dns\",side=\"upstream\"} 2",
        "weir_errors_total{kind=\"full\",side=\"us\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("weir_") || name.starts_with("nirn_proxy_requests_routed_"));
    }
}

#[test]
fn every_plain_number_reaches_the_merged_text() {
    let numbers = Counters {
        waiting: 101,
        waited: 102,
        held_back: 104,
        clients: 105,
        clients_accepted: 106,
        ..Counters::default()
    };
    let mut all = Counters::default();
    all.merge(&numbers);
    assert_eq!(all, numbers);
    let mut text = String::new();
    all.encode(&mut text);
    for (name, number) in [
        ("weir_requests_waiting", "101"),
        ("weir_requests_waited_total", "102"),
        ("weir_429s_avoided_total", "104"),
        ("weir_client_connections", "105"),
        ("weir_client_connections_accepted_total", "106"),
    ] {
        assert!(text.contains(&format!("\n{name} {number}\n")), "{name}");
    }
}

proptest! {
    #[test]
    fn any_label_makes_a_text_that_can_be_read(route in ".*", client in ".*", status: u16) {
        let mut table = Table::with_seeds(SEEDS);
        let key = SeriesKey { status, ..key(1) };
        table.record(key, || (route.clone(), client), Duration::ZERO);
        let slot = table.open("GET", 1, || route);
        let text = text(&table);
        table.close(slot);
        for line in text.split('\n').filter(|l| !l.is_empty()) {
            prop_assert!(line.starts_with("# ") || line.starts_with("nirn_proxy_"), "{:?}", line);
        }
        // Without its escapes, a line has the quotes of its labels alone.
        let bucket = text.split('\n').find(|l| l.contains("le=\"+Inf\"")).unwrap();
        let bare = bucket.replace("\\\\", "").replace("\\\"", "");
        prop_assert_eq!(bare.matches('"').count(), 10);
    }

    #[test]
    fn buckets_count_as_a_plain_list_of_times_would(
        millis in prop::collection::vec(0_u64..30_000, 1..50),
    ) {
        let mut table = Table::with_seeds(SEEDS);
        for &ms in &millis {
            table.record(key(1), labels("/a"), Duration::from_millis(ms));
        }
        let text = text(&table);
        let ends = [("0.1", 100), ("0.25", 250), ("1", 1_000), ("2.5", 2_500), ("5", 5_000),
            ("20", 20_000), ("+Inf", u64::MAX)];
        for (end, end_ms) in ends {
            let within = millis.iter().filter(|&&ms| ms <= end_ms).count();
            prop_assert!(text.contains(&format!("le=\"{end}\"}} {within}\n")), "{}", end);
        }
    }
}
