//! The machine: who runs on which core, how busy it is, and processes that never outlive this one.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CpuSet;

/// How long a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who runs where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cores {
    /// All that this process may use.
    pub all: Vec<usize>,
    /// The load generator's.
    pub load: usize,
    /// The upstream's.
    pub upstream: usize,
}

impl Cores {
    /// Divides the cores that this process may use: proxies from the first on, load and upstream
    /// on the last, or on the last two where there are at least four.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn divide() -> io::Result<Self> {
        let set = rustix::thread::sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&n| set.is_set(n)).collect();
        let load = *all.last().ok_or(io::ErrorKind::Unsupported)?;
        let upstream = if all.len() >= 4 {
            all[all.len() - 2]
        } else {
            load
        };
        Ok(Self {
            all,
            load,
            upstream,
        })
    }

    /// The cores of a proxy with so many workers.
    pub fn proxy(&self, workers: usize) -> &[usize] {
        &self.all[..workers.clamp(1, self.all.len())]
    }

    /// Whether load or upstream run on a core of such a proxy's.
    pub fn shared(&self, workers: usize) -> bool {
        let proxy = self.proxy(workers);
        proxy.contains(&self.load) || proxy.contains(&self.upstream)
    }
}

/// Lets the calling thread, and what it starts from now on, run on these cores alone.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

/// Moves all threads of a running process to these cores.
///
/// # Errors
/// The kernel's refusal, or the process has ended.
pub(super) fn move_to(pid: u32, cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let id = thread?.file_name();
        let id = id.to_str().and_then(|id| id.parse().ok());
        let thread = id.and_then(Pid::from_raw);
        rustix::thread::sched_setaffinity(thread, &set)?;
    }
    Ok(())
}

/// Lets this process open as many files as it may.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn raise_descriptors() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(Resource::Nofile, raised)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// How long a core has run so far: busy and in all, in clock ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CoreTime {
    busy: u64,
    all: u64,
}

impl CoreTime {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn of(core: usize) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/stat")?, core))
    }

    fn parse(stat: &str, core: usize) -> Self {
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name));
        let ticks: Vec<u64> = line
            .unwrap_or("")
            .split_whitespace()
            // The last two, guests, are part of the first two.
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let all: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self {
            busy: all - idle,
            all,
        }
    }

    /// The busy share since then.
    pub(super) fn busy_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        self.busy.saturating_sub(earlier.busy) as f64 / all.max(1) as f64
    }
}

/// A process that is ended when this is dropped, and when this process dies.
#[derive(Debug)]
pub(super) struct Guarded {
    child: Child,
    log: PathBuf,
}

impl Guarded {
    /// Starts a program on `cores`. What it says goes to `log`; its stdout to a pipe if `talks`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(
        mut command: Command,
        cores: &[usize],
        log: &Path,
        talks: bool,
    ) -> io::Result<Self> {
        let file = fs::File::create(log)?;
        command.stderr(file.try_clone()?);
        if talks {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file);
        }
        // SAFETY: between fork and exec only one system call is made; nothing is allocated or locked.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                Ok(())
            });
        }
        // A child takes the affinity of the thread that starts it.
        let mine = rustix::thread::sched_getaffinity(None)?;
        pin(cores)?;
        let child = command.spawn();
        rustix::thread::sched_setaffinity(None, &mine)?;
        let child = child.map_err(|error| {
            let program = command.get_program().to_string_lossy();
            io::Error::new(error.kind(), format!("{program}: {error}"))
        })?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Its id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended, with the last it said.
    ///
    /// # Errors
    /// See above.
    pub(super) fn check(&mut self) -> io::Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let last = said.lines().last().unwrap_or("nothing").trim();
        Err(io::Error::other(format!("ended with {status}: {last}")))
    }

    /// Its stdout, once.
    pub(super) fn output(&mut self) -> Option<BufReader<ChildStdout>> {
        self.child.stdout.take().map(BufReader::new)
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// When it has ended or listens to none.
    pub(super) fn tell(&mut self, line: &str) -> io::Result<()> {
        let input = self.child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{line}")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // That it has ended already is as good; so for all that follows.
        let pid = Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line that a process says, as JSON.
///
/// # Errors
/// When it ends before, or says something else.
pub(super) fn hear<T: serde::de::DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The processes that serve: those that `pid` started (nginx's workers), or else `pid` itself.
pub(super) fn serving(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(file).unwrap_or_default();
    let children: Vec<u32> = text
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect();
    if children.is_empty() {
        vec![pid]
    } else {
        children
    }
}

/// Where a program is, if it is installed.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts servers where only root's PATH leads.
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-compare-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_as_busy_as_its_ticks_say() {
        let before = CoreTime::parse("cpu  9 9 9 9\ncpu1 10 0 10 70 10 0 0 0 0 0\n", 1);
        let after = CoreTime::parse("cpu1 40 0 20 120 20 0 0 0 7 7\n", 1);
        assert!((after.busy_since(before) - 0.4).abs() < 1e-9);
        assert!(CoreTime::of(0).unwrap().all > 0);
    }

    #[test]
    fn load_keeps_off_the_proxys_core_where_there_are_two() {
        let cores = Cores {
            all: vec![0, 1],
            load: 1,
            upstream: 1,
        };
        assert_eq!(cores.proxy(1), [0]);
        assert!(!cores.shared(1));
        assert!(cores.shared(2));
    }

    #[test]
    fn a_guarded_process_ends_with_its_guard() {
        let scratch = Scratch::make().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let cores = Cores::divide().unwrap();
        let log = scratch.0.join("sleep.log");
        let mut guarded = Guarded::start(command, cores.proxy(1), &log, false).unwrap();
        let proc = format!("/proc/{}", guarded.pid());
        guarded.check().unwrap();
        assert!(Path::new(&proc).exists());
        drop(guarded);
        assert!(!Path::new(&proc).exists());
    }
}
