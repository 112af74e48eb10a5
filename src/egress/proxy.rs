//! A forward proxy as a whole: started, asked, stopped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::hosts::credentials::{BadCredentials, Credentials};
use super::hub::Hub;
use super::limits::Limits;
use super::shared::{Fleet, FleetError};
use super::{lookup, worker};
use crate::clock;
use crate::config::{AllowFrom, Config, IoDriver, RedisSettings, bounds, forward};
use crate::error::StartError;
use crate::io::descriptors;
use crate::io::listen;
use crate::io::runtime::{self, Chosen};

/// What a forward proxy is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its own settings; [`port`](forward::Forward::port) `None` is a free one here.
    pub settings: forward::Forward,
    /// Who may connect.
    pub allow_from: AllowFrom,
    /// The local address of connections to hosts.
    pub outbound_ip: Option<IpAddr>,
    /// From the first byte of a request to the end of its head, and from a connection's beginning to
    /// the first byte.
    pub header_timeout: Duration,
    /// How long a client's connection may be silent between requests.
    pub client_idle_timeout: Duration,
    /// Threads that serve.
    pub workers: usize,
    /// What they wait for the kernel with.
    pub io_driver: IoDriver,
    /// Where its caps are shared with other proxies; `None` if they are its own.
    pub redis: Option<RedisSettings>,
}

impl Options {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            settings: config.forward.clone(),
            allow_from: config.allow_from.clone(),
            outbound_ip: config.outbound_ip,
            header_timeout: config.client_header_timeout,
            client_idle_timeout: config.client_idle_timeout,
            workers: config.worker_count(cores),
            io_driver: config.io_driver,
            redis: config.redis(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// A running forward proxy. Dropping it ends it at once; [`ForwardProxy::stop`] lets connections
/// finish.
///
/// ```no_run
/// use weir::egress::{ForwardProxy, Options};
///
/// let mut options = Options::default();
/// options.settings.max_connections = 20;
/// let proxy = ForwardProxy::start(options)?;
/// proxy.limits().set_host_limit("api.example.com", 5).expect("a host");
/// println!("HTTPS_PROXY={}", proxy.proxy_url());
/// proxy.stop(std::time::Duration::from_secs(10));
/// # Ok::<(), weir::StartError>(())
/// ```
pub struct ForwardProxy {
    hub: Arc<Hub>,
    addr: SocketAddr,
    workers: Vec<JoinHandle<()>>,
}

impl ForwardProxy {
    /// Binds its port and starts its threads.
    ///
    /// # Errors
    /// The port is in use or not ours, the file of credentials cannot be used, the I/O driver that was
    /// asked for is refused, a thread cannot be started, Redis refuses its use. Nothing is left running.
    /// A Redis that cannot be reached is no error.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let limit = descriptors::limit().unwrap_or(u64::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // A client and its host are two; a quarter is left to the program around it.
        let most = (limit / 8 * 3).max(1);
        Self::start_with(options, most)
    }

    /// [`ForwardProxy::start`] with no more than so many clients.
    pub(crate) fn start_with(options: Options, clients_max: usize) -> Result<Self, StartError> {
        let (driver, _) = runtime::choose(options.io_driver).map_err(StartError::RingRefused)?;
        let file = options.settings.credentials_file.as_deref();
        let credentials = file.map(read_credentials).transpose()?;
        let mut options = options;
        options.workers = options.workers.clamp(1, bounds::WORKERS_MAX);
        let address = SocketAddr::new(
            options.settings.bind_ip,
            options.settings.port.unwrap_or_default(),
        );
        let not_listening = |source| StartError::listening("FORWARD_PORT", address, source);
        let listeners = listen::bind(address, options.workers).map_err(not_listening)?;
        let addr = listeners
            .first()
            .map_or(Ok(address), std::net::TcpListener::local_addr)
            .map_err(not_listening)?;
        let places = options.settings.max_clients.min(clients_max);
        // After the port: it shows that no other proxy, whose this Redis is, runs here.
        let fleet = options.redis.as_ref().map(start_fleet).transpose()?;
        let hub = Arc::new(Hub::new(options, credentials, fleet, places));
        let mut proxy = Self {
            hub,
            addr,
            workers: Vec::new(),
        };
        lookup::start(&proxy.hub)?;
        proxy.start_workers(listeners, driver)?;
        Ok(proxy)
    }

    fn start_workers(
        &mut self,
        listeners: Vec<std::net::TcpListener>,
        driver: Chosen,
    ) -> Result<(), StartError> {
        let (ready, started) = mpsc::channel();
        let count = listeners.len();
        for (index, listener) in listeners.into_iter().enumerate() {
            let (hub, ready) = (self.hub.clone(), ready.clone());
            let run = move || {
                let told = ready.clone();
                let stands = || drop(told.send(Ok(())));
                let run = AssertUnwindSafe(|| worker::run(index, hub, listener, driver, stands));
                let result = catch_unwind(run)
                    .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")));
                if let Err(error) = result {
                    tracing::error!(%error, "a worker of the forward proxy failed");
                    // Nobody listens any more once all have started.
                    drop(ready.send(Err(error)));
                }
            };
            let thread = thread::Builder::new()
                .name(format!("weir-fwd-{index}"))
                .spawn(run)
                .map_err(StartError::Thread)?;
            self.workers.push(thread);
        }
        drop(ready);
        for _ in 0..count {
            let result = started
                .recv()
                .unwrap_or_else(|_| Err(io::Error::other("it ended by itself")));
            result.map_err(|source| StartError::System {
                what: "set up a worker of the forward proxy",
                source,
            })?;
        }
        Ok(())
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What clients on this machine name as their proxy: `http://127.0.0.1:8080`.
    pub fn proxy_url(&self) -> String {
        let mut addr = self.addr;
        match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip([127, 0, 0, 1].into()),
            IpAddr::V6(ip) if ip.is_unspecified() => {
                addr.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        format!("http://{addr}")
    }

    /// Reads `FORWARD_CREDENTIALS_FILE` again, for requests from now on; tunnels that stand stay. False
    /// if there is none.
    ///
    /// # Errors
    /// It cannot be used; who could use the proxy before still can.
    pub fn reload(&self) -> Result<bool, StartError> {
        let Some(file) = &self.hub.settings.credentials_file else {
            return Ok(false);
        };
        self.hub.let_in(read_credentials(file)?);
        Ok(true)
    }

    /// The caps on connections, to be read and changed, also from other threads.
    pub fn limits(&self) -> Limits {
        Limits {
            hub: self.hub.clone(),
        }
    }

    /// Stops accepting, ends idle connections, gives tunnels and exchanges up to `deadline`, then cuts
    /// what is left. True if nothing was.
    pub fn stop(mut self, deadline: Duration) -> bool {
        self.begin_to_stop();
        self.finish(deadline)
    }

    /// Stops accepting and ends idle connections.
    pub(crate) fn begin_to_stop(&self) {
        self.hub.draining.store(true, Ordering::SeqCst);
        self.hub.lookup.end();
        self.hub.nudge();
    }

    /// Waits for the rest up to `deadline`, then cuts it.
    pub(crate) fn finish(&mut self, deadline: Duration) -> bool {
        let until = clock::now() + deadline;
        while !self.workers.iter().all(JoinHandle::is_finished) && clock::now() < until {
            thread::sleep(LOOK.min(until.saturating_duration_since(clock::now())));
        }
        self.hub.refusing.store(true, Ordering::SeqCst);
        self.hub.nudge();
        let told = clock::now() + LAST_WORD;
        while self.hub.waiting.load(Ordering::SeqCst) > 0 && clock::now() < told {
            thread::sleep(LOOK);
        }
        self.hub.aborting.store(true, Ordering::SeqCst);
        self.hub.nudge();
        for thread in self.workers.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of the forward proxy panicked");
            }
        }
        // Now that nothing is open any more.
        if let Some(common) = &self.hub.common {
            let patience = until.saturating_duration_since(clock::now()).max(FAREWELL);
            if !common.fleet.stop(patience) {
                tracing::warn!(
                    "Redis does not answer; what this proxy had there runs out by itself"
                );
            }
        }
        self.hub.cut.load(Ordering::SeqCst) == 0
    }
}

/// How often it is looked whether all workers have ended.
const LOOK: Duration = Duration::from_millis(10);

/// How long those who are refused at the end have to take their answer.
const LAST_WORD: Duration = Duration::from_millis(250);

/// What Redis has at the least to forget this proxy: twice what it has to answer by default.
const FAREWELL: Duration = Duration::from_secs(1);

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.begin_to_stop();
            self.finish(Duration::ZERO);
        }
    }
}

fn start_fleet(settings: &RedisSettings) -> Result<Fleet, StartError> {
    Fleet::start(settings).map_err(|error| match error {
        FleetError::Redis { address, source } => StartError::Redis {
            setting: source.setting(),
            address,
            source: Box::new(source),
        },
        FleetError::Thread(error) => StartError::Thread(error),
    })
}

/// Those who stand in `FORWARD_CREDENTIALS_FILE`.
///
/// # Errors
/// It cannot be read, or is no list of `user:password`.
pub(crate) fn read_credentials(path: &Path) -> Result<Credentials, StartError> {
    let unusable = |line| StartError::Credentials {
        path: path.to_owned(),
        line,
    };
    let file = std::fs::read(path).map_err(|source| StartError::FileUnreadable {
        setting: "FORWARD_CREDENTIALS_FILE",
        path: path.to_owned(),
        source,
    })?;
    Credentials::parse(&file).map_err(|bad| match bad {
        BadCredentials::Line(line) => unusable(Some(line)),
        BadCredentials::Empty => unusable(None),
    })
}
