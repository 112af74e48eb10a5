//! What a scrape is called: promtool has nothing against it but nirn-proxy's names, and every family is
//! documented.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use crate::{file, read, stage};

/// What promtool has against nirn-proxy's names, which dashboards know.
const NIRNS: [&str; 5] = [
    "nirn_proxy_error counter metrics should have \"_total\" suffix",
    "nirn_proxy_requests label names should be written in 'snake_case' not 'camelCase'",
    "nirn_proxy_requests_routed_error counter metrics should have \"_total\" suffix",
    "nirn_proxy_requests_routed_received counter metrics should have \"_total\" suffix",
    "nirn_proxy_requests_routed_sent counter metrics should have \"_total\" suffix",
];

/// Exits so if names are bad style and nothing is worse.
const STYLE: i32 = 3;

#[test]
fn promtool_finds_fault_with_nothing_but_nirns_names() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian: prometheus)");
    let text = stage::scrape();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let found: BTreeSet<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(found, BTreeSet::from(NIRNS), "{said}");
    assert_eq!(output.status.code(), Some(STYLE));
}

/// One metric as a scrape tells it.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (named, help) = rest.split_once(' ').unwrap();
            name = named.to_owned();
            families.entry(name.clone()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (_, kind) = rest.split_once(' ').unwrap();
            families.entry(name.clone()).or_default().kind = kind.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            // No label's value here has `="` in it.
            let names = labels.match_indices("=\"").map(|(at, _)| {
                let start = labels[..at].rfind([',', '{']).map_or(0, |start| start + 1);
                labels[start..at].to_owned()
            });
            let family = families.entry(name.clone()).or_default();
            family.labels.extend(names.filter(|name| name != "le"));
        }
    }
    families
}

/// Names that stand in a scrape, with a histogram's suffixes.
pub(crate) fn samples(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default());
    names.map(str::to_owned).collect()
}

const BEGIN: &str = "<!-- families: written by `WRITE_DOCS=1 cargo test --test watching` -->\n";
const END: &str = "<!-- end of families -->\n";

/// The table of `docs/metrics.md`.
fn table(families: &BTreeMap<String, Family>) -> String {
    let mut table = String::from("| metric | type | labels | what it tells |\n|---|---|---|---|\n");
    for (name, Family { kind, help, labels }) in families {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        table += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
    }
    table
}

#[test]
fn every_metric_is_documented_and_none_is_invented() {
    const PAGE: &str = "docs/metrics.md";
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).expect("the table's beginning");
    let (documented, after) = rest.split_once(END).expect("the table's end");
    let found = table(&families(stage::scrape()));
    if std::env::var_os("WRITE_DOCS").is_some() {
        let page = format!("{before}{BEGIN}{found}{END}{after}");
        return std::fs::write(file(PAGE), page).unwrap();
    }
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (found, documented) = (lines(&found), lines(documented));
    let missing: Vec<_> = found.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&found).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{PAGE} lacks {missing:#?}\nand invents {invented:#?}\n{BEGIN}"
    );
}

#[test]
fn every_help_is_a_sentence_without_an_end() {
    for (name, family) in families(stage::scrape()) {
        let help = &family.help;
        let begins = help.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
        assert!(
            begins && help.len() >= 14 && !help.ends_with('.'),
            "{name}: {help}"
        );
        assert!(!help.contains('|'), "{name}: a table cannot hold {help}");
    }
}
