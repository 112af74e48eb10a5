//! The way to the upstream, step by step: name, address, certificate, answer.
//!
//! Each step is the one that a worker takes for a request: [`dial`], [`Connection`], on the driver that
//! would serve.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::RENEW_DAYS;
use super::report::Report;
use crate::clock;
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::http1::{Method, Parse, parse_response};
use crate::io::deadline::Alarm;
use crate::io::runtime::{Chosen, WorkerRuntime};
use crate::io::{Deadlines, listen};
use crate::server;
use crate::tls::{Certificate, ClientSession, Trust};
use crate::upstream::connection::{Connection, handshake_error};
use crate::upstream::trust::{self, Seen};
use crate::upstream::{dial, resolve};
use crate::worker::USER_AGENT;

/// How long one step may take: longer than any that works, shorter than a person's patience.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Where Discord says that it is there, to whoever asks.
const PATH: &str = "/api/v10/gateway";

/// Largest part of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Takes all steps, up to the first that fails.
pub(super) fn reach(report: &mut Report, config: &Config, driver: Chosen) {
    if let Err(error) = server::check_outbound(config) {
        return report.trying("OUTBOUND_IP").start_error(&error);
    }
    let Some(addresses) = addresses(report, config) else {
        return;
    };
    let mut runtime = match WorkerRuntime::build(driver) {
        Ok(runtime) => runtime,
        Err(error) => {
            let said = format!("{driver:?} cannot be set up: {error}");
            return report
                .trying("IO_DRIVER")
                .failed(&said, "IO_DRIVER=epoll may do");
        }
    };
    runtime.block_on(connect(report, config, &addresses));
}

fn addresses(report: &mut Report, config: &Config) -> Option<Vec<SocketAddr>> {
    let upstream = &config.upstream;
    let tried = report.timing("DNS");
    let host = upstream.host.trim_matches(['[', ']']);
    let found = match resolve::look_up(host, upstream.port) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => {
            tried.failed(&format!("{host} has no address"), RESOLVER);
            return None;
        }
        Err(error) => {
            tried.failed(&format!("{host}: {error}"), RESOLVER);
            return None;
        }
    };
    let listening = SocketAddr::new(config.bind_ip, config.port);
    if found.iter().any(|&at| listen::is_reached_at(listening, at)) {
        let said = format!("{host} is this weir itself: requests would go round in circles");
        tried.wrong(&said, "UPSTREAM_URL, or PORT, must be another");
        return None;
    }
    let list: Vec<_> = found
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    let usable = |address: &&SocketAddr| {
        let outbound = config.outbound_ip;
        outbound.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4())
    };
    let usable: Vec<_> = found.iter().filter(usable).copied().collect();
    if usable.is_empty() {
        tried.failed(
            &format!("{host}: {}", list.join(", ")),
            "none of them is of OUTBOUND_IP's kind: one is IPv4, the other IPv6",
        );
        return None;
    }
    tried.ok(&format!("{host}: {}", list.join(", ")));
    Some(usable)
}

const RESOLVER: &str =
    "is the name right? /etc/resolv.conf says who is asked; `getent hosts` asks the same way";

/// A step's outcome, or that it took too long.
async fn within<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    monoio::time::timeout(STEP_MAX, step)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::ConnectTimeout)))
}

async fn connect(report: &mut Report, config: &Config, addresses: &[SocketAddr]) {
    // Never armed but by the steps, which end before.
    let deadlines = Deadlines::new(clock::now(), Rc::new(Alarm::default()));
    let mut reached = None;
    let mut refused = Vec::new();
    for &address in addresses {
        let tried = report.timing("TCP");
        match within(dial::connect(
            address,
            config.outbound_ip,
            STEP_MAX,
            &deadlines,
        ))
        .await
        {
            Ok(stream) => {
                let from = stream
                    .local_addr()
                    .map_or(String::new(), |own| format!(" from {}", own.ip()));
                tried.ok(&format!("{address}{from}"));
                reached.get_or_insert((stream, address));
            }
            Err(error) => {
                tried.warning(&format!("{address}: {error}"), "");
                refused.push(error.kind);
            }
        }
    }
    let Some((stream, _)) = reached else {
        let advice = if refused.iter().all(|kind| *kind == Kind::ConnectRefused) {
            "nothing listens there: is UPSTREAM_URL right?"
        } else {
            "a firewall, a route or OUTBOUND_IP is in the way"
        };
        return report
            .trying("TCP")
            .failed("no address can be reached", advice);
    };
    let seen = Seen::default();
    let session = match session(config, &seen) {
        Ok(session) => session,
        Err(error) => return report.trying("TLS").start_error(&error),
    };
    let has_tls = session.is_some();
    let session = session.transpose().map_err(handshake_error);
    let mut connection = match session {
        Ok(session) => Connection::new(stream, session),
        Err(error) => return report.trying("TLS").failed(&error.to_string(), ""),
    };
    if has_tls {
        let tried = report.timing("TLS");
        let shaken = within(connection.handshake()).await;
        let certificate = first(&seen);
        let about = certificate
            .as_ref()
            .map_or(String::new(), |found| format!("; {}", found.about()));
        if let Err(error) = shaken {
            let advice = match error.kind {
                Kind::TlsCertificate => {
                    "somebody stands in between, or UPSTREAM_CA_FILE or the clock is wrong"
                }
                _ => "is this a port for TLS? UPSTREAM_URL=http://… speaks none",
            };
            return tried.failed(&format!("{error}{about}"), advice);
        }
        let said = format!("{}{about}", connection.protocol().unwrap_or("TLS"));
        let unix_s = i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX);
        match certificate.and_then(|found| found.days_left(unix_s)) {
            Some(days) if days < RENEW_DAYS => tried.warning(&said, "it ends soon"),
            Some(_) | None => tried.ok(&said),
        }
    }
    ask(report, config, &mut connection).await;
}

type Sessions = Option<Result<ClientSession, rustls::Error>>;

fn session(config: &Config, seen: &Seen) -> Result<Sessions, crate::error::StartError> {
    let Some(Trust { name, .. }) = server::trust(config)? else {
        return Ok(None);
    };
    let watched = trust::watched_config(config.upstream_ca_file.as_deref(), seen.clone())?;
    Ok(Some(ClientSession::connect(watched, name)))
}

fn first(seen: &Seen) -> Option<Certificate> {
    let seen: &Arc<Mutex<Option<Vec<u8>>>> = seen;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.as_deref().map(Certificate::read)
}

/// Asks what can be asked without a token.
async fn ask(report: &mut Report, config: &Config, connection: &mut Connection) {
    let tried = report.timing("HTTP");
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept: application/json\r\n\r\n",
        config.upstream.host_header()
    );
    let status = match within(exchange(connection, request.as_bytes())).await {
        Ok(status) => status,
        Err(error) => {
            return tried.failed(
                &format!("GET {PATH}: {error}"),
                "is this Discord, or a proxy of it?",
            );
        }
    };
    let said = format!("GET {PATH}: {status}");
    match status {
        200..300 => tried.ok(&said),
        403 => tried.failed(&said, "Cloudflare refuses this address; OUTBOUND_IP takes another"),
        429 => tried.failed(&said, "this address is limited for now; leave it alone for a while, or OUTBOUND_IP takes another"),
        500.. => tried.warning(&said, "Discord itself has trouble: discordstatus.com"),
        _ => tried.warning(&said, "that is not what Discord says there: is UPSTREAM_URL right?"),
    }
}

/// The status of the answer.
async fn exchange(connection: &mut Connection, request: &[u8]) -> Result<u16, Error> {
    let (mut sender, mut receiver) = connection.split();
    sender.queue(request)?;
    sender.flush().await.map_err(Error::exchanging)?;
    loop {
        let count = receiver.receive().await?;
        let plain = receiver.plain();
        match parse_response(plain.as_slice(), Method::Get) {
            Parse::Complete(head) => return Ok(head.status),
            Parse::Invalid(_) => return Err(Error::new(Kind::GarbageAnswer)),
            Parse::Partial if count == 0 => return Err(Error::new(Kind::ClosedBeforeAnswer)),
            Parse::Partial if plain.len() > ANSWER_BYTES_MAX => {
                return Err(Error::new(Kind::GarbageAnswer));
            }
            Parse::Partial => {}
        }
    }
}
