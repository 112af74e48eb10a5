//! weir, a Discord REST rate-limit proxy for fleets of bots.
//!
//! A bot's HTTP library points at weir instead of `discord.com`. weir learns Discord's limits from
//! the answers, holds back what would be refused, and relays the rest over pooled TLS.
//!
//! # The map
//! ```text
//! level 0  caseless  clock   destination
//!          error   config                     what everything stands on
//! level 1  http1   route   limit
//!          identify   metrics   status        pure: bytes and time in, decisions out
//! level 2  io   tls   upstream   mesh  egress shells: sockets, threads, clocks
//!          cluster                            who else serves, and whom (its core is pure)
//!          places   watch   access            what all threads share
//!          process   admin                    and the metrics port
//!          state   systemd                    what outlives the process: its state, its sockets
//! level 3  worker                             one thread a core; follow a request from here
//! level 4  server                             starts and stops it all
//! level 5  cli                                commands: what is typed and printed
//! ```
//! Arrows point down only (a test walks the `use` lines). Levels 0 and 1 build without the default
//! feature `io`: `cargo check --no-default-features`.
//!
//! # One request
//! [`worker`] accepts it and reads its head ([`http1`]); [`route`] says whose limits it falls
//! under; [`mesh`] asks the bucket's shard ([`limit`]) whether it may go; [`upstream`] lends a
//! connection; the answer's headers go back to the limiter, the answer to the client.
//!
//! # Embedding
//! ```no_run
//! let config = weir::Config { port: 0, metrics_port: 0, ..weir::Config::default() };
//! let weir = weir::start(config)?;
//! println!("point your bots at http://{}", weir.proxy_addr());
//! weir.shutdown(std::time::Duration::from_secs(10));
//! # Ok::<(), weir::StartError>(())
//! ```

#[cfg(feature = "io")]
pub mod access;
#[cfg(feature = "io")]
pub mod admin;
mod caseless;
#[cfg(feature = "io")]
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod destination;
pub mod egress;
pub mod error;
pub mod http1;
pub mod identify;
#[cfg(feature = "io")]
pub mod io;
pub mod limit;
pub mod mesh;
pub mod metrics;
#[cfg(feature = "io")]
pub mod places;
#[cfg(feature = "io")]
pub mod process;
pub mod route;
#[cfg(feature = "io")]
pub mod server;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(feature = "io")]
pub mod state;
pub mod status;
#[cfg(feature = "io")]
pub mod systemd;
#[cfg(feature = "io")]
pub mod tls;
pub mod upstream;
#[cfg(feature = "io")]
pub mod watch;
#[cfg(feature = "io")]
pub mod worker;

pub use config::Config;
#[cfg(feature = "io")]
pub use egress::ForwardProxy;
pub use error::StartError;
#[cfg(feature = "io")]
pub use server::{Handle, start};
