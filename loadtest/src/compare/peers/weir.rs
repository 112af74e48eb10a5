//! weir: the program itself, with limiter, metrics and log on as by default.
//!
//! `BOT_RATELIMIT_OVERRIDES` lifts the global limit of every bot that sends, so that the whole way
//! through the limiter is taken but nothing waits in it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Stage, free_address, free_address_on};
use crate::compare::host::Guarded;

pub(super) fn start(
    stage: &Stage,
    workers: usize,
    driver: &str,
) -> io::Result<(Guarded, SocketAddr)> {
    launch(stage, free_address()?, (workers, driver), &[])
}

/// One of one worker that listens on `ip`, with these settings beside.
pub(super) fn start_at(
    stage: &Stage,
    ip: IpAddr,
    settings: &[(&'static str, String)],
) -> io::Result<(Guarded, SocketAddr)> {
    launch(stage, free_address_on(ip)?, (1, "io_uring"), settings)
}

fn launch(
    stage: &Stage,
    addr: SocketAddr,
    (workers, driver): (usize, &str),
    settings: &[(&'static str, String)],
) -> io::Result<(Guarded, SocketAddr)> {
    let mut command = Command::new(&stage.weir);
    command.env_clear().current_dir(&stage.folder).envs([
        ("BIND_IP", addr.ip().to_string()),
        ("PORT", addr.port().to_string()),
        ("METRICS_PORT", "0".to_owned()),
        ("WORKERS", workers.to_string()),
        ("IO_DRIVER", driver.to_owned()),
        (
            "UPSTREAM_URL",
            format!("https://localhost:{}", stage.upstream.port()),
        ),
        ("BOT_RATELIMIT_OVERRIDES", stage.overrides.clone()),
    ]);
    command.env("UPSTREAM_CA_FILE", &stage.ca_file);
    let settings = stage.settings.iter().chain(settings);
    command.envs(settings.map(|(name, value)| (name, value)));
    let log = stage.folder.join("weir.log");
    let process = Guarded::start(command, stage.cores.proxy(workers), &log, false)?;
    Ok((process, addr))
}

/// The weir under test: `given`, or the program beside this one. Under `cargo run` the latter is
/// built first, with the same profile, so that it is never an older one.
///
/// # Errors
/// When there is none, or it cannot be built.
pub(crate) fn find(given: Option<&Path>) -> io::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => {
            let this = std::env::current_exe()?;
            let beside = this.with_file_name("weir");
            if let (Some(cargo), Some(folder)) = (
                std::env::var_os("CARGO"),
                std::env::var_os("CARGO_MANIFEST_DIR"),
            ) {
                build(Path::new(&cargo), Path::new(&folder), &beside)?;
            }
            beside
        }
    };
    // Its configuration names paths; it is started from a folder of its own.
    path.canonicalize().map_err(|error| {
        let text = format!(
            "no weir at {} ({error}): name it with --weir",
            path.display()
        );
        io::Error::new(error.kind(), text)
    })
}

fn build(cargo: &Path, folder: &Path, program: &Path) -> io::Result<()> {
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "weir", "--bin", "weir"]);
    command.current_dir(folder);
    let profile = program.parent().and_then(Path::file_name);
    if profile.is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    if command.status()?.success() {
        Ok(())
    } else {
        Err(io::Error::other("weir cannot be built"))
    }
}
