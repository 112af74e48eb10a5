//! The proxy under demonstration: weir, embedded.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// How long requests under way may take when it ends: the bots have their answers by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running weir; dropping it ends it.
pub struct Proxy {
    /// Where bots reach it.
    pub addr: SocketAddr,
    /// Where its metrics are.
    pub metrics_addr: Option<SocketAddr>,
    /// `None` only while it is dropped.
    handle: Option<weir::Handle>,
}

impl Proxy {
    /// Starts weir before the server at `upstream_url`, whose authority is in `ca_file`.
    ///
    /// # Errors
    /// What stopped weir's start.
    pub fn start(upstream_url: &str, ca_file: &Path) -> io::Result<Self> {
        let config = weir::Config {
            bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            metrics_port: 0,
            upstream: upstream_url
                .parse()
                .map_err(|_| io::Error::other(format!("{upstream_url} is no upstream URL")))?,
            upstream_ca_file: Some(ca_file.to_owned()),
            ..weir::Config::default()
        };
        let handle = weir::start(config).map_err(io::Error::other)?;
        Ok(Self {
            addr: handle.proxy_addr(),
            metrics_addr: handle.metrics_addr(),
            handle: Some(handle),
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown(PATIENCE);
        }
    }
}
