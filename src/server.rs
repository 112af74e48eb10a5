//! Starting and stopping: listeners, workers, DNS, the metrics port.
//!
//! [`start`] binds and checks everything before it returns, so what can be wrong with a
//! configuration is known at once; the [`Handle`] it returns ends the server when told to.

mod pulse;

pub use pulse::Pulse;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::access::{Access, Style};
use crate::admin::{self, AdminServer};
use crate::clock;
use crate::cluster::passes::Passes;
use crate::cluster::{self, Cluster, Members, Secret, secret};
use crate::config::{Config, Wrong, bounds};
use crate::egress::{ForwardProxy, Options};
use crate::error::StartError;
use crate::identify::{self, Queues};
use crate::io::descriptors::{self, Shares, Wanted};
use crate::io::listen;
use crate::io::runtime::{self, Chosen};
use crate::limit::Settings;
use crate::mesh::Mesh;
use crate::metrics::AdminRefused;
use crate::places::Places;
use crate::process::{Board, Overrides, Process, Table, Troubles};
use crate::route::Keys;
use crate::state::{Keeper, Kept};
use crate::systemd::{self, Inherited};
use crate::tls::{Credentials, Current, NodeTrust, Trust};
use crate::upstream::resolve::Resolver;
use crate::upstream::{Target, trust};
use crate::watch::Watch;
use crate::worker;

/// A running weir. Dropping it ends it at once; [`Handle::shutdown`] lets requests finish.
pub struct Handle {
    process: Arc<Process>,
    proxy_addr: SocketAddr,
    queue_addr: Option<SocketAddr>,
    admin: Option<AdminServer>,
    workers: Vec<JoinHandle<()>>,
    keeper: Option<Keeper>,
    forward: Option<ForwardProxy>,
    cluster: Option<Cluster>,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
}

/// What [`Handle::wait`] waits for.
#[derive(Debug)]
pub enum Event {
    /// [`Interrupter::reload`] was called.
    Reload,
    /// [`Interrupter::interrupt`] was called, or `POST /admin/drain`.
    Interrupted,
    /// A worker serves; seen by [`start`] alone.
    Ready,
    /// A worker's thread ended: by itself only when it failed.
    WorkerEnded {
        /// Which one.
        worker: usize,
        /// How.
        result: io::Result<()>,
    },
}

/// Ends a [`Handle::wait`] from another thread.
#[derive(Clone)]
pub struct Interrupter {
    sender: mpsc::Sender<Event>,
}

impl Interrupter {
    /// Makes [`Handle::wait`] return [`Event::Reload`].
    pub fn reload(&self) {
        let _ = self.sender.send(Event::Reload);
    }

    /// Makes [`Handle::wait`] return.
    pub fn interrupt(&self) {
        // Without a handle nobody waits.
        let _ = self.sender.send(Event::Interrupted);
    }
}

/// Starts weir: binds its ports, starts its threads.
///
/// # Errors
/// A port is in use or not ours, the CA file cannot be used, the I/O driver that was asked for is
/// refused, a thread cannot be started. Nothing is left running.
pub fn start(config: Config) -> Result<Handle, StartError> {
    start_on(config, Inherited::default())
}

/// [`start`] on sockets that were handed over; where there is none, on a port of the configuration.
///
/// # Errors
/// See [`start`].
pub fn start_on(config: Config, sockets: Inherited) -> Result<Handle, StartError> {
    start_among(config, sockets, None)
}

/// A cluster whose members somebody else decides and publishes.
pub struct Joined {
    /// What the workers read.
    pub members: Arc<Members>,
    /// What nodes show each other that they know.
    pub secret: Option<Arc<Secret>>,
}

/// [`start_on`], as a node of a cluster whose members somebody else publishes.
///
/// # Errors
/// See [`start`].
pub fn start_among(
    config: Config,
    sockets: Inherited,
    joined: Option<Joined>,
) -> Result<Handle, StartError> {
    let (driver, refusal) = runtime::choose(config.io_driver).map_err(StartError::RingRefused)?;
    match refusal {
        Some(error) => tracing::warn!(%error, "io_uring is refused here, so epoll serves"),
        None => tracing::debug!(?driver, "I/O driver"),
    }
    let trusted = trust(&config)?;
    let tls = Credentials::load(&config, clock::unix_ms() / 1000)?.map(Arc::new);
    // Found out now rather than at the first request.
    check_outbound(&config)?;
    let address = SocketAddr::new(config.bind_ip, config.port);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = config.worker_count(cores);
    let not_listening = |source| StartError::listening("PORT", address, source);
    let mut listeners = sockets.for_workers(workers).map_err(not_listening)?;
    let inherited = !listeners.is_empty();
    for listener in listeners.iter().flatten() {
        listen::bound_unsent(listener).map_err(not_listening)?;
    }
    if !inherited {
        let own = listen::bind(address, workers).map_err(not_listening)?;
        listeners = own.into_iter().map(|listener| vec![listener]).collect();
    }
    let proxy_addr = listeners[0][0].local_addr().map_err(not_listening)?;
    let admin = match sockets.metrics {
        Some(listener) if config.enable_metrics => Some(listener),
        None if config.enable_metrics => Some(admin::bind(&config)?),
        Some(_) | None => None,
    };
    let queue = config
        .gateway_queue_port
        .map(|port| bind_queue(&config, port));
    let queue = queue.transpose()?;
    let queue_addr = queue.as_ref().map(|(_, address)| *address);
    let mut queue = queue.map(|(listener, _)| listener);
    let mut cluster = Cluster::bind(&config)?;
    // After the ports: they show that no other weir, whose file it is, runs here.
    let own = cluster.as_ref().map(|cluster| Joined {
        members: cluster.members().clone(),
        secret: cluster.secret().cloned(),
    });
    let (members, secret) = match joined.or(own) {
        Some(joined) => (Some(joined.members), joined.secret),
        None => (None, None),
    };
    let node_trust = members.as_ref().map(|_| NodeTrust::load(&config));
    let node_trust = node_trust.transpose()?.map(Arc::new);
    let shared_seeds = members.is_some().then(|| secret::seeds(secret.as_deref()));
    let open_state = |path| Kept::open(path, shared_seeds);
    let kept = config.state_file.as_deref().map(open_state).transpose()?;
    let shares = shares(&config, workers, members.is_some());
    let forward = match config.forward.port {
        Some(_) => Some(ForwardProxy::start_with(
            Options::of(&config),
            shares.forward,
        )?),
        None => None,
    };
    // The same in all tables, so that they can be merged.
    let seeds = std::array::from_fn(|_| ambient_seed());
    let key_seeds = kept.as_ref().and_then(Kept::seeds);
    let key_seeds = shared_seeds
        .or(key_seeds)
        .unwrap_or_else(|| std::array::from_fn(|_| ambient_seed()));
    let keys = Keys::with_seeds(key_seeds);
    let (sender, events) = mpsc::channel();
    let style = Style {
        format: config.log_format,
        journal: systemd::is_journal(&io::stdout()),
    };
    let id = ambient_seed();
    let upstream = &config.upstream;
    let resolver = Arc::new(Resolver::start(&upstream.host, upstream.port));
    for listening in listeners[0].iter().filter_map(|one| one.local_addr().ok()) {
        let leads_back = |address: &SocketAddr| listen::is_reached_at(listening, *address);
        if let Some(&addr) = resolver.addresses().iter().find(|addr| leads_back(addr)) {
            return Err(StartError::UpstreamIsSelf { addr });
        }
    }
    let process = Arc::new(Process {
        mesh: Mesh::with_ear(
            &settings(&config, &keys, workers)?,
            workers,
            Box::new({
                let board = Board::default();
                move |now, notice| board.post(now, notice)
            }),
        ),
        keys,
        driver,
        started_unix_ms: clock::unix_ms(),
        target: Target {
            authority: config.upstream.host_header().into(),
            tls: trusted,
            resolver,
            outbound: config.outbound_ip,
            outage: Arc::default(),
        },
        via: (!config.upstream.is_discord()).then(|| format!("weir-{id:016x}").into()),
        cluster: members,
        passes: Passes::new(secret, ambient_seed()),
        tls,
        node_trust,
        access: Access::start(config.access_log, style, workers)?,
        troubles: Troubles::default(),
        overrides: Overrides::new(config.bot_ratelimit_overrides.clone()),
        admin_refused: AdminRefused::default(),
        drain: Box::new({
            let sender = sender.clone();
            // Without a handle nobody waits.
            move || drop(sender.send(Event::Interrupted))
        }),
        write_state: OnceLock::new(),
        id: id as u32,
        forward: forward.as_ref().map(ForwardProxy::limits),
        metrics: (0..workers).map(|_| Table::new(seeds)).collect(),
        places: Places::new(shares.clients, config.max_connections_per_client),
        upstream_connections_max: shares.upstream,
        node_connections_max: shares.nodes,
        accepting: AtomicUsize::new(workers),
        bots: Mutex::default(),
        identify: Arc::new(Mutex::new(Queues::new(identify::Settings {
            bots_max: config.gateway_queue_max_bots,
            waiting_per_bot_max: config.gateway_queue_max_waiting_per_bot,
            waiting_max: config.gateway_queue_max_waiting,
        }))),
        turns: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        watch: Watch::new(workers),
        started: clock::now(),
        inherited,
        draining: AtomicBool::new(false),
        refusing: AtomicBool::new(false),
        aborting: AtomicBool::new(false),
        unserved: AtomicUsize::new(0),
        config,
    });
    let keeper = match kept {
        Some(kept) => {
            let (mesh, queues) = (process.mesh.clone(), process.identify.clone());
            let keeper = Keeper::start(kept, mesh, queues, key_seeds, &process.keys)?;
            // It was not set before.
            let _ = process.write_state.set(Box::new(keeper.writer()));
            Some(keeper)
        }
        None => None,
    };
    if let Some(cluster) = &mut cluster {
        let probe = process.keys.probe();
        let asked_at = process.config.gateway_queue_port;
        let parts = cluster::Parts {
            mesh: process.mesh.clone(),
            probe,
            tls: cluster::Tls {
                shown: process.tls.clone(),
                trust: process.node_trust.clone(),
            },
            identify: asked_at
                .filter(|port| *port != 0)
                .map(|_| process.identify.clone()),
        };
        cluster.start(&process.config, proxy_addr, parts)?;
        // Before anybody is served: what others serve is theirs.
        cluster.members().wait_for_others(FIND_OTHERS);
    }
    let admin = match admin {
        Some(listener) => Some(AdminServer::start(listener, &process)?),
        None => None,
    };
    let mut handle = Handle {
        process,
        proxy_addr,
        queue_addr,
        admin,
        workers: Vec::new(),
        keeper,
        forward,
        cluster,
        sender,
        events,
    };
    for (index, listeners) in listeners.into_iter().enumerate() {
        handle.workers.push(spawn_worker(
            &handle,
            index,
            listeners,
            queue.take(),
            driver,
        )?);
    }
    let (mut ready, mut interrupted) = (0, false);
    while ready < workers {
        match handle.events.recv() {
            Ok(Event::Ready) => ready += 1,
            Ok(Event::Interrupted) => interrupted = true,
            Ok(Event::WorkerEnded { result, .. }) => {
                return Err(StartError::System {
                    what: "set up a worker",
                    source: result
                        .err()
                        .unwrap_or_else(|| io::Error::other("it ended by itself")),
                });
            }
            Ok(Event::Reload) => {}
            Err(_) => break,
        }
    }
    if interrupted {
        // For whoever waits on the handle.
        handle.interrupter().interrupt();
    }
    if handle.process.config.is_open_to_everyone() {
        tracing::warn!(
            address = %handle.proxy_addr,
            "whoever reaches this address can use this weir; ALLOW_FROM, BIND_IP or TLS_CLIENT_CA_FILE keep strangers out"
        );
    }
    if let Some(forward) = handle.forward()
        && handle.process.config.is_forward_open_to_everyone()
    {
        tracing::warn!(
            address = %forward.addr(),
            "whoever reaches this address can use the forward proxy; ALLOW_FROM, FORWARD_BIND_IP or \
             FORWARD_CREDENTIALS_FILE keep strangers out"
        );
    }
    tracing::info!(
        proxy = %handle.proxy_addr,
        metrics = handle.metrics_addr().map(tracing::field::display),
        gateway_queue = handle.gateway_queue_addr().map(tracing::field::display),
        tls = handle.process.tls.is_some(),
        forward = handle.forward().map(|forward| tracing::field::display(forward.addr())),
        upstream = &*handle.process.target.authority,
        workers,
        driver = ?driver,
        "weir serves"
    );
    Ok(handle)
}

/// Binds `GATEWAY_QUEUE_PORT`, one listener for the one worker that serves it.
fn bind_queue(config: &Config, port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::new(config.bind_ip, port);
    let not_listening = |source| StartError::listening("GATEWAY_QUEUE_PORT", address, source);
    let listener = listen::bind(address, 1).map_err(not_listening)?.pop();
    let listener = listener.ok_or_else(|| not_listening(io::ErrorKind::NotFound.into()))?;
    let address = listener.local_addr().map_err(not_listening)?;
    Ok((listener, address))
}

/// Starts a worker's thread. It says [`Event::Ready`] once its runtime stands, and how it ended.
fn spawn_worker(
    handle: &Handle,
    index: usize,
    listeners: Vec<TcpListener>,
    queue: Option<TcpListener>,
    driver: Chosen,
) -> Result<JoinHandle<()>, StartError> {
    let (process, sender) = (handle.process.clone(), handle.sender.clone());
    let run = move || {
        // Nobody listens any more only if the handle is gone, and then nobody cares.
        let ready = |()| drop(sender.send(Event::Ready));
        let run = AssertUnwindSafe(|| worker::run(index, process, listeners, queue, driver, ready));
        let result = catch_unwind(run)
            .unwrap_or_else(|_| Err(io::Error::other(format!("worker {index} panicked"))));
        drop(sender.send(Event::WorkerEnded {
            worker: index,
            result,
        }));
    };
    thread::Builder::new()
        .name(format!("weir-{index}"))
        .spawn(run)
        .map_err(StartError::Thread)
}

impl Handle {
    /// Where clients connect to.
    pub fn proxy_addr(&self) -> SocketAddr {
        self.proxy_addr
    }

    /// Where metrics are scraped; `None` with `ENABLE_METRICS=false`.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServer::addr)
    }

    /// Where shards ask when they may IDENTIFY; `None` without `GATEWAY_QUEUE_PORT`.
    pub fn gateway_queue_addr(&self) -> Option<SocketAddr> {
        self.queue_addr
    }

    /// The forward proxy; `None` without `FORWARD_PORT`.
    pub fn forward(&self) -> Option<&ForwardProxy> {
        self.forward.as_ref()
    }

    /// Who serves whom, if there are several nodes.
    pub fn members(&self) -> Option<&Arc<Members>> {
        self.process.cluster.as_ref()
    }

    /// Stops accepting, ends idle connections, lets requests under way and waiting finish for up to
    /// `deadline`, then answers those that wait with 503, cuts the others and ends; at once if a worker
    /// fails meanwhile. True if all of them finished.
    pub fn shutdown(mut self, deadline: Duration) -> bool {
        self.stop(deadline)
    }

    /// Blocks until a worker fails or [`Handle::interrupter`] is used.
    pub fn wait(&self) -> Event {
        // The handle holds a sender itself, so the channel never closes.
        self.events.recv().unwrap_or(Event::Interrupted)
    }

    /// Reads the files of the listening side's TLS and of the forward proxy's credentials again, for
    /// connections and requests from now on, and says in the log what came of it. False if there are none.
    ///
    /// # Errors
    /// One of them cannot be used; what was used before is used on.
    pub fn reload(&self) -> Result<bool, StartError> {
        let users = self.reload_credentials();
        let tls = self.reload_tls();
        if let (Ok(false), Ok(false)) = (&users, &tls) {
            tracing::info!(
                "there is nothing to be read again: neither TLS_CERT_FILE nor FORWARD_CREDENTIALS_FILE is set"
            );
        }
        Ok(users? | tls?)
    }

    fn reload_credentials(&self) -> Result<bool, StartError> {
        let Some(forward) = &self.forward else {
            return Ok(false);
        };
        let reloaded = forward.reload();
        match &reloaded {
            Ok(true) => {
                tracing::info!("FORWARD_CREDENTIALS_FILE was read again; new requests need it");
            }
            Ok(false) => {}
            Err(error) => tracing::error!("{error}; the credentials from before are used on"),
        }
        reloaded
    }

    fn reload_tls(&self) -> Result<bool, StartError> {
        let nodes = self.process.node_trust.as_ref();
        let nodes = nodes.filter(|trust| trust.is_any());
        if self.process.tls.is_none() && nodes.is_none() {
            return Ok(false);
        }
        let shown = self.process.tls.as_ref();
        let shown = shown.map(|shown| shown.read_again(clock::unix_ms() / 1000));
        // Both or neither: a node that shows one certificate and presents another is two.
        let reloaded = shown.transpose().and_then(|shown| {
            let trusted = nodes.map(|trust| trust.read_again()).transpose()?;
            if let Some(use_them) = shown {
                use_them();
            }
            if let Some(use_them) = trusted {
                use_them();
            }
            Ok(())
        });
        // Counted where all is counted, although no worker did it.
        let count = |count: fn(&mut crate::metrics::Tls)| {
            count(&mut self.process.metrics[0].lock().own.tls);
        };
        match &reloaded {
            Ok(()) => {
                count(|tls| tls.reloads += 1);
                tracing::info!("certificate and key were read again; new connections use them");
            }
            Err(error) => {
                count(|tls| tls.reloads_failed += 1);
                tracing::error!("{error}; the certificate and key from before are used on");
            }
        }
        reloaded.map(|()| true)
    }

    /// Something that tells whether all workers turn, for another thread.
    pub fn pulse(&self) -> Pulse {
        Pulse::of(self)
    }

    /// Something to end [`Handle::wait`] with, from another thread.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter {
            sender: self.sender.clone(),
        }
    }

    fn stop(&mut self, deadline: Duration) -> bool {
        let until = clock::now() + deadline;
        self.process.draining.store(true, Ordering::SeqCst);
        if let Some(cluster) = &self.cluster {
            cluster.leave();
        }
        self.nudge();
        if let Some(forward) = &self.forward {
            forward.begin_to_stop();
        }
        let mut sound = self.wait_for_workers(deadline);
        self.process.refusing.store(true, Ordering::SeqCst);
        self.nudge();
        sound &= self.wait_for_workers(FAREWELL);
        self.process.aborting.store(true, Ordering::SeqCst);
        self.nudge();
        for thread in self.workers.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        if let Some(mut forward) = self.forward.take() {
            sound &= forward.finish(until.saturating_duration_since(clock::now()));
        }
        if let Some(access) = &self.process.access {
            access.finish();
        }
        self.admin = None;
        if let Some(mut cluster) = self.cluster.take() {
            // Nothing of what was learned is lost as long as there is time.
            cluster.end(until);
        }
        // Now that nothing is sent any more.
        if let Some(keeper) = self.keeper.take() {
            keeper.finish();
        }
        sound && self.process.unserved.load(Ordering::SeqCst) == 0
    }

    /// Waits until all workers have ended, but no longer than `patience`. False as soon as one has
    /// failed: the others would wait for it.
    fn wait_for_workers(&self, patience: Duration) -> bool {
        let until = clock::now() + patience;
        loop {
            // Looked at before what they have told, so that the last one's word is heard, too.
            let ended = self.workers.iter().all(JoinHandle::is_finished);
            let left = until.saturating_duration_since(clock::now());
            let moment = if ended {
                Duration::ZERO
            } else {
                left.min(LOOK)
            };
            // Woken by each worker that ends.
            match self.events.recv_timeout(moment) {
                Ok(Event::WorkerEnded {
                    result: Err(error), ..
                }) => {
                    tracing::error!(%error, "a worker failed while weir was ending");
                    return false;
                }
                Ok(_) => {}
                Err(_) if ended || left.is_zero() => return true,
                Err(_) => {}
            }
        }
    }

    fn nudge(&self) {
        for worker in 0..self.workers.len() {
            self.process.mesh.nudge(worker);
        }
    }
}

/// How long a start waits for other nodes of the cluster: several rounds of datagrams, and hardly
/// longer than a start takes.
const FIND_OTHERS: Duration = Duration::from_secs(1);

/// How often it is looked at whether all workers have ended.
const LOOK: Duration = Duration::from_millis(50);

/// How long those who are refused at the end have to take their answer.
const FAREWELL: Duration = Duration::from_millis(250);

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.stop(Duration::ZERO);
        }
    }
}

/// Whether `OUTBOUND_IP` is an address of this machine.
pub(crate) fn check_outbound(config: &Config) -> Result<(), StartError> {
    let Some(ip) = config.outbound_ip else {
        return Ok(());
    };
    let bound = UdpSocket::bind((ip, 0));
    bound.map_or_else(
        |source| Err(StartError::OutboundIp { ip, source }),
        |_| Ok(()),
    )
}

/// Whether all of `DEFAULT_BUCKETS` are of different limits.
pub(crate) fn check_default_buckets(config: &Config) -> Result<(), StartError> {
    let keys = Keys::with_seeds(std::array::from_fn(|_| ambient_seed()));
    default_buckets(config, &keys).map(drop)
}

/// Whom the upstream must prove to be, and to whose satisfaction; `None` for plain HTTP.
pub(crate) fn trust(config: &Config) -> Result<Option<Trust>, StartError> {
    if !config.upstream.tls {
        return Ok(None);
    }
    let host = config.upstream.host.trim_matches(['[', ']']).to_owned();
    let name = host
        .clone()
        .try_into()
        .map_err(|_| StartError::UpstreamName { host })?;
    let client = trust::client_config(config.upstream_ca_file.as_deref())?;
    Ok(Some(Trust {
        name,
        config: Arc::new(Current::new(client)),
    }))
}

/// What descriptors are asked for.
pub(crate) fn wanted(config: &Config, workers: usize, relays: bool) -> Wanted {
    Wanted {
        clients: config.max_connections,
        upstream: config.upstream_max_connections,
        workers,
        relays,
        forward: config
            .forward
            .port
            .map_or(0, |_| config.forward.max_clients),
    }
}

/// Divides the descriptors, and says so where there are fewer than was asked for.
fn shares(config: &Config, workers: usize, relays: bool) -> Shares {
    let wanted = wanted(config, workers, relays);
    // Where the limit cannot be read, it is not known to be too low.
    let limit = descriptors::limit().unwrap_or(u64::MAX);
    let shares = Shares::of(limit, descriptors::open(), wanted);
    if shares.upstream < wanted.upstream {
        tracing::warn!(
            limit,
            upstream_connections_of_each_worker = shares.upstream,
            wanted = wanted.upstream,
            "open files are limited too low for UPSTREAM_MAX_CONNECTIONS; LimitNOFILE or ulimit -Hn allows more"
        );
    }
    if shares.forward < wanted.forward {
        // Who has not asked for so many need not be warned.
        if config.forward.max_clients == bounds::FORWARD_CLIENTS {
            tracing::info!(
                limit,
                forward_clients = shares.forward,
                "open files bound the forward proxy's clients; LimitNOFILE or ulimit -Hn allows more"
            );
        } else {
            tracing::warn!(
                limit,
                forward_clients = shares.forward,
                wanted = wanted.forward,
                "open files are limited too low for FORWARD_MAX_CLIENTS; LimitNOFILE or ulimit -Hn allows more"
            );
        }
    }
    if shares.clients < wanted.clients {
        tracing::info!(
            limit,
            client_connections = shares.clients,
            wanted = wanted.clients,
            "open files are limited below MAX_CONNECTIONS and what weir sets aside for its own; LimitNOFILE or ulimit -Hn allows more"
        );
    }
    shares
}

/// The limiter's settings. Its caps hold for each shard, the configuration's for the process.
fn settings(config: &Config, keys: &Keys, workers: usize) -> Result<Settings, StartError> {
    let overrides = &config.bot_ratelimit_overrides;
    Ok(Settings {
        global_overrides: overrides.iter().map(|(&id, &limit)| (id, limit)).collect(),
        waiting_per_bucket_max: u32::try_from(config.max_waiting_per_bucket).unwrap_or(u32::MAX),
        waiting_max: config.max_waiting.div_ceil(workers),
        buckets_max: config.max_buckets.div_ceil(workers),
        max_bearers: config.max_bearer_count,
        disable_401_lock: config.disable_401_lock,
        allow_concurrent: config.allow_concurrent_requests,
        default_bucket: config.default_bucket,
        default_buckets: default_buckets(config, keys)?,
        ..Settings::default()
    })
}

/// `DEFAULT_BUCKETS` by the keys that requests have. Two templates of one limit (`PUT` and `DELETE`
/// of a reaction, two invites) cannot both say how wide it is.
fn default_buckets(config: &Config, keys: &Keys) -> Result<HashMap<u64, u16>, StartError> {
    let mut widths = HashMap::new();
    for (template, &width) in &config.default_buckets {
        for key in keys.template_keys(template.method(), template.path()) {
            if widths.insert(key, width).is_some() {
                return Err(StartError::Setting(Wrong::Value {
                    place: "DEFAULT_BUCKETS".to_owned(),
                    value: template.to_string(),
                    allowed: "each route once, and another template is the same one",
                }));
            }
        }
    }
    Ok(widths)
}

/// A seed that nobody outside can guess, so that nobody can choose keys that collide.
fn ambient_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
