//! The `weir` program: configuration in, signals in, exit code out.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use weir::cli::{self, Start};
use weir::config::Config;
use weir::io::{descriptors, dumps, memory};
use weir::server::{Event, Pulse};
use weir::{StartError, admin, server, systemd};

#[global_allocator]
static ALLOCATOR: memory::Counted<mimalloc::MiMalloc> = memory::Counted(mimalloc::MiMalloc);

fn main() -> ExitCode {
    let loaded = match cli::begin() {
        Start::Serve(loaded) => loaded,
        Start::End(status) => return ExitCode::from(status),
    };
    let journal = systemd::is_journal(&io::stderr());
    if let Err(error) =
        admin::log::start(loaded.config.log_level, loaded.config.log_format, journal)
    {
        // Nothing else in this program sets up a log; without one weir is blind, not broken.
        drop(writeln!(io::stderr(), "weir: no log; {error}"));
    }
    if !loaded.config.core_dumps {
        admin::log::tell_panics();
        if let Err(error) = dumps::forbid() {
            tracing::warn!(%error, "a crash may leave a core dump with tokens in it");
        }
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    serve(loaded.config).unwrap_or_else(|error| {
        tracing::error!("{error}");
        ExitCode::from(error.exit_code())
    })
}

/// Serves until a signal or a failure. The first SIGTERM or SIGINT lets requests finish, the
/// second ends at once.
fn serve(config: Config) -> Result<ExitCode, StartError> {
    let patience = config.shutdown_timeout;
    // Before anything else opens descriptors.
    let sockets = systemd::inherited()?;
    let own_port = sockets.clients.is_empty();
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|source| StartError::System {
            what: "watch signals",
            source,
        })?;
    // The workers' threads inherit the mask, so that a signal never interrupts a ring.
    let masked = Masked::new();
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let handle = server::start_on(config, sockets)?;
    systemd::ready(handle.proxy_addr());
    if own_port {
        systemd::hint_at_restarts();
    }
    let interrupter = handle.interrupter();
    thread::Builder::new()
        .name("weir-signals".to_owned())
        .spawn(move || {
            drop(masked);
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                if signal == SIGHUP {
                    interrupter.reload();
                    continue;
                }
                match first {
                    None => first = Some(Instant::now()),
                    Some(first) if first.elapsed() < SAME_SIGNAL => continue,
                    Some(_) => {
                        tracing::warn!(signal, "second signal: ending at once");
                        signal_hook::low_level::exit(EXIT_CUT_SHORT);
                    }
                }
                tracing::info!(
                    signal,
                    "draining: no new connections, requests under way finish"
                );
                systemd::stopping(patience);
                interrupter.interrupt();
            }
        })
        .map_err(StartError::Thread)?;
    if let Some(patience) = systemd::watchdog() {
        let pulse = handle.pulse();
        thread::Builder::new()
            .name("weir-watchdog".to_owned())
            .spawn(move || watch(pulse, patience))
            .map_err(StartError::Thread)?;
    }
    thread::Builder::new()
        .name("weir-memory".to_owned())
        .spawn(give_memory_back)
        .map_err(StartError::Thread)?;
    let event = loop {
        match handle.wait() {
            // What came of it is in the log.
            Event::Reload => drop(handle.reload()),
            event => break event,
        }
    };
    match event {
        Event::Interrupted | Event::Ready | Event::Reload => {
            // Again if it was a signal; nobody has told it of a request to drain.
            systemd::stopping(patience);
            let finished = handle.shutdown(patience);
            tracing::info!(finished, "ended");
            Ok(if finished {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_CUT_SHORT as u8)
            })
        }
        Event::WorkerEnded { result, .. } => {
            let source = result
                .err()
                .unwrap_or_else(|| io::Error::other("it ended by itself"));
            Err(StartError::System {
                what: "keep a worker running",
                source,
            })
        }
    }
}

/// Tells the service manager, three times in its `patience`, that all workers turn; not if one is stuck,
/// so that it starts weir anew.
fn watch(mut pulse: Pulse, patience: Duration) {
    loop {
        thread::sleep(patience / 3);
        if pulse.beats() {
            systemd::alive();
        } else {
            tracing::error!(
                ?patience,
                "a worker is stuck: if it stays so, the service manager's watchdog ends weir"
            );
        }
    }
}

/// How often memory that was used and is not any more goes back to the system: a fleet that had
/// 10,000 requests under way at once leaves 100 MB.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// The allocator gives memory back when it is called, and weir's workers do not call it once they
/// have warmed up.
fn give_memory_back() {
    loop {
        thread::sleep(GIVE_BACK);
        // SAFETY: takes any value, from any thread of the process.
        unsafe { libmimalloc_sys::mi_collect(false) };
    }
}

/// Signals this close to the first are the same request to stop: `timeout` sends one to the process
/// and one to its group, a terminal and a supervisor may each send theirs.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Exit code when requests were cut off at the end.
const EXIT_CUT_SHORT: i32 = 3;

/// SIGTERM, SIGINT and SIGHUP blocked for the calling thread and those it starts; dropping unblocks them
/// for the thread that drops.
struct Masked {
    set: libc::sigset_t,
}

impl Masked {
    fn new() -> Self {
        // SAFETY: an all-zero sigset_t is valid memory for sigemptyset to initialise.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointers name `set`, which outlives the calls; the signals exist.
        unsafe {
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, SIGTERM);
            libc::sigaddset(&raw mut set, SIGINT);
            libc::sigaddset(&raw mut set, SIGHUP);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        Self { set }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // SAFETY: the pointer names `self.set`, which outlives the call.
        unsafe {
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const self.set, std::ptr::null_mut());
        }
    }
}
