//! Who takes part in a comparison, and how each is started.
//!
//! Every peer is a process of its own on a core of its own, started anew for every sample, with
//! its connections to the upstream kept alive and TLS 1.3 verified against the upstream's
//! authority. What each does with a request is in its module.

mod haproxy;
mod nginx;
mod relay;
mod relayed;
mod weir;

pub(super) use nginx::Upstream as NginxUpstream;
pub(crate) use weir::find as find_weir;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::host::{self, Cores, Guarded};
use super::traffic::Fleet;
use crate::client::Target;
use crate::load::Plan;

/// How long a peer may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// One that takes part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, clap::ValueEnum)]
pub enum Peer {
    /// weir, one worker, on io_uring.
    Weir,
    /// weir, one worker, on epoll.
    WeirEpoll,
    /// weir, two workers, on io_uring.
    Weir2,
    /// Two nodes of weir, one worker each on one core; one takes what the other owns.
    WeirRelayed,
    /// nginx, one worker.
    Nginx,
    /// nginx, two workers.
    Nginx2,
    /// haproxy, one thread.
    Haproxy,
    /// haproxy, two threads.
    Haproxy2,
    /// A bare byte relay on io_uring: the floor.
    Relay,
    /// Nobody: the load goes straight to the upstream, over TLS.
    Direct,
    /// As direct, with the upstream on the core that a proxy would have: a message then wakes
    /// another core, as each does that comes to a proxy or leaves one.
    DirectApart,
}

/// What peers are started with.
#[derive(Debug)]
pub struct Stage {
    /// Where configurations and logs go.
    pub folder: PathBuf,
    /// The upstream over TLS; its name is `localhost`.
    pub upstream: SocketAddr,
    /// The plain upstream of the relay.
    pub upstream_plain: SocketAddr,
    /// The upstream's authority, and the same as a file.
    pub ca_pem: String,
    /// See `ca_pem`.
    pub ca_file: PathBuf,
    /// Who runs where.
    pub cores: Cores,
    /// The weir under test.
    pub weir: PathBuf,
    /// `BOT_RATELIMIT_OVERRIDES` for it.
    pub overrides: String,
    /// More settings of weir's.
    pub settings: Vec<(&'static str, String)>,
}

/// A peer that serves.
pub struct Running {
    /// How to reach it.
    pub target: Target,
    /// None when there is nobody between load and upstream.
    processes: Vec<Guarded>,
    /// Whose requests alone are to be sent, if not everybody's.
    owner: Option<relayed::Owner>,
}

impl Running {
    /// The processes whose cost counts.
    pub fn serving(&self) -> Vec<u32> {
        let processes = self.processes.iter();
        processes
            .flat_map(|process| host::serving(process.pid()))
            .collect()
    }
}

impl Running {
    /// The requests of a fleet that this peer is to be sent.
    pub(super) fn plan(&self, fleet: Fleet) -> Plan {
        match &self.owner {
            None => fleet.plan(),
            Some(owner) => fleet.plan_for(|authorization| owner.owns(authorization)),
        }
    }
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Weir,
        Self::WeirEpoll,
        Self::Weir2,
        Self::WeirRelayed,
        Self::Nginx,
        Self::Nginx2,
        Self::Haproxy,
        Self::Haproxy2,
        Self::Relay,
        Self::Direct,
        Self::DirectApart,
    ];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::WeirEpoll => "weir-epoll",
            Self::Weir2 => "weir-2-workers",
            Self::WeirRelayed => "weir-relayed",
            Self::Nginx => "nginx",
            Self::Nginx2 => "nginx-2-workers",
            Self::Haproxy => "haproxy",
            Self::Haproxy2 => "haproxy-2-threads",
            Self::Relay => "relay",
            Self::Direct => "direct",
            Self::DirectApart => "direct-apart",
        }
    }

    /// How many cores it is given.
    pub fn workers(self) -> usize {
        match self {
            Self::Weir2 | Self::Nginx2 | Self::Haproxy2 => 2,
            Self::Weir
            | Self::WeirEpoll
            | Self::WeirRelayed
            | Self::Nginx
            | Self::Haproxy
            | Self::Relay
            | Self::Direct
            | Self::DirectApart => 1,
        }
    }

    /// The weir that it is compared with: one with as many workers.
    pub fn beside(self) -> Self {
        match self {
            Self::Nginx2 | Self::Haproxy2 => Self::Weir2,
            Self::Weir
            | Self::WeirEpoll
            | Self::Weir2
            | Self::WeirRelayed
            | Self::Nginx
            | Self::Haproxy
            | Self::Relay
            | Self::Direct
            | Self::DirectApart => Self::Weir,
        }
    }

    /// Why it cannot take part, if it cannot.
    pub fn missing(self, cores: &Cores) -> Option<String> {
        if cores.all.len() < self.workers() {
            return Some("there is only one core".to_owned());
        }
        let program = match self {
            Self::Nginx | Self::Nginx2 => "nginx",
            Self::Haproxy | Self::Haproxy2 => "haproxy",
            Self::Weir
            | Self::WeirEpoll
            | Self::Weir2
            | Self::WeirRelayed
            | Self::Relay
            | Self::Direct
            | Self::DirectApart => return None,
        };
        host::find_program(program)
            .is_none()
            .then(|| format!("{program} is not installed"))
    }

    /// What it is, with its version where it has one.
    pub fn describe(self) -> String {
        match self {
            Self::Weir | Self::WeirEpoll | Self::Weir2 | Self::WeirRelayed => {
                format!("weir {}, this build", env!("CARGO_PKG_VERSION"))
            }
            Self::Nginx | Self::Nginx2 => nginx::version(),
            Self::Haproxy | Self::Haproxy2 => haproxy::version(),
            Self::Relay => "byte relay on io_uring, no TLS".to_owned(),
            Self::Direct => "no proxy".to_owned(),
            Self::DirectApart => "no proxy, the upstream on a proxy's core".to_owned(),
        }
    }

    /// Starts it, and returns when it accepts connections.
    ///
    /// # Errors
    /// When it does not start; with the last line it said.
    pub fn start(self, stage: &Stage) -> io::Result<Running> {
        self.start_with(stage, self.workers())
    }

    /// As [`Self::start`], with so many workers or threads; the relay has one.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(self, stage: &Stage, workers: usize) -> io::Result<Running> {
        let started = match self {
            Self::Weir | Self::Weir2 => weir::start(stage, workers, "io_uring"),
            Self::WeirEpoll => weir::start(stage, workers, "epoll"),
            Self::WeirRelayed => {
                return relayed::start(stage).map_err(|error| {
                    let text = format!("{}: {error}", self.name());
                    io::Error::new(error.kind(), text)
                });
            }
            Self::Nginx | Self::Nginx2 => nginx::start(stage, workers),
            Self::Haproxy | Self::Haproxy2 => haproxy::start(stage, workers),
            Self::Relay => relay::start(stage),
            Self::Direct | Self::DirectApart => {
                return Ok(Running {
                    target: Target::tls(stage.upstream, &stage.ca_pem)?,
                    processes: Vec::new(),
                    owner: None,
                });
            }
        };
        let started = started.and_then(|(mut process, addr)| {
            await_serving(&mut process, addr)?;
            Ok((process, addr))
        });
        let (process, addr) = started
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name())))?;
        Ok(Running {
            target: Target::plain(addr),
            processes: vec![process],
            owner: None,
        })
    }
}

/// Waits until `addr` takes connections.
fn await_serving(process: &mut Guarded, addr: SocketAddr) -> io::Result<()> {
    let end = Instant::now() + START_PATIENCE;
    loop {
        process.check()?;
        match TcpStream::connect(addr) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// An address on loopback that nobody uses now.
fn free_address() -> io::Result<SocketAddr> {
    free_address_on(Ipv4Addr::LOCALHOST.into())
}

fn free_address_on(ip: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}

/// The first line of what a program says about its version.
fn first_line(program: &str, argument: &str) -> String {
    let Some(path) = host::find_program(program) else {
        return format!("{program}, not installed");
    };
    let output = std::process::Command::new(path).arg(argument).output();
    let said = output.map(|out| [out.stdout, out.stderr].concat());
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    said.lines().next().unwrap_or(program).to_owned()
}

/// A path as configurations want it.
fn text(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}
