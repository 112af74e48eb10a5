//! The proxy under demonstration: weir as its own process, configured by its variables.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, Target};

/// How long weir may take until its health path answers.
const START: Duration = Duration::from_secs(5);

/// A running weir; dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    /// Where bots reach it.
    pub addr: SocketAddr,
    /// Where its metrics are.
    pub metrics_addr: SocketAddr,
    child: Child,
}

impl Proxy {
    /// Starts the program at `weir` before the server at `upstream_url`, whose authority is in
    /// `ca_file`, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not answer in time.
    pub fn start(weir: &Path, upstream_url: &str, ca_file: &Path) -> io::Result<Self> {
        let (addr, metrics_addr) = (free_address()?, free_address()?);
        let child = Command::new(weir)
            .env("BIND_IP", "127.0.0.1")
            .env("PORT", addr.port().to_string())
            .env("METRICS_PORT", metrics_addr.port().to_string())
            .env("UPSTREAM_URL", upstream_url)
            .env("UPSTREAM_CA_FILE", ca_file)
            .env("LOG_LEVEL", "warn")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", weir.display())))?;
        let mut proxy = Self {
            addr,
            metrics_addr,
            child,
        };
        let begin = Instant::now();
        while begin.elapsed() < START {
            if let Some(status) = proxy.child.try_wait()? {
                return Err(io::Error::other(format!("weir ended at once: {status}")));
            }
            let healthy = Client::connect(&Target::plain(addr))
                .and_then(|mut client| client.get("/nirn/healthz"))
                .is_ok_and(|answer| answer.status == 200);
            if healthy {
                return Ok(proxy);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("weir does not answer at {addr}"),
        ))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has nothing left to finish: the bots have their answers.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on at this moment.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
