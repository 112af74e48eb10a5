//! A comparison, as short as it can be.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::Value;

fn compare(args: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["compare", "--rounds", "1", "--seconds", "0.3", "--weir"])
        .arg(support::weir())
        .args(args)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Left by an earlier run, perhaps.
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn weir_is_compared_with_the_floor_and_with_nobody_who_did_not_run() {
    let out = folder("compare");
    let args = ["--peers", "weir,relay,direct", "--only", "closed-8,open-50"];
    let args = [&args[..], &["--connections", "8"]].concat();
    let ran = compare(&args, &out);
    let told = String::from_utf8(ran.stdout).unwrap();
    let errors = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{errors}");
    assert_eq!(told.lines().next(), Some("# weir and its peers"));
    assert!(!told.contains("Doubtful"), "{told}");

    let report = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(told.starts_with(&report), "{told}");
    assert!(
        report.contains("| CPU per request against nginx | closed-8 | 0.80 × |  | not measured |")
    );

    let results = json(&out.join("results.json"));
    let closed = &results["scenarios"]["closed-8"];
    assert!(
        closed["relay"]["weir_cpu_ratio"]["median"]
            .as_f64()
            .unwrap()
            > 1.0
    );
    assert!(closed["weir"]["rate"]["median"].as_f64().unwrap() > 100.0);
    assert!(closed["weir"]["rss_max_bytes"]["median"].as_f64().unwrap() > 1e6);
    assert_eq!(closed["weir"]["upstream_opened"]["median"], 0.0);
    assert_eq!(closed.get("nginx"), None);
    let open = &results["scenarios"]["open-50"];
    assert!(open["direct"]["p50_us"]["median"].as_f64().unwrap() > 0.0);
    assert_eq!(open["direct"].get("cpu_us"), None);
    for bound in results["bounds"].as_array().unwrap() {
        let absent = ["nginx", "haproxy", "2 workers"];
        let what = bound["what"].as_str().unwrap();
        if absent.iter().any(|name| what.contains(name)) {
            assert_eq!(
                (&bound["measured"], &bound["holds"]),
                (&Value::Null, &Value::Null)
            );
        }
    }

    let harness = json(&out.join("harness.json"));
    let names: Vec<_> = harness
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert!(
        names.contains(&&Value::from("closed-8/weir/cpu_us")),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.to_string().contains("nginx")));
    let samples = fs::read_to_string(out.join("samples.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), 5);
}

#[test]
fn connections_that_the_upstream_ends_are_opened_again_and_counted() {
    let out = folder("compare-churn");
    let args = [
        "--peers",
        "weir",
        "--only",
        "churn,idle-100",
        "--idle",
        "100",
        "--life",
        "5",
    ];
    let ran = compare(&args, &out);
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let results = json(&out.join("results.json"));
    let churn = &results["scenarios"]["churn"]["weir"];
    let opened = churn["upstream_opened"]["median"].as_f64().unwrap();
    assert!(opened > 0.0, "{churn}");
    let resumed = churn["upstream_resumed"]["median"].as_f64().unwrap();
    assert!(resumed > 0.0 && resumed <= opened, "{churn}");
    let idle = &results["scenarios"]["idle-100"]["weir"]["idle_connection_bytes"];
    assert!(idle["median"].as_f64().unwrap() < 100_000.0);
}

#[test]
fn a_scenario_that_does_not_exist_is_named() {
    let ran = compare(&["--only", "closed-7"], &folder("compare-none"));
    let errors = String::from_utf8(ran.stderr).unwrap();
    assert_eq!((ran.status.code(), errors.lines().count()), (Some(1), 1));
    assert!(
        errors.contains("no scenario closed-7") && errors.contains("open-5"),
        "{errors}"
    );
}
