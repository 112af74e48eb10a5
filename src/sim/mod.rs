//! The limiter against a model of Discord, under virtual time. A run is one seed; a failure names it.
//!
//! ```text
//! scenario ──▶ world ──▶ subject: our limiter, or a model of nirn's, twilight's, hikari's
//!  (seed)       │  ▲         │
//!               │  └─────────┘ send, refuse
//!               └─▶ network ─▶ discord ─▶ judges every refusal
//! ```
//!
//! What is checked: no request is sent that the model must refuse, except where nobody could know
//! (first contact, hidden limits, limits that others used up), which are counted apart; requests of
//! a route go in the order in which they came; everybody is served or told; nothing leaks: while it
//! runs the limiter holds what waits and travels, in the end nothing; what the model allows is used.
//!
//! Hundreds of seeds run in the tests, a million requests in `loadtest sim` (feature `sim`). A
//! request costs some microseconds.

mod api;
#[cfg(test)]
mod check;
mod clairvoyant;
pub mod cluster;
mod counter;
mod discord;
mod ideal;
pub mod identify;
mod mixed;
mod reference;
mod report;
mod run;
mod safety;
mod scenario;
mod seed;
mod subject;
mod surprise;
mod truth;
mod weir;
mod world;

pub use api::Refusal;
pub use discord::Tally;
pub use mixed::{mixed, troubled};
pub use report::{Comparison, Report};
pub use run::{GLOBAL_LEAST, Goodput, KINDS, Kind, Limiter, compare, global_goodput, goodput};
pub use safety::{Safety, ban_safety, cold_start, cold_start_of_one_route, renamed_channel};
pub use scenario::{SCENARIOS, Scenario};
pub use surprise::{Cost, SURPRISES, Surprise};
pub use truth::{Told, WAITS, Wait, truth};
