//! What the tests that run the programs share.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `weir` program beside ours; built if only this package's tests were asked for.
pub(crate) fn weir() -> PathBuf {
    let weir = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("weir");
    if !weir.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "weir", "--bin", "weir"])
            .status();
        assert!(built.expect("cargo runs").success());
    }
    weir
}
