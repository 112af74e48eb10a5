//! The monoio runtime of mock and bots: io_uring where the kernel lets it, epoll elsewhere.

use std::io;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Entries of a ring: 8 MiB of locked memory, a common limit, hold 64 such rings.
const RING_ENTRIES: u32 = 1024;

/// A runtime with timers, on either driver.
pub type Runtime = monoio::FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// Which driver to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Driver {
    /// io_uring, or epoll where it is refused.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// Builds the runtime of the calling thread.
///
/// # Errors
/// When the kernel refuses the driver that was asked for.
pub fn build(driver: Driver) -> io::Result<Runtime> {
    if driver != Driver::Epoll {
        // Without these flags every completion interrupts the thread; they need the ring to be
        // made on the thread that uses it.
        let mut ring = io_uring::IoUring::builder();
        ring.setup_single_issuer().setup_defer_taskrun();
        let built = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(ring)
            .enable_timer()
            .build();
        match built {
            Ok(runtime) => return Ok(Runtime::Uring(runtime)),
            Err(error) if driver == Driver::IoUring => return Err(error),
            Err(_) => {}
        }
    }
    let runtime = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()?;
    Ok(Runtime::Legacy(runtime))
}
