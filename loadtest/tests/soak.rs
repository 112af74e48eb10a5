//! A short soak: everything that a long one asserts but the growth of memory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The `weir` program beside ours; built if only this package's tests were asked for.
fn weir() -> PathBuf {
    let weir = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("weir");
    if !weir.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "weir", "--bin", "weir"])
            .status();
        assert!(built.is_ok_and(|status| status.success()));
    }
    weir
}

#[test]
fn twenty_seconds_of_faults_and_churn_leave_nothing_wrong_lost_stuck_or_leaked() {
    let weir = weir();
    let args = ["soak", "--minutes", "0.33", "--rate", "250", "--weir"];
    let ran = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(args)
        .arg(weir)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}\n{errors}");
    assert!(told.contains("| avoidable 429s upstream | 0 "), "{told}");
}
