//! What the machine grants: io_uring, open files, a place for the state.

use std::io;
use std::thread;

use super::report::Report;
use crate::config::{Config, IoDriver};
use crate::io::descriptors::{self, Shares};
use crate::io::runtime::{self, Chosen};
use crate::limit::snapshot::Snapshot;
use crate::route::Keys;
use crate::server;
use crate::state::StateFile;

/// Which driver would serve.
pub(super) fn driver(report: &mut Report, config: &Config) -> Chosen {
    let tried = report.trying("IO_DRIVER");
    match runtime::choose(config.io_driver) {
        Ok((Chosen::IoUring, _)) => {
            tried.ok("io_uring is granted");
            Chosen::IoUring
        }
        Ok((Chosen::Epoll, None)) => {
            tried.ok("epoll, as IO_DRIVER has it");
            Chosen::Epoll
        }
        Ok((Chosen::Epoll, Some(refusal))) => {
            tried.warning(
                &format!("epoll, since io_uring is refused ({refusal})"),
                &why_refused(&refusal),
            );
            Chosen::Epoll
        }
        Err(refusal) => {
            debug_assert_eq!(config.io_driver, IoDriver::IoUring);
            tried.failed(
                &format!("io_uring is refused by the kernel ({refusal})"),
                &format!(
                    "{}; or IO_DRIVER=auto, which takes epoll then",
                    why_refused(&refusal)
                ),
            );
            Chosen::Epoll
        }
    }
}

/// What usually stands behind a refusal of io_uring.
fn why_refused(refusal: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.as_deref().map_or("0", str::trim);
    if disabled != "0" {
        return format!(
            "kernel.io_uring_disabled is {disabled}; `sysctl kernel.io_uring_disabled=0` grants it"
        );
    }
    match refusal.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "a seccomp filter forbids it, as Docker's default one does: see \
             deploy/Dockerfile for a profile that allows it"
                .to_owned()
        }
        Some(libc::ENOMEM) => {
            "locked memory is limited: LimitMEMLOCK=, or ulimit -l, allows more".to_owned()
        }
        Some(libc::EINVAL) => "the kernel is older than 6.1, which it needs".to_owned(),
        _ => "the kernel does not have it".to_owned(),
    }
}

/// How many connections the limit of open files has room for.
pub(super) fn open_files(report: &mut Report, config: &Config) {
    let tried = report.trying("open files");
    let limit = match descriptors::raise_limit() {
        Ok(limit) => limit,
        Err(error) => return tried.warning(&format!("their limit cannot be read: {error}"), ""),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = config.worker_count(cores);
    let wanted = server::wanted(config, workers, config.is_clustered());
    let shares = Shares::of(limit, descriptors::open(), wanted);
    let mut said = format!(
        "{limit}: room for {} clients, {} connections to Discord on each of {workers} workers",
        shares.clients, shares.upstream
    );
    if wanted.forward > 0 {
        said += &format!(", {} clients of the forward proxy", shares.forward);
    }
    let enough = shares.upstream == wanted.upstream && shares.forward == wanted.forward;
    if enough && (shares.clients == wanted.clients || shares.clients >= CLIENTS_ENOUGH) {
        tried.ok(&said);
    } else {
        tried.warning(
            &said,
            &format!(
                "{}, {} and {} were asked for; LimitNOFILE=, or ulimit -Hn, allows more",
                wanted.clients, wanted.upstream, wanted.forward
            ),
        );
    }
}

/// Clients that are enough for most fleets: a program holds some ten connections to a proxy.
const CLIENTS_ENOUGH: usize = 4_096;

/// Whether `STATE_FILE` can be written, and what is in it.
pub(super) fn state_file(report: &mut Report, config: &Config) {
    let tried = report.trying("STATE_FILE");
    let Some(path) = &config.state_file else {
        return tried.ok("none: after a restart limits are learned anew");
    };
    let file = match StateFile::at(path) {
        Ok(file) => file,
        Err(error) => {
            return tried.wrong(
                &format!("{path:?} cannot be written: {error}"),
                "its folder must be there and take new files of the user who runs weir",
            );
        }
    };
    match file.read() {
        Ok(None) => tried.ok(&format!("{path:?} can be written, and is not there yet")),
        Ok(Some(bytes)) => match Snapshot::open(&bytes, |seeds| Keys::with_seeds(seeds).probe()) {
            Ok(_) => tried.ok(&format!(
                "{path:?} can be written; {} bytes are in it",
                bytes.len()
            )),
            Err(broken) => tried.warning(
                &format!("{path:?} cannot be used: {broken}"),
                "a start sets it aside, and limits are learned anew",
            ),
        },
        Err(error) => tried.warning(
            &format!("{path:?} cannot be read: {error}"),
            "a start sets it aside, and limits are learned anew",
        ),
    }
}
