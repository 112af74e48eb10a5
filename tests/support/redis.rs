//! A real Redis in a folder of its own, on a Unix socket, so that no port is in anybody's way.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir::config::{RedisAddress, RedisSettings};

/// A running redis-server; killed when dropped.
pub struct Redis {
    folder: PathBuf,
    extra: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Starts one that keeps nothing on disk, with more arguments, for a fleet that need not settle
    /// first: as if it had noted long ago that this Redis was started.
    pub fn start(extra: &[&str]) -> Self {
        let redis = Self::start_fresh(extra);
        let Ok(mut connection) = redis.client().get_connection() else {
            return redis;
        };
        let info: Result<String, _> = redis::cmd("INFO").arg("server").query(&mut connection);
        if let Some(run) = info
            .iter()
            .flat_map(|text| text.lines())
            .find_map(|line| line.strip_prefix("run_id:"))
        {
            let note = redis::cmd("MSET")
                .arg("weir:forward:run")
                .arg(run.trim())
                .arg("weir:forward:since")
                .arg(1)
                .exec(&mut connection);
            // Where rights or a cluster are in the way, nothing is shared anyway.
            drop(note);
        }
        redis
    }

    /// Starts one that keeps nothing on disk, with more arguments.
    pub fn start_fresh(extra: &[&str]) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        // A socket's path has 107 bytes at most.
        let folder = std::env::temp_dir().join(format!("weir-r{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let mut redis = Self {
            folder,
            extra: extra.iter().map(|&arg| arg.to_owned()).collect(),
            child: None,
        };
        redis.run();
        redis
    }

    /// Starts the program, which was not running.
    pub fn run(&mut self) {
        assert!(self.child.is_none());
        let _ = fs::remove_file(self.socket());
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
        command.arg("--unixsocket").arg(self.socket());
        command.arg("--dir").arg(&self.folder).args(&self.extra);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("redis-server is installed");
        self.child = Some(child);
        let until = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < until, "redis-server does not listen");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// One more argument when it is run next.
    pub fn add(&mut self, argument: &str) {
        self.extra.push(argument.to_owned());
    }

    /// Ends it at once. What it knew is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child");
            child.wait().expect("a child");
        }
    }

    /// Has it neither answer nor read, or again.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Settings of a proxy that shares its caps here.
    pub fn settings(&self) -> RedisSettings {
        RedisSettings::new(RedisAddress::Unix(self.socket()))
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(format!("unix://{}", self.socket().display())).expect("a socket")
    }

    /// Another client.
    pub fn connect(&self) -> redis::Connection {
        self.client().get_connection().expect("Redis answers")
    }

    /// All counters of connections at one moment, by key.
    pub fn counters(&self) -> Vec<(String, i64)> {
        const ALL: &str = "
            local all = {}
            for _, key in ipairs(redis.call('KEYS', 'proxy_rate_limiter:*')) do
                all[#all + 1] = key
                all[#all + 1] = redis.call('GET', key)
            end
            return all";
        redis::cmd("EVAL")
            .arg(ALL)
            .arg(0)
            .query(&mut self.connect())
            .expect("Redis answers")
    }

    /// What all counters come to.
    pub fn total(&self) -> i64 {
        self.counters().iter().map(|(_, value)| value).sum()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
