//! The demonstration: a mock Discord, weir before it, and some bots that want more than they may.
//!
//! The bots burst, read, react and answer interactions without any rate limiting of their own. A
//! second Discord, fed with the same requests at the moment they are sent, tells which of them would
//! have been refused: the 429s that weir avoids. Without a proxy the same bots run into the limits.

mod bots;
mod proxy;
mod tally;

pub use bots::Bot;
pub(crate) use bots::base64;
pub use proxy::Proxy;
pub use tally::{Tally, Tick};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mock::oracle::OracleReport;
use crate::mock::settings::Settings;
use crate::mock::tls::Tls;
use crate::mock::{self, MockConfig, MockHandle};

/// How often is told what happens.
const TICK: Duration = Duration::from_secs(1);

/// How far away the mock is, so that waiting in the limiter and travelling can be told apart.
const LATENCY_MS: f64 = 40.0;

/// How far that varies.
const JITTER_MS: f64 = 20.0;

/// Starts a mock for a demonstration; `plain` without TLS, so that the bots can reach it themselves.
///
/// # Errors
/// As [`mock::start`].
pub fn discord(plain: bool) -> io::Result<MockHandle> {
    let settings = Settings {
        latency_ms: LATENCY_MS,
        jitter_ms: JITTER_MS,
        ..Settings::default()
    };
    let tls = if plain { Tls::Plain } else { Tls::Valid };
    mock::start(MockConfig {
        tls,
        settings,
        ..MockConfig::default()
    })
}

/// Lets `bots` loose on `target` (plain HTTP) for `duration` and calls `tell` every second.
///
/// # Errors
/// When threads cannot be started.
pub fn run(
    mock: &MockHandle,
    target: SocketAddr,
    bots: &[Bot],
    duration: Duration,
    mut tell: impl FnMut(&Tick, &OracleReport),
) -> io::Result<OracleReport> {
    let tally = Arc::new(Tally::new(mock.settings()));
    let begin = Instant::now();
    let end = begin + duration;
    let mut threads = Vec::new();
    for bot in bots {
        threads.extend(bot.start(target, end, &tally)?);
    }
    for second in 1.. {
        let next = begin + TICK * second;
        if next > end {
            break;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        tell(&tally.tick(begin.elapsed()), &mock.oracle());
    }
    for thread in threads {
        // A bot that panicked has been reported by the panic hook already.
        let _ = thread.join();
    }
    tell(&tally.tick(begin.elapsed()), &mock.oracle());
    Ok(mock.oracle())
}
