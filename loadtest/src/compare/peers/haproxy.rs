//! haproxy: TLS upstream verified, connections reused always, and kept
//! however many clients there are; no log.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Stage, first_line, free_address, text};
use crate::compare::host::{Guarded, find_program};

pub(super) fn start(stage: &Stage, threads: usize) -> io::Result<(Guarded, SocketAddr)> {
    let addr = free_address()?;
    let file = stage.folder.join("haproxy.cfg");
    fs::write(
        &file,
        configuration(addr, threads, stage.upstream.port(), &stage.ca_file),
    )?;
    let program = find_program("haproxy").ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(["-db", "-f"]).arg(&file);
    let log = stage.folder.join("haproxy.log");
    let process = Guarded::start(command, stage.cores.proxy(threads), &log, false)?;
    Ok((process, addr))
}

fn configuration(addr: SocketAddr, threads: usize, upstream: u16, ca: &Path) -> String {
    let ca = text(ca);
    format!(
        "global
    nbthread {threads}
    maxconn 16000
    no strict-limits
    tune.pool-high-fd-ratio 90
    tune.pool-low-fd-ratio 85
    ssl-server-verify required
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1m
    timeout http-keep-alive 1h
    option http-keep-alive
    http-reuse always
frontend clients
    bind {addr} backlog 4096
    default_backend discord
backend discord
    http-request set-header Host localhost
    server upstream 127.0.0.1:{upstream} ssl verify required ca-file {ca} verifyhost localhost \
sni str(localhost) alpn http/1.1 pool-purge-delay 1m
"
    )
}

pub(super) fn version() -> String {
    first_line("haproxy", "-v")
}
