//! Whether each port can be listened on.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::report::Report;
use crate::config::{Config, Listener};
use crate::error::StartError;
use crate::io::listen;

/// How long whoever holds a port has to say that it is a weir.
const SAY_SO: Duration = Duration::from_secs(1);

/// Binds each port for a moment.
pub(super) fn all(report: &mut Report, config: &Config) {
    let listeners: Vec<_> = config.listeners().collect();
    let mut by_weir = None;
    for listener in &listeners {
        let tried = report.trying(listener.setting);
        let address = SocketAddr::new(listener.ip, listener.port);
        match bind(listener, address) {
            Ok(()) if listener.port == 0 => tried.ok(&format!("any free port of {}", listener.ip)),
            Ok(()) => tried.ok(&format!("{address} is free")),
            Err(error @ StartError::BindInUse { .. }) => {
                let weir = *by_weir.get_or_insert_with(|| listeners.iter().any(is_weir));
                if weir {
                    tried.warning(
                        &format!("{address} is in use, by the weir that runs here as it seems"),
                        "fine if that is the one meant; another one needs another port",
                    );
                } else {
                    tried.start_error(&error);
                }
            }
            Err(error) => tried.start_error(&error),
        }
    }
}

fn bind(listener: &Listener, address: SocketAddr) -> Result<(), StartError> {
    let failed = |source| StartError::listening(listener.setting, address, source);
    if listener.setting == "CLUSTER_PORT" {
        UdpSocket::bind(address).map_err(failed)?;
    }
    listen::bind(address, 1).map(drop).map_err(failed)
}

/// Whether a weir answers there, to whom it lets in.
fn is_weir(listener: &Listener) -> bool {
    ["PORT", "METRICS_PORT"].contains(&listener.setting)
        && healthy(listener)
            .is_ok_and(|answer| answer.ends_with(b"ok") || answer.ends_with(b"ok\n"))
}

fn healthy(listener: &Listener) -> io::Result<Vec<u8>> {
    let ip = match listener.ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, listener.port), SAY_SO)?;
    stream.set_read_timeout(Some(SAY_SO))?;
    stream.write_all(b"GET /nirn/healthz HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // Enough for the answer of a weir.
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(answer)
}
