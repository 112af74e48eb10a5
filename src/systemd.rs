//! What systemd and its like do for a service: hold its listening sockets over a restart, and hear
//! when it serves.
//!
//! A socket that somebody else holds is never closed by a restart: clients that connect meanwhile
//! stand in its queue until the next weir takes them in. The names (`FileDescriptorName=`) say which
//! socket is which: `metrics` is the metrics port's, `clients` the clients'. One without a name of its
//! own is the clients' too; systemd calls it after its unit.
//!
//! All workers accept from the one queue. With io_uring the kernel wakes one worker a connection, since
//! its accept polls with `EPOLLEXCLUSIVE`; with epoll all that sleep are woken, and one finds the
//! connection. Seen with two workers and 400 connections one by one: 124 and 273 wakes with io_uring, 393
//! and 232 with epoll. So the spread is not as even as that of one listener a worker, which a socket
//! that outlives its process cannot be. Of several sockets for clients, every worker accepts from each.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::{Domain, Socket, Type};

use crate::error::StartError;

/// Sockets handed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// For clients; none: `BIND_IP` and `PORT` say where.
    pub clients: Vec<TcpListener>,
    /// For `/metrics`; none: `BIND_IP` and `METRICS_PORT` say where.
    pub metrics: Option<TcpListener>,
}

/// What systemd calls a socket that was given no name, beside the name of its unit.
const NAMELESS: [&str; 3] = ["", "unknown", "connection"];

/// Takes the sockets that were handed over (`LISTEN_FDS`, `LISTEN_FDNAMES`, sd_listen_fds(3)). To be
/// called once, before anything else opens descriptors.
///
/// # Errors
/// One of them is no listening TCP socket, or has a name that means nothing here.
pub fn inherited() -> Result<Inherited, StartError> {
    let mut sockets = Inherited::default();
    let handed_over = sd_notify::listen_fds()
        .map_err(|error| StartError::Sockets(format!("it cannot be understood; {error}")))?;
    if handed_over.len() == 0 {
        if let Some(pid) = std::env::var_os("LISTEN_PID") {
            tracing::warn!(
                ?pid,
                "LISTEN_FDS has no effect: LISTEN_PID says that it is for another process; \
                 start weir itself, not through a shell"
            );
        }
        return Ok(sockets);
    }
    let names = std::env::var("LISTEN_FDNAMES").ok();
    let names = names_of(handed_over.len(), names.as_deref()).map_err(StartError::Sockets)?;
    for (fd, name) in handed_over.zip(names) {
        let listener = listener(fd, &name)?;
        match name.as_str() {
            "metrics" if sockets.metrics.is_none() => sockets.metrics = Some(listener),
            "clients" => sockets.clients.push(listener),
            unit if NAMELESS.contains(&unit) || unit.ends_with(".socket") => {
                sockets.clients.push(listener);
            }
            "metrics" => {
                return Err(StartError::Sockets(
                    "two sockets are named \"metrics\", and there is one metrics port".to_owned(),
                ));
            }
            _ => {
                return Err(StartError::Sockets(format!(
                    "a socket is named {name:?}, which is none of \"clients\" and \"metrics\"; \
                     FileDescriptorName= of its .socket unit says so"
                )));
            }
        }
    }
    Ok(sockets)
}

/// The names of so many sockets, as `LISTEN_FDNAMES` has them; without it, none has one.
fn names_of(count: usize, names: Option<&str>) -> Result<Vec<String>, String> {
    let Some(names) = names else {
        return Ok(vec![String::new(); count]);
    };
    let names: Vec<_> = names.split(':').map(str::to_owned).collect();
    if names.len() == count {
        return Ok(names);
    }
    Err(format!(
        "LISTEN_FDNAMES has {} for {count} of LISTEN_FDS; one is needed for each",
        match names.len() {
            1 => "1 name".to_owned(),
            many => format!("{many} names"),
        }
    ))
}

fn listener(fd: RawFd, name: &str) -> Result<TcpListener, StartError> {
    // SAFETY: whoever started this process left it the descriptors from 3 on to own, and this is
    // called once, before others are opened; one that is not open fails at the first use.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let tcp = || -> io::Result<bool> {
        Ok(matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6)
            && socket.r#type()? == Type::STREAM
            && socket.is_listener()?)
    };
    let wrong = match tcp() {
        Ok(true) => return Ok(socket.into()),
        Ok(false) => {
            "is no listening TCP socket; ListenStream= of its .socket unit makes one".into()
        }
        Err(error) => format!("cannot be used; {error}"),
    };
    Err(StartError::Sockets(format!(
        "descriptor {fd}, named {name:?}, {wrong}"
    )))
}

impl Inherited {
    /// All sockets for clients, for each worker: all accept from all. None if there are none.
    ///
    /// # Errors
    /// No more descriptors are to be had.
    pub fn for_workers(&self, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        if self.clients.is_empty() {
            return Ok(Vec::new());
        }
        let all = || self.clients.iter().map(TcpListener::try_clone).collect();
        (0..workers).map(|_| all()).collect()
    }
}

/// Says that weir serves.
pub fn ready(proxy: SocketAddr) {
    tell(&[
        NotifyState::Ready,
        NotifyState::Status(&format!("serving at {proxy}")),
    ]);
}

/// How long the service manager waits for a sign of life before it takes weir for stuck
/// (`WatchdogSec=`); `None`: it does not.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
}

/// Gives that sign.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Says that weir ends, and how long that may take.
pub fn stopping(patience: Duration) {
    let micros = (patience + ENDING).as_micros();
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(u32::try_from(micros).unwrap_or(u32::MAX)),
        NotifyState::Status("draining: requests under way and waiting finish"),
    ]);
}

/// What the end itself may take beyond `SHUTDOWN_TIMEOUT`: connections that are cut, and the state
/// file of a large fleet on a slow disk.
const ENDING: Duration = Duration::from_secs(10);

fn tell(state: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Whether what is written to `stream` goes to the journal: `JOURNAL_STREAM` names the device and inode
/// of the socket that systemd.exec(5) has put there.
pub fn is_journal(stream: &impl AsFd) -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let Ok(stream) = stream.as_fd().try_clone_to_owned() else {
        return false;
    };
    let stream = File::from(stream).metadata();
    let own = stream.map(|stream| format!("{}:{}", stream.dev(), stream.ino()));
    named.is_some() && named == own.ok()
}

/// Says what becomes of connections that arrive while weir restarts, since nobody else holds its
/// sockets.
///
/// With `net.ipv4.tcp_migrate_req` (kernel 5.14) the kernel hands connections that are queued on a
/// closing listener to another one of the same port. That spares those of a worker that ends before
/// the others; behind the last one there is nobody to hand to.
pub fn hint_at_restarts() {
    const SETTING: &str = "/proc/sys/net/ipv4/tcp_migrate_req";
    let setting = std::fs::read_to_string(SETTING);
    let tcp_migrate_req = setting.as_deref().map_or("unknown", str::trim);
    tracing::info!(
        tcp_migrate_req,
        "connections are refused while weir restarts, since it opened its port itself; \
         socket activation (LISTEN_FDS) lets them wait instead"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_name_or_none_has() {
        assert_eq!(names_of(2, None).unwrap(), ["", ""]);
        assert_eq!(
            names_of(2, Some("clients:metrics")).unwrap(),
            ["clients", "metrics"]
        );
        assert_eq!(names_of(2, Some("a:")).unwrap(), ["a", ""]);
        assert_eq!(
            names_of(2, Some("clients")).unwrap_err(),
            "LISTEN_FDNAMES has 1 name for 2 of LISTEN_FDS; one is needed for each"
        );
    }
}
