//! Namespaces, the bridge between them, and what goes wrong with it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{LATE, NAME};

/// A node's address.
pub(crate) fn node_ip(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + u8::try_from(n).unwrap())
}

/// Runs a program; what it says if it fails.
pub(crate) fn run(program: &str, arguments: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace());
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {arguments}: {}", said.trim()))
}

/// The namespaces; gone when dropped by whoever built them.
pub(crate) struct Stage {
    prefix: String,
    built: bool,
}

impl Stage {
    /// Builds them.
    pub(crate) fn build() -> Result<Self, String> {
        let stage = Self {
            prefix: format!("weir{}", std::process::id()),
            built: true,
        };
        let hub = stage.name(0);
        run("ip", &format!("netns add {hub}"))?;
        for set_up in [
            "link set lo up",
            "link add br0 type bridge",
            "addr add 10.77.0.1/24 dev br0",
            "link set br0 up",
        ] {
            run("ip", &format!("-n {hub} {set_up}"))?;
        }
        for n in 1..=3 {
            let (node, ip) = (stage.name(n), node_ip(n));
            run("ip", &format!("netns add {node}"))?;
            let pair = format!("link add port{n} type veth peer name eth0 netns {node}");
            run("ip", &format!("-n {hub} {pair}"))?;
            run("ip", &format!("-n {hub} link set port{n} master br0 up"))?;
            for set_up in [
                "link set lo up".to_owned(),
                format!("addr add {ip}/24 dev eth0"),
                "link set eth0 up".to_owned(),
            ] {
                run("ip", &format!("-n {node} {set_up}"))?;
            }
            stage.filter(n, "-L")?;
        }
        Ok(stage)
    }

    /// Those that were built before.
    pub(crate) fn inside(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            built: false,
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn name(&self, n: usize) -> String {
        format!("{}-{n}", self.prefix)
    }

    /// A program in the hub.
    pub(crate) fn within_hub(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(0)]).arg(program);
        command
    }

    /// The same command in a node's namespace, its pipes anew.
    pub(crate) fn within(&self, n: usize, command: &Command) -> Command {
        // ip execs it, so that its process is the program's.
        let mut within = Command::new("ip");
        within.args(["netns", "exec", &self.name(n)]);
        within.arg(command.get_program()).args(command.get_args());
        let set = command.get_envs();
        within.envs(set.filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            within.current_dir(dir);
        }
        within
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        within
    }

    fn filter(&self, n: usize, rule: &str) -> Result<(), String> {
        let exec = format!("netns exec {} iptables -w {rule}", self.name(n));
        run("ip", &exec)
    }

    /// Of packets between nodes one in ten is lost, each way, and the others come late by `delay`; until
    /// what is returned is dropped.
    pub(crate) fn lossy(&self, delay: Duration) -> Lossy<'_> {
        let program = std::env::current_exe().unwrap();
        let late = |n| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.name(n)]).arg(&program);
            command.args([NAME, "--exact", "--nocapture"]);
            command.env(LATE, delay.as_millis().to_string());
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().unwrap()
        };
        let lossy = Lossy {
            stage: self,
            late: (1..=3).map(late).collect(),
        };
        self.lossy_rules("-A");
        lossy
    }

    /// How long one node takes to open a connection to another, at the least.
    pub(crate) fn connects(&self, from: usize, to: usize) -> Duration {
        let took = |_| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.name(from), "bash", "-c"]);
            command.arg(format!("exec 3<>/dev/tcp/{}/9000", node_ip(to)));
            let began = Instant::now();
            assert!(command.status().unwrap().success());
            began.elapsed()
        };
        (0..5).map(took).min().unwrap()
    }

    fn lossy_rules(&self, verb: &str) {
        for n in 1..=3 {
            for other in (1..=3).filter(|other| *other != n) {
                let from = node_ip(other);
                for what in [
                    "-m statistic --mode random --probability 0.1 -j DROP",
                    // As long as nobody holds the queue, packets pass it by.
                    "-j NFQUEUE --queue-num 0 --queue-bypass",
                ] {
                    let rule = format!("{verb} INPUT -s {from} {what}");
                    self.filter(n, &rule).unwrap();
                }
            }
        }
    }

    /// The third node and the other two do not hear each other, and clients and Discord hear all.
    pub(crate) fn cut(&self, begin: bool) {
        let verb = if begin { "-A" } else { "-D" };
        for other in 1..=2 {
            let there = node_ip(other);
            self.filter(3, &format!("{verb} INPUT -s {there} -j DROP"))
                .unwrap();
            self.filter(3, &format!("{verb} OUTPUT -d {there} -j DROP"))
                .unwrap();
        }
    }
}

/// Packets are lost and come late.
pub(crate) struct Lossy<'s> {
    stage: &'s Stage,
    late: Vec<Child>,
}

impl Lossy<'_> {
    /// Whether all that delay packets still do.
    pub(crate) fn is_late(&mut self) -> bool {
        let mut late = self.late.iter_mut();
        late.all(|late| late.try_wait().unwrap().is_none())
    }
}

impl Drop for Lossy<'_> {
    fn drop(&mut self) {
        self.stage.lossy_rules("-D");
        for late in &mut self.late {
            // What they hold is let go by the kernel, or sent again.
            let _ = late.kill();
            let _ = late.wait();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.built {
            for n in 0..=3 {
                // Some may not have been built.
                let _ = run("ip", &format!("netns del {}", self.name(n)));
            }
        }
    }
}
