//! nginx: TLS upstream verified, with a pool of kept-alive connections, no access log;
//! bodies go through memory alone, never through files.
//! It can be the upstream, too.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::{Stage, await_serving, first_line, free_address, text};
use crate::compare::host::{Cores, Guarded, find_program};
use crate::compare::traffic::{self, BODY_BYTES, BUCKET};
use crate::mock::tls::{Identity, Tls};

pub(super) fn start(stage: &Stage, workers: usize) -> io::Result<(Guarded, SocketAddr)> {
    let addr = free_address()?;
    let file = stage.folder.join("nginx.conf");
    let server = proxy(addr, stage.upstream.port(), &stage.ca_file);
    fs::write(&file, around(&stage.folder, ("nginx", workers), &server))?;
    let process = run(&stage.folder, "nginx", &file, stage.cores.proxy(workers))?;
    Ok((process, addr))
}

fn run(folder: &Path, name: &str, file: &Path, cores: &[usize]) -> io::Result<Guarded> {
    let program = find_program("nginx").ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(file);
    // Before the configuration is read, errors would go to the system's log.
    command.args(["-e", "stderr"]);
    Guarded::start(command, cores, &folder.join(format!("{name}.log")), false)
}

/// All but the servers.
fn around(folder: &Path, (name, workers): (&str, usize), servers: &str) -> String {
    let folder = text(folder);
    format!(
        "daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {folder}/{name}.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
{servers}}}
"
    )
}

fn proxy(addr: SocketAddr, upstream: u16, ca: &Path) -> String {
    let ca = text(ca);
    format!(
        "    upstream discord {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {addr} backlog=4096;
        location / {{
            proxy_pass https://discord;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection \"\";
            proxy_set_header Host localhost;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_session_reuse on;
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {ca};
        }}
    }}
"
    )
}

/// nginx as the upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it serves.
    pub addr: SocketAddr,
    /// The authority that vouches for it.
    pub ca_pem: String,
    process: Guarded,
}

impl Upstream {
    /// Starts it on the upstream's core.
    ///
    /// # Errors
    /// When nginx is missing or does not start.
    pub(crate) fn start(folder: &Path, cores: &Cores) -> io::Result<Self> {
        let identity = Identity::make(Tls::Valid)?.ok_or(io::ErrorKind::Unsupported)?;
        let (cert, key) = (folder.join("upstream.pem"), folder.join("upstream.key"));
        fs::write(&cert, &identity.cert_pem)?;
        fs::write(&key, &identity.key_pem)?;
        let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_address()?.port());
        let file = folder.join("upstream.conf");
        let (cert, key, body) = (text(&cert), text(&key), traffic::body(BODY_BYTES));
        let server = format!(
            "    server {{
        listen {addr} ssl backlog=4096;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location / {{
            default_type application/json;
            add_header Via '1.1 google';
            add_header X-RateLimit-Bucket {BUCKET};
            add_header X-RateLimit-Limit 10000;
            add_header X-RateLimit-Remaining 9990;
            add_header X-RateLimit-Reset-After 1.000;
            return 200 '{body}';
        }}
    }}
"
        );
        fs::write(&file, around(folder, ("upstream", 1), &server))?;
        let mut process = run(folder, "upstream", &file, &[cores.upstream])?;
        await_serving(&mut process, addr)?;
        Ok(Self {
            addr,
            ca_pem: identity.ca_pem,
            process,
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

pub(super) fn version() -> String {
    first_line("nginx", "-v")
}
