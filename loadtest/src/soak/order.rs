//! Order: requests of one lane over many connections, each sent when weir has read the one before.
//!
//! What weir has read is known from its gauge of requests under way on a route that nobody else
//! uses, so that no pause of a machine can make two of them change places before weir sees them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::actor::{Stage, hears};
use super::fleet::{ORDERED, Request, below};
use super::process::scrape;
use crate::client::{Client, Target};
use crate::mock::faults::Rng;

/// Time between two looks at the gauge.
const LOOK: Duration = Duration::from_millis(2);

/// Rest between two lanes.
const REST: Duration = Duration::from_millis(100);

/// One request under way: its connection, itself, and when it was sent.
type Sent = (Client, Request, Instant);

/// Sends one lane after the other until the run is over.
pub(super) fn run(stage: &Arc<Stage>, metrics: SocketAddr, seed: u64) {
    let mut rng = Rng::new(seed);
    while !stage.over.load(Ordering::Relaxed) {
        if let Err(error) = lane(stage, metrics, &mut rng) {
            stage.tally.wrong(format!("in order: {error}"));
        }
        std::thread::sleep(REST);
    }
}

fn lane(stage: &Stage, metrics: SocketAddr, rng: &mut Rng) -> io::Result<()> {
    let count = 3 + below(rng, 5);
    let requests = stage.fleet.ordered(rng, count);
    let mut sent: Vec<Sent> = Vec::new();
    for request in requests {
        stage.tally.pace();
        let mut client = Client::connect(&Target::plain(stage.proxy))?;
        client.socket().set_read_timeout(Some(super::PATIENCE))?;
        let now = Instant::now();
        stage.tally.sent();
        // What stops it shows itself in the answer's absence.
        let _ = client.send_raw(&request.bytes());
        sent.push((client, request, now));
        if let Err(error) = wait_until_read(&sent, metrics) {
            stage.tally.wrong(format!("in order: {error}"));
            break;
        }
    }
    for (client, request, at) in &mut sent {
        hears(&stage.tally, "in order", client, request, *at);
    }
    Ok(())
}

/// Waits until weir has read the last of `sent`: it counts as many under way as have no answer yet.
/// Seen twice, since an answer arrives a moment before weir takes it off its count.
fn wait_until_read(sent: &[Sent], metrics: SocketAddr) -> io::Result<()> {
    let until = Instant::now() + super::PATIENCE;
    let mut seen = 0;
    while Instant::now() < until {
        let Some((last, ..)) = sent.last() else {
            return Ok(());
        };
        if is_answered(last)? {
            return Ok(());
        }
        let mut unanswered = 0;
        for (client, ..) in sent {
            unanswered += u64::from(!is_answered(client)?);
        }
        seen = if under_way(&scrape(metrics)?) >= unanswered {
            seen + 1
        } else {
            0
        };
        if seen == 2 {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    Err(io::Error::other("a request is not read"))
}

/// Whether something has come on a connection, if only its end.
fn is_answered(client: &Client) -> io::Result<bool> {
    let socket = client.socket();
    socket.set_nonblocking(true)?;
    let peeked = socket.peek(&mut [0]);
    socket.set_nonblocking(false)?;
    Ok(!matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock))
}

/// Requests under way on the watched route.
fn under_way(metrics: &str) -> u64 {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("nirn_proxy_open_connections{") && line.contains(ORDERED));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_of_the_watched_route_is_read() {
        let text = "# HELP nirn_proxy_open_connections x\n\
                    nirn_proxy_open_connections{method=\"POST\",route=\"/a/crosspost\"} 3\n\
                    nirn_proxy_open_connections{method=\"POST\",route=\"/a\"} 5\n";
        assert_eq!(under_way(text), 3);
    }
}
