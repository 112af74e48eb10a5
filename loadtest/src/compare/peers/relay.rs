//! The floor: this program as a [relay](crate::compare::relay).

use std::io;
use std::net::SocketAddr;
use std::process::Command;

use super::Stage;
use crate::compare::host::{self, Guarded};

pub(super) fn start(stage: &Stage) -> io::Result<(Guarded, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["part", "relay", "--upstream"]);
    command.arg(stage.upstream_plain.to_string());
    let log = stage.folder.join("relay.log");
    let mut process = Guarded::start(command, stage.cores.proxy(1), &log, true)?;
    let mut output = process.output().ok_or(io::ErrorKind::BrokenPipe)?;
    let addr = match host::hear(&mut output) {
        Ok(addr) => addr,
        Err(error) => return Err(process.check().err().unwrap_or(error)),
    };
    Ok((process, addr))
}
