//! What every shell shares of sockets, threads and the ring: buffers, futures in memory used again,
//! whole reads and writes, deadlines, and the set-up of a worker's runtime.
//!
//! Two rules hold everywhere above this module. A read or write that has been submitted is awaited
//! or its connection is given up: monoio loses the bytes of a dropped read (its
//! `docs/en/io-cancel.md`). And nothing waits on a socket without a [`deadline`]: it does not
//! cancel the operation, it shuts the socket down, so that the operation itself ends.

pub mod bell;
pub mod buffer;
pub mod deadline;
pub mod descriptors;
pub mod dumps;
pub mod first;
pub mod guard;
pub mod listen;
pub mod memory;
#[cfg(feature = "planted-panics")]
pub mod planted;
pub mod recycled;
pub mod runtime;
pub mod seldom;
pub mod socket;
pub mod system;
pub mod turn;

pub use bell::Bell;
pub use buffer::Buf;
pub use deadline::Deadlines;
pub use recycled::Recycler;
pub use seldom::{Seldom, SharedSeldom};
pub use turn::Turn;
