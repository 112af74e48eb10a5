//! Threads, runtimes and listeners of the mock.
//!
//! Each thread has its own runtime and, when there are several, its own SO_REUSEPORT listener. A
//! pipe a thread carries commands; on Stop every open socket is shut down, so that all pending
//! reads complete before the runtime ends and no operation is dropped while the kernel holds its
//! buffer. A second, always plain listener takes control requests and is not counted.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use monoio::io::{AsyncReadRent, Canceller};
use monoio::net::TcpListener;
use monoio::utils::is_legacy;
use rustls::ServerConfig;
use serde_json::Value;

use super::answer::Writer;
use super::clock::Clock;
use super::conn;
use super::faults::Rng;
use super::oracle::OracleReport;
use super::settings::{ConnectionSettings, Settings};
use super::world::World;
use crate::runtime::Runtime;

/// How long a stopping thread waits for its connections to see that their sockets are shut.
const STOP_TURNS_MAX: u32 = 500;

/// One turn of that wait.
const STOP_TURN: Duration = Duration::from_millis(2);

/// What a thread can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Stop,
    Refuse,
    Listen,
    CloseAll,
}

/// What all threads and the handle share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) tls: Option<Arc<ServerConfig>>,
    world: Mutex<World>,
    /// Counts changes of the settings, so that threads notice them by one load.
    version: AtomicU64,
    connections: AtomicU64,
    /// The longest that a thread was kept from its work since this was last asked for, in
    /// microseconds; `None` unless it is watched.
    late_us: Option<AtomicU64>,
    pipes: Mutex<Vec<UnixStream>>,
}

impl Shared {
    pub(super) fn new(tls: Option<Arc<ServerConfig>>, world: World, watched: bool) -> Self {
        Self {
            clock: Clock::start(),
            tls,
            world: Mutex::new(world),
            version: AtomicU64::new(1),
            connections: AtomicU64::new(0),
            late_us: watched.then(AtomicU64::default),
            pipes: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How late its threads have been since this was last asked for.
    pub(super) fn lateness(&self) -> Duration {
        let late_us = self.late_us.as_ref();
        Duration::from_micros(late_us.map_or(0, |late| late.swap(0, Ordering::Relaxed)))
    }

    pub(super) fn report(&self) -> OracleReport {
        self.world().report(self.clock.now_ns())
    }

    pub(super) fn reset(&self) {
        self.world().reset(self.clock.now_ns());
    }

    pub(super) fn configure(&self, settings: Settings) {
        self.world().configure(settings);
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn patch(&self, patch: &Value) -> Result<(), serde_json::Error> {
        let mut world = self.world();
        let settings = world.settings().patched(patch)?;
        world.configure(settings);
        drop(world);
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(super) fn command(&self, command: Command) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        for pipe in pipes.iter_mut() {
            // A thread that has ended needs no command.
            let _ = pipe.write_all(&[command as u8]);
        }
    }

    /// Makes the pipe of one thread and returns the end it reads.
    pub(super) fn pipe(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.pipes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ours);
        Ok(theirs)
    }
}

/// Settings that a thread reads at every request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) connections: ConnectionSettings,
    pub(super) faults: bool,
    pub(super) compress_errors: bool,
    latency: Duration,
    jitter: Duration,
}

/// One thread's own state.
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: RefCell<Writer>,
    rng: RefCell<Rng>,
    live: Cell<(u64, Live)>,
    /// Open sockets, and whether each came on the control listener.
    open: RefCell<AHashMap<u64, (RawFd, bool)>>,
    next_socket: Cell<u64>,
    stopping: Cell<bool>,
    listening: Cell<bool>,
    canceller: RefCell<Canceller>,
}

impl Local {
    pub(super) fn new(shared: Arc<Shared>, worker: u64) -> Self {
        Self {
            shared,
            writer: RefCell::new(Writer::new(worker)),
            rng: RefCell::new(Rng::new(worker)),
            live: Cell::default(),
            open: RefCell::default(),
            next_socket: Cell::new(0),
            stopping: Cell::new(false),
            listening: Cell::new(true),
            canceller: RefCell::default(),
        }
    }

    /// The settings of this moment.
    pub(super) fn live(&self) -> Live {
        let version = self.shared.version.load(Ordering::Acquire);
        let (known, live) = self.live.get();
        if known == version {
            return live;
        }
        let world = self.shared.world();
        let settings = world.settings();
        let duration = |ms: f64| Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default();
        let live = Live {
            connections: settings.connections,
            faults: !settings.faults.is_empty(),
            compress_errors: settings.answers.compress_errors,
            latency: duration(settings.latency_ms),
            jitter: duration(settings.jitter_ms),
        };
        self.live.set((version, live));
        live
    }

    /// How far away Discord is for the next request.
    pub(super) fn delay(&self) -> Duration {
        let live = self.live();
        if live.jitter.is_zero() {
            return live.latency;
        }
        live.latency + live.jitter.mul_f64(self.rng.borrow_mut().fraction())
    }

    fn obey(&self, command: u8) {
        if command == Command::Stop as u8 {
            self.stopping.set(true);
        } else if command == Command::Refuse as u8 {
            self.listening.set(false);
        } else if command == Command::Listen as u8 {
            self.listening.set(true);
        }
        if command == Command::Stop as u8 || command == Command::CloseAll as u8 {
            for &(fd, control) in self.open.borrow().values() {
                if self.stopping.get() || !control {
                    // SAFETY: the descriptor is open: its entry leaves the map before its stream
                    // is dropped, and both happen on this thread.
                    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                }
            }
        }
        if self.stopping.get() || !self.listening.get() {
            let canceller = self.canceller.take();
            self.canceller.replace(canceller.cancel());
        }
    }
}

/// Runs one thread until it is told to stop.
pub(super) fn run(
    mut runtime: Runtime,
    local: Rc<Local>,
    listener: std::net::TcpListener,
    control: Option<std::net::TcpListener>,
    pipe: UnixStream,
) {
    runtime.block_on(async move {
        let Ok(addr) = listener.local_addr() else {
            return;
        };
        let legacy = is_legacy();
        let sockets = [
            listener.set_nonblocking(legacy),
            pipe.set_nonblocking(legacy),
        ];
        if sockets.iter().any(Result::is_err) {
            return;
        }
        monoio::spawn(obey_all(pipe, Rc::clone(&local)));
        if local.shared.late_us.is_some() {
            monoio::spawn(watch(Rc::clone(&local)));
        }
        if let Some(control) = control.and_then(|c| {
            c.set_nonblocking(legacy).ok()?;
            TcpListener::from_std(c).ok()
        }) {
            let local = Rc::clone(&local);
            monoio::spawn(async move { accept_all(&control, &local, true).await });
        }
        let mut listener = TcpListener::from_std(listener).ok();
        while let Some(open) = listener.take() {
            accept_all(&open, &local, false).await;
            drop(open);
            listener = reopen(addr, &local).await;
        }
        for _ in 0..STOP_TURNS_MAX {
            if local.open.borrow().is_empty() {
                break;
            }
            monoio::time::sleep(STOP_TURN).await;
        }
    });
}

/// Watches how late this thread does what is due.
async fn watch(local: Rc<Local>) {
    const TURN: Duration = Duration::from_millis(5);
    while !local.stopping.get() {
        let asleep = std::time::Instant::now();
        monoio::time::sleep(TURN).await;
        let late = asleep.elapsed().saturating_sub(TURN);
        if let Some(longest) = &local.shared.late_us {
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            longest.fetch_max(late_us, Ordering::Relaxed);
        }
    }
}

async fn obey_all(pipe: UnixStream, local: Rc<Local>) {
    let Ok(mut pipe) = monoio::net::UnixStream::from_std(pipe) else {
        return;
    };
    let mut buf = vec![0u8; 16];
    while !local.stopping.get() {
        let (result, back) = pipe.read(buf).await;
        buf = back;
        match result {
            // The handle is gone.
            Ok(0) | Err(_) => local.obey(Command::Stop as u8),
            Ok(n) => buf[..n].iter().for_each(|&command| local.obey(command)),
        }
    }
}

/// Accepts until the thread stops or, on the main listener, refuses.
async fn accept_all(listener: &TcpListener, local: &Rc<Local>, control: bool) {
    while !local.stopping.get() && (control || local.listening.get()) {
        let handle = local.canceller.borrow().handle();
        // A cancelled accept may have succeeded: its connection is served all the same.
        let Ok((stream, peer)) = listener.cancelable_accept(handle).await else {
            // Out of descriptors, or cancelled: never a busy loop.
            monoio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let number = if control {
            0
        } else {
            local.shared.connections.fetch_add(1, Ordering::Relaxed) + 1
        };
        let socket = local.next_socket.get();
        local.next_socket.set(socket + 1);
        let guard = Open::new(Rc::clone(local), socket, stream.as_raw_fd(), control);
        monoio::spawn(serve(stream, peer.ip(), number, guard));
    }
}

async fn serve(stream: monoio::net::TcpStream, source: IpAddr, number: u64, guard: Open) {
    // The stream is dropped within this call, its entry right after it: nothing else runs on this
    // thread in between, so no command finds a descriptor that is already closed.
    conn::serve(stream, source, number, Rc::clone(&guard.local)).await;
    drop(guard);
}

/// A connection that is counted and can be shut down from outside.
struct Open {
    local: Rc<Local>,
    socket: u64,
    control: bool,
}

impl Open {
    fn new(local: Rc<Local>, socket: u64, fd: RawFd, control: bool) -> Self {
        local.open.borrow_mut().insert(socket, (fd, control));
        if !control {
            let mut world = local.shared.world();
            let counts = &mut world.oracle.connections;
            counts.opened += 1;
            counts.open += 1;
            counts.open_max = counts.open_max.max(counts.open);
        }
        Self {
            local,
            socket,
            control,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.local.open.borrow_mut().remove(&self.socket);
        if !self.control {
            let counts = &mut self.local.shared.world().oracle.connections;
            counts.open = counts.open.saturating_sub(1);
        }
    }
}

/// Binds the address again once it is allowed; `None` when the thread stops first.
async fn reopen(addr: SocketAddr, local: &Rc<Local>) -> Option<TcpListener> {
    loop {
        if local.stopping.get() {
            return None;
        }
        if local.listening.get()
            && let Ok(listener) = bind(addr, true)
        {
            listener.set_nonblocking(is_legacy()).ok()?;
            return TcpListener::from_std(listener).ok();
        }
        monoio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A listening socket; `shared` allows several on one address.
pub(super) fn bind(addr: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
