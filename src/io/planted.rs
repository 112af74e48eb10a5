//! Panics planted for tests, where a real one could happen. Only with the feature `planted-panics`,
//! which nothing turns on but the tests of panics: what ships has no such place.
//!
//! A request asks for one by a header `x-planted-panic` with the name of the place; `stuck` is no panic,
//! but a worker that does nothing any more.

use std::cell::Cell;

thread_local! {
    /// The next call of the limiter on this thread panics.
    static IN_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// Does what the request's head asks for.
///
/// # Panics
/// For `connection`: in the connection's own task.
pub fn meet(head: &[u8]) {
    let asks = |place: &str| {
        let header = format!("x-planted-panic: {place}\r\n");
        head.windows(header.len())
            .any(|bytes| bytes == header.as_bytes())
    };
    if asks("shard") {
        IN_SHARD.set(true);
    }
    if asks("worker") {
        monoio::spawn(async { panic!("planted outside a connection") });
    }
    if asks("stuck") {
        std::thread::sleep(std::time::Duration::from_secs(3_600));
    }
    assert!(!asks("connection"), "planted in a connection");
}

/// Stands under a shard's lock, after its state has changed.
///
/// # Panics
/// When a request has asked for it.
pub fn in_shard() {
    assert!(!IN_SHARD.replace(false), "planted under a shard's lock");
}
