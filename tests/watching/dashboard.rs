//! The dashboard: its queries name metrics that there are, and select something.

use serde_json::Value;

use crate::names::samples;
use crate::prometheus::Prometheus;
use crate::{promql, read, stage};

const DASHBOARD: &str = "deploy/grafana.json";

/// The queries of nirn-proxy's own dashboard (its grafana-dash/dash.json), which people have.
const NIRNS: [&str; 14] = [
    r#"sum(increase(nirn_proxy_requests_count{status="429 Too Many Requests",clientId=~"$clientId"}[1h]))"#,
    r#"sum (rate(nirn_proxy_requests_count{clientId=~"$clientId"}[$__rate_interval]))"#,
    r#"sum(rate(nirn_proxy_requests_count{clientId=~"$clientId"}[$__rate_interval])) by (clientId)"#,
    r#"sum(rate(nirn_proxy_requests_count{clientId=~"$clientId"}[1m]))"#,
    r#"sum by(method, status, route) (rate(nirn_proxy_requests_count{status="429 Too Many Requests",clientId=~"$clientId"}[$__rate_interval]))"#,
    r#"sum by(method, status, route) (rate(nirn_proxy_requests_count{status=~"500 Internal Server Error|501 Not Implemented|502 Bad Gateway|503 Service Unavailable|504 Gateway Timeout|505 HTTP Version Not Supported|506 Variant Also Negotiates|507 Insufficient Storage|508 Loop Detected|510 Not Extended|511 Network Authentication Required", clientId=~"$clientId"}[$__rate_interval]))"#,
    r#"sum by (status) (rate(nirn_proxy_requests_count{clientId=~"$clientId"}[$__rate_interval]))"#,
    r#"sum by (route) (rate(nirn_proxy_requests_count{clientId=~"$clientId"}[$__rate_interval]))"#,
    r#"histogram_quantile(0.9, sum(rate(nirn_proxy_requests_bucket{clientId=~"$clientId"}[5m])) by (le))"#,
    r#"histogram_quantile(0.95, sum(rate(nirn_proxy_requests_bucket{clientId=~"$clientId"}[5m])) by (le))"#,
    r#"histogram_quantile(0.99, sum(rate(nirn_proxy_requests_bucket{clientId=~"$clientId"}[5m])) by (le))"#,
    r#"histogram_quantile(0.90, sum(rate(nirn_proxy_requests_bucket{clientId=~"$clientId"}[5m])) by (le, method, route))"#,
    r#"histogram_quantile(0.99, sum(rate(nirn_proxy_requests_bucket{clientId=~"$clientId"}[5m])) by (le, method, route))"#,
    "sum(nirn_proxy_open_connections)",
];

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON")
}

/// All panels but rows, those of collapsed rows, too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    fn walk<'v>(panels: &'v Value, into: &mut Vec<&'v Value>) {
        for panel in panels.as_array().into_iter().flatten() {
            if panel["type"] != "row" {
                into.push(panel);
            }
            walk(&panel["panels"], into);
        }
    }
    let mut all = Vec::new();
    walk(&dashboard["panels"], &mut all);
    all
}

/// Each query, with its panel's title.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("queries") {
            all.push((title, target["expr"].as_str().expect("a query")));
        }
    }
    all
}

/// As Grafana fills its variables in when all is chosen.
fn filled(query: &str) -> String {
    query
        .replace("$__rate_interval", "1m")
        .replace("$clientId", ".*")
        .replace("$instance", ".*")
}

#[test]
fn the_dashboard_asks_the_data_source_that_is_chosen_and_no_two_panels_overlap() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["name"], "datasource");
    assert_eq!(variables[0]["type"], "datasource");
    let mut ids = std::collections::BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        }
        let place = |of: &Value, name: &str| of["gridPos"][name].as_u64().expect("a place");
        assert!(place(panel, "x") + place(panel, "w") <= 24, "{panel}");
        for other in panels(&dashboard) {
            let apart = |from: &str, size: &str| {
                place(panel, from) + place(panel, size) <= place(other, from)
                    || place(other, from) + place(other, size) <= place(panel, from)
            };
            let same = panel["id"] == other["id"];
            assert!(
                same || apart("x", "w") || apart("y", "h"),
                "{panel}\n{other}"
            );
        }
    }
}

#[test]
fn every_metric_of_the_dashboard_is_in_a_scrape() {
    let known = samples(stage::scrape());
    let dashboard = dashboard();
    for (title, query) in queries(&dashboard) {
        let names = promql::metrics(query);
        assert!(!names.is_empty(), "{title}: {query}");
        for name in names {
            assert!(known.contains(&name), "{title} asks for {name}");
        }
    }
}

#[test]
fn the_queries_of_nirns_dashboard_are_there_unchanged() {
    let dashboard = dashboard();
    let ours: Vec<_> = queries(&dashboard)
        .iter()
        .map(|(_, query)| *query)
        .collect();
    for query in NIRNS {
        assert!(ours.contains(&query), "{query}");
    }
}

#[test]
fn every_query_selects_something_in_a_real_prometheus() {
    let stage = stage::Stage::start();
    stage.traffic();
    let prometheus = Prometheus::start(&[stage.weir.metrics]);
    // A rate needs a number that has changed between two scrapes.
    prometheus.wait_for("count(weir_build_info)");
    stage.traffic();
    prometheus.wait_for("sum(increase(nirn_proxy_requests_count[1m])) > 0");
    let dashboard = dashboard();
    let mut empty = Vec::new();
    for (title, query) in queries(&dashboard) {
        if prometheus.select(&filled(query)) == 0 {
            empty.push(format!("{title}: {query}"));
        }
    }
    assert!(empty.is_empty(), "{empty:#?}");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let definition = variable["definition"].as_str().unwrap_or_default();
        if let Some(values) = definition.strip_prefix("label_values(") {
            let (metric, label) = values.trim_end_matches(')').split_once(", ").unwrap();
            let query = format!("count by ({label}) ({metric}{{{label}!=\"\"}})");
            assert!(prometheus.select(&query) > 0, "{definition}");
        }
    }
    let started = dashboard["annotations"]["list"][1]["expr"]
        .as_str()
        .unwrap();
    prometheus.select(&filled(started));
}
