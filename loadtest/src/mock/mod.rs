//! A mock Discord with an oracle.
//!
//! ```no_run
//! use loadtest::mock::{self, MockConfig};
//! let mock = mock::start(MockConfig::default())?;
//! // … send requests to https://{mock.addr}, trusting mock.ca_pem …
//! assert_eq!(mock.oracle().violations, 0);
//! # std::io::Result::Ok(())
//! ```
//!
//! `world` is Discord as a pure value: `route`, `limits`, `endpoint`, `faults` and `oracle` under
//! one judgement. Around it `server`, `conn`, `wire`, `http` and `answer` speak TLS and HTTP/1.1.
//! One thread answers well above 40,000 small requests a second over kept-alive TLS.

pub mod answer;
pub mod body;
pub mod clock;
mod coding;
mod conn;
mod control;
pub mod endpoint;
pub mod faults;
pub mod http;
pub mod limits;
pub mod multipart;
pub mod objects;
pub mod oracle;
pub mod route;
mod server;
pub mod settings;
pub mod tls;
mod wire;
pub mod world;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use serde_json::Value;

pub(crate) use self::conn::PATTERN_PERIOD;
use self::faults::Fault;
use self::oracle::{Arrival, OracleReport};
use self::server::{Command, Local, Shared};
use self::settings::Settings;
use self::tls::{Identity, Tls};
use self::world::World;
use crate::runtime::{self, Driver};

/// How a mock is started.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// Where it listens, a loopback address.
    pub ip: IpAddr,
    /// Its port, zero for any.
    pub port: u16,
    /// How it shows itself.
    pub tls: Tls,
    /// Its threads, at least 1.
    pub threads: usize,
    /// How it does its IO.
    pub driver: Driver,
    /// Decides chances of faults and jitter.
    pub seed: u64,
    /// Whether [`MockHandle::lateness`] is watched, at the price of 200 wake-ups a second.
    pub watched: bool,
    /// What can be changed later, too.
    pub settings: Settings,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            tls: Tls::Valid,
            threads: 1,
            driver: Driver::Auto,
            seed: 1,
            watched: false,
            settings: Settings::default(),
        }
    }
}

/// A running mock; dropping it stops it.
pub struct MockHandle {
    /// Where it serves.
    pub addr: SocketAddr,
    /// Where it answers control requests, always without TLS and never counted.
    pub control_addr: SocketAddr,
    /// The authority that vouches for it; empty without TLS.
    pub ca_pem: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts a mock on threads of its own.
///
/// # Errors
/// When the address is in use, certificates cannot be made or no runtime can be built.
pub fn start(config: MockConfig) -> io::Result<MockHandle> {
    let identity = Identity::make(config.tls)?;
    let (ca_pem, tls) = identity.map_or((String::new(), None), |i| (i.ca_pem, Some(i.config)));
    let world = World::new(config.settings, config.seed);
    let shared = Arc::new(Shared::new(tls, world, config.watched));
    let count = config.threads.max(1);
    let first = server::bind(SocketAddr::new(config.ip, config.port), count > 1)?;
    let addr = first.local_addr()?;
    let control = server::bind(SocketAddr::new(config.ip, 0), false)?;
    let control_addr = control.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(server::bind(addr, true)?);
    }
    let mut handle = MockHandle {
        addr,
        control_addr,
        ca_pem,
        shared,
        threads: Vec::new(),
    };
    let (ready, readiness) = mpsc::channel();
    let mut control = Some(control);
    for (i, listener) in listeners.into_iter().enumerate() {
        let (shared, control, ready) = (Arc::clone(&handle.shared), control.take(), ready.clone());
        let pipe = shared.pipe()?;
        let run = move || match runtime::build(config.driver) {
            Ok(runtime) => {
                let _ = ready.send(Ok(()));
                let local = Rc::new(Local::new(shared, i as u64));
                server::run(runtime, local, listener, control, pipe);
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let name = format!("mock-{i}");
        handle
            .threads
            .push(std::thread::Builder::new().name(name).spawn(run)?);
    }
    drop(ready);
    for _ in 0..count {
        readiness.recv().map_err(io::Error::other)??;
    }
    Ok(handle)
}

impl MockHandle {
    /// Its URL, with `localhost` as the name.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_empty() {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://localhost:{}", self.addr.port())
    }

    /// What the oracle can tell now.
    pub fn oracle(&self) -> OracleReport {
        self.shared.report()
    }

    /// The longest that one of its threads was kept from its work since this was last asked for: a
    /// machine that stood still, or too much to do. What arrives meanwhile is judged late. Zero
    /// unless [`MockConfig::watched`].
    pub fn lateness(&self) -> std::time::Duration {
        self.shared.lateness()
    }

    /// Forgets what was seen, all counters and bans.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.shared.world().settings().clone()
    }

    /// Replaces the settings.
    pub fn set_settings(&self, settings: Settings) {
        self.shared.configure(settings);
    }

    /// Merges a patch into the settings, as `POST /__mock/config` does.
    ///
    /// # Errors
    /// When the result would be no settings; nothing is changed then.
    pub fn patch_settings(&self, patch: &Value) -> Result<(), serde_json::Error> {
        self.shared.patch(patch)
    }

    /// Replaces all faults.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        let settings = Settings {
            faults,
            ..self.settings()
        };
        self.set_settings(settings);
    }

    /// Closes the main listener, so that connecting is refused, or opens it again; open
    /// connections go on. Takes effect within some milliseconds.
    pub fn set_listening(&self, listening: bool) {
        self.shared.command(if listening {
            Command::Listen
        } else {
            Command::Refuse
        });
    }

    /// Ends every connection of the main listener.
    pub fn close_connections(&self) {
        self.shared.command(Command::CloseAll);
    }

    /// The last arrivals whose target contains `part`, oldest first.
    pub fn arrivals(&self, part: &str) -> Vec<Arrival> {
        self.shared.world().oracle.log.of(part)
    }
}

impl Drop for MockHandle {
    fn drop(&mut self) {
        self.shared.command(Command::Stop);
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

/// The SHA-256, in hexadecimal, of the `bytes` that a download of this size sends.
pub fn download_sha256(bytes: u64) -> String {
    let block: Vec<u8> = (0..PATTERN_PERIOD).map(|i| i as u8).collect();
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut left = bytes;
    while left > 0 {
        let n = left.min(block.len() as u64);
        hash.update(&block[..n as usize]);
        left -= n;
    }
    hash.finish()
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// FNV-1a with a final mix: the same in every process, so that names of counters and buckets are.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
