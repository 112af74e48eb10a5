//! `loadtest load`: load from the command line.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use loadtest::client::Target;
use loadtest::load::{self, LoadConfig, LoadReport, Plan, Recipe, process};
use serde_json::json;

/// With `--rate` the loop is open and latency counts from the intended time; without it is closed
/// and as fast as the connections allow.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to load; must be a loopback address.
    target: SocketAddr,
    /// Connections held open.
    #[arg(short, long, default_value_t = 64)]
    connections: usize,
    /// Requests a second; without it each connection sends when it has its answer.
    #[arg(short, long)]
    rate: Option<f64>,
    /// Seconds measured.
    #[arg(short, long, default_value_t = 10.0)]
    duration: f64,
    /// Seconds of load before that.
    #[arg(short, long, default_value_t = 1.0)]
    warmup: f64,
    /// Method.
    #[arg(short, long, default_value = "GET")]
    method: String,
    /// Path and query; `{channel}` becomes a channel id.
    #[arg(short, long, default_value = "/api/v10/users/@me")]
    path: String,
    /// JSON body.
    #[arg(short, long, default_value = "")]
    body: String,
    /// How many channels `{channel}` goes through.
    #[arg(long, default_value_t = 1)]
    channels: u64,
    /// `Authorization`; a made-up bot token without it.
    #[arg(long)]
    authorization: Option<String>,
    /// Speak TLS, trusting the authority in this PEM file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Also tell the CPU time per answer and the memory of this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let target = match &args.ca {
        Some(file) => Target::tls(args.target, &fs::read_to_string(file)?)?,
        None => Target::plain(args.target),
    };
    let recipe = Recipe {
        method: args.method.clone(),
        path: args.path.clone(),
        body: args.body.clone(),
        authorization: args
            .authorization
            .clone()
            .unwrap_or(Recipe::default().authorization),
    };
    let seconds = |s: f64| Duration::try_from_secs_f64(s).map_err(io::Error::other);
    let config = LoadConfig {
        target,
        connections: args.connections,
        under_way: None,
        rate: args.rate.filter(|&r| r > 0.0),
        duration: seconds(args.duration)?,
        warmup: Duration::ZERO,
        plan: Plan::spread(&recipe, args.channels),
    };
    let warmup = seconds(args.warmup)?;
    if !warmup.is_zero() {
        load::run(&LoadConfig {
            duration: warmup,
            ..config.clone()
        })?;
    }
    let before = args.pid.map(process::cpu_time).transpose()?;
    let report = load::run(&config)?;
    let cost = match (args.pid, before) {
        (Some(pid), Some(before)) => Some(cost(pid, before, &report)?),
        _ => None,
    };
    if args.json {
        let mut document = report.to_json();
        if let Some((cpu_us, resident, highest)) = cost {
            document["cpu_us_per_answer"] = json!(cpu_us);
            document["resident_bytes"] = json!(resident);
            document["resident_bytes_max"] = json!(highest);
        }
        return super::say(&document.to_string());
    }
    super::say(&report.to_string())?;
    if let Some((cpu_us, resident, highest)) = cost {
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        let (now, most) = (mib(resident), mib(highest));
        super::say(&format!(
            "CPU {cpu_us:.2} µs per answer, {now:.1} MiB (at most {most:.1})"
        ))?;
    }
    Ok(())
}

/// CPU µs per answer, resident bytes now and at their highest.
fn cost(pid: u32, before: Duration, report: &LoadReport) -> io::Result<(f64, u64, u64)> {
    let spent = process::cpu_time(pid)?.saturating_sub(before);
    let (resident, highest) = process::resident_bytes(pid)?;
    let per_answer = spent.as_secs_f64() * 1e6 / report.answers().max(1) as f64;
    Ok((per_answer, resident, highest))
}
