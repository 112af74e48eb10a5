//! What a tunnel of weir's forward proxy costs, beside a bare relay.
//!
//! Both move the same bytes between the same client and host, in rounds that take turns: [`relay`] on
//! a thread, and weir's forward proxy with one worker on another. Both run on the first core, client
//! and host on the last. What is counted is the CPU time of that one thread by the scheduler's clock.
//!
//! - **bulk**: so many streams, each as fast as it goes, from host to client: CPU time a GiB.
//! - **messages**: so many connections, on each a message up, the same down, and so on: CPU time a
//!   message of both ways.

pub mod relay;

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir::ForwardProxy;
use weir::egress::Options as ProxyOptions;

use crate::compare::host::{Cores, pin};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rounds; medians are taken over them.
    pub rounds: usize,
    /// How long each sample is measured.
    pub measured: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a message.
    pub message_bytes: usize,
}

/// One kind of traffic on both.
#[derive(Clone, Debug)]
pub struct Compared {
    /// What it is.
    pub name: &'static str,
    /// The unit of the costs.
    pub unit: &'static str,
    /// The relay's cost in µs a unit, of each round.
    pub relay: Vec<f64>,
    /// weir's.
    pub weir: Vec<f64>,
}

impl Compared {
    /// weir's cost by the relay's, the median over rounds of the ratio within one.
    pub fn ratio(&self) -> f64 {
        let ratios = self.relay.iter().zip(&self.weir);
        median(ratios.map(|(relay, weir)| weir / relay).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A table of what was measured.
pub fn markdown(all: &[Compared]) -> String {
    let mut text = String::from("| traffic | bare relay | weir | ratio |\n|---|---|---|---|\n");
    for compared in all {
        let Compared {
            name,
            unit,
            relay,
            weir,
        } = compared;
        let _ = writeln!(
            text,
            "| {name} | {:.2} {unit} | {:.2} {unit} | {:.3} |",
            median(relay.clone()),
            median(weir.clone()),
            compared.ratio(),
        );
    }
    text
}

/// Measures.
///
/// # Errors
/// Sockets or threads are not to be had.
pub fn run(options: &Options) -> io::Result<Vec<Compared>> {
    let cores = Cores::divide()?;
    let proxy_core = cores.proxy(1).first().copied().unwrap_or(cores.load);
    // Threads are born where their parent runs.
    pin(&[cores.load])?;
    let source = host(|mut stream| {
        let block = vec![7; 256 * 1024];
        while stream.write_all(&block).is_ok() {}
    })?;
    let echo = host(|mut stream| {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    })?;
    pin(&[proxy_core])?;
    let relays = [
        spawn_relay(source, "bare-bulk")?,
        spawn_relay(echo, "bare-msg")?,
    ];
    let mut settings = ProxyOptions {
        workers: 1,
        ..ProxyOptions::default()
    };
    settings.settings.allow = "127.0.0.0/8".parse().ok();
    let proxy = ForwardProxy::start(settings).map_err(io::Error::other)?;
    pin(&[cores.load])?;

    let mut bulk = Compared {
        name: "bulk",
        unit: "ms/GiB",
        relay: Vec::new(),
        weir: Vec::new(),
    };
    let mut messages = Compared {
        name: "messages",
        unit: "µs/message",
        relay: Vec::new(),
        weir: Vec::new(),
    };
    for _ in 0..options.rounds {
        let direct = |addr| move || TcpStream::connect(addr);
        let tunnel = |to| {
            let addr = proxy.addr();
            move || open(addr, to)
        };
        let cost = flood(options, "bare-bulk", direct(relays[0]))?;
        bulk.relay.push(cost * f64::from(1 << 30) / 1e3);
        let cost = flood(options, "weir-fwd-0", tunnel(source))?;
        bulk.weir.push(cost * f64::from(1 << 30) / 1e3);
        let cost = ping(options, "bare-msg", direct(relays[1]))?;
        messages.relay.push(cost);
        messages
            .weir
            .push(ping(options, "weir-fwd-0", tunnel(echo))?);
    }
    proxy.stop(Duration::ZERO);
    Ok(vec![bulk, messages])
}

fn spawn_relay(upstream: SocketAddr, name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let run = move || drop(relay::serve(&listener, upstream));
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(addr)
}

/// A server with a thread for each connection.
fn host(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::Builder::new().spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            if stream.set_nodelay(true).is_ok() {
                thread::spawn(move || serve(stream));
            }
        }
    })?;
    Ok(addr)
}

/// A tunnel through the proxy.
fn open(proxy: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy)?;
    write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 200 ") {
        Ok(stream)
    } else {
        Err(io::Error::other("the proxy refuses a tunnel"))
    }
}

/// Bytes from the host as fast as they come: µs of the thread's CPU time a byte.
fn flood(
    options: &Options,
    thread: &str,
    connect: impl Fn() -> io::Result<TcpStream>,
) -> io::Result<f64> {
    sample(options, thread, connect, |stream, over, bytes| {
        let mut block = vec![0; 256 * 1024];
        while !over.load(Ordering::Relaxed) {
            match stream.read(&mut block) {
                Ok(count @ 1..) => bytes.fetch_add(count as u64, Ordering::Relaxed),
                Ok(_) | Err(_) => return,
            };
        }
    })
}

/// Messages up and down: µs a message of both ways.
fn ping(
    options: &Options,
    thread: &str,
    connect: impl Fn() -> io::Result<TcpStream>,
) -> io::Result<f64> {
    let size = options.message_bytes;
    sample(options, thread, connect, move |stream, over, count| {
        let mut message = vec![0; size];
        while !over.load(Ordering::Relaxed) {
            let turned = stream
                .write_all(&message)
                .and_then(|()| stream.read_exact(&mut message));
            if turned.is_err() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// CPU time in µs of the thread called `name`, for each unit that `work` counts, after a warm-up.
fn sample(
    options: &Options,
    name: &str,
    connect: impl Fn() -> io::Result<TcpStream>,
    work: impl Fn(&mut TcpStream, &AtomicBool, &AtomicU64) + Sync,
) -> io::Result<f64> {
    let (over, units) = (AtomicBool::new(false), AtomicU64::new(0));
    let streams: io::Result<Vec<_>> = (0..options.connections).map(|_| connect()).collect();
    let mut streams = streams?;
    for stream in &streams {
        stream.set_nodelay(true)?;
    }
    thread::scope(|scope| {
        for stream in &mut streams {
            scope.spawn(|| work(stream, &over, &units));
        }
        thread::sleep(options.measured / 5);
        let (cpu, done) = (cpu_of(name)?, units.load(Ordering::Relaxed));
        let began = Instant::now();
        thread::sleep(options.measured);
        let (cpu, done) = (cpu_of(name)? - cpu, units.load(Ordering::Relaxed) - done);
        debug_assert!(began.elapsed() >= options.measured);
        over.store(true, Ordering::Relaxed);
        if done == 0 {
            return Err(io::Error::other("nothing was moved"));
        }
        Ok(cpu.as_secs_f64() * 1e6 / done as f64)
    })
}

/// CPU time of this process's thread of that name, by the scheduler's clock.
fn cpu_of(name: &str) -> io::Result<Duration> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if std::fs::read_to_string(path.join("comm"))?.trim_end() == name {
            let stat = std::fs::read_to_string(path.join("schedstat"))?;
            let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
            return nanos
                .map(Duration::from_nanos)
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_carry_both_kinds_of_traffic() {
        let all = run(&Options {
            rounds: 1,
            measured: Duration::from_millis(100),
            connections: 2,
            message_bytes: 600,
        })
        .unwrap();
        for compared in &all {
            assert!(compared.ratio() > 0.0, "{compared:?}");
        }
        assert!(markdown(&all).contains("| bulk | "));
    }
}
