//! Series and pictures, as short as they can be.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::{env, fs};

use serde_json::Value;

fn loadtest(args: &[&str]) -> Output {
    let ran = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{errors}");
    ran
}

#[test]
fn series_of_bodies_buckets_and_skew_are_measured_and_drawn() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale");
    // Left by an earlier run, perhaps.
    let _ = fs::remove_dir_all(&folder);
    let (weir, out) = (support::weir(), folder.to_str().unwrap());
    let args = [
        "scale",
        "--series",
        "answer-body,request-body,buckets,skew",
        "--most",
        "10240",
        "--seconds",
        "0.2",
        "--peers",
        "weir",
        "--weir",
        weir.to_str().unwrap(),
        "--out",
        out,
    ];
    let told = String::from_utf8(loadtest(&args).stdout).unwrap();
    assert!(!told.contains("Doubtful"), "{told}");
    assert!(
        told.contains("| request-body: CPU µs | weir, 100 % | weir, 50 % | weir, 5 % |"),
        "{told}"
    );

    let results = fs::read_to_string(folder.join("scale.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    let points = results["points"].as_array().unwrap();
    let values = |series: &str| {
        let of = points.iter().filter(|point| point["series"] == series);
        let mut values: Vec<_> = of.map(|point| point["x"].as_u64().unwrap()).collect();
        values.dedup();
        values
    };
    assert_eq!(values("answer-body"), [0, 1024, 10_240]);
    assert_eq!(values("request-body"), [0, 1024, 10_240]);
    assert_eq!(values("buckets"), [1, 10, 100, 1_000, 10_000]);
    for point in points {
        let cpu = point["values"]["cpu_us"]["median"].as_f64().unwrap();
        assert!(cpu > 1.0, "{point}");
    }

    let pictures = folder.join("pictures");
    let args = ["pictures", "--from", out, "--out"];
    loadtest(&[&args[..], &[pictures.to_str().unwrap()]].concat());
    for name in ["answer-body", "request-body", "buckets"] {
        let svg = fs::read_to_string(pictures.join(name).with_extension("svg")).unwrap();
        assert!(svg.contains("weir, 5 % load") && svg.contains("CPU, µs a request"));
    }
    assert!(!pictures.join("latency.svg").exists());
}
