//! Unmodified Discord libraries through weir to the mock Discord: everything they do succeeds, the
//! mock's oracle counts no violation, and the order within a channel holds.
//!
//! The Python and Node libraries come from their registries into `target/tmp`, once. Each test has
//! a mock and a weir of its own and takes about 20 s, nearly all of it spent waiting for a bucket
//! of 5 messages in 5 s to let 20 through.
//!
//! And clients of the forward proxy, in [`forward`].

#[cfg(test)]
mod forward;
#[cfg(test)]
#[path = "../support/install.rs"]
mod install;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod twilight;

#[cfg(test)]
mod tests {
    use weir::config::IoDriver;

    use super::forward::Forward;
    use super::stage::Stage;
    use super::{install, twilight};

    #[test]
    fn discord_py_is_served_by_one_worker() {
        let stage = Stage::start(1, IoDriver::Auto);
        stage.play(install::python().script("discord_py.py"));
        stage.verdict();
    }

    #[test]
    fn hikari_is_served_by_two_workers() {
        let stage = Stage::start(2, IoDriver::Auto);
        stage.play(install::python().script("hikari_client.py"));
        stage.verdict();
    }

    #[test]
    fn discordjs_is_served_by_two_workers_on_epoll() {
        let stage = Stage::start(2, IoDriver::Epoll);
        stage.play(install::node().script("discordjs.mjs"));
        stage.verdict();
    }

    #[test]
    fn eris_is_served_over_tls_by_two_workers() {
        let stage = Stage::secure(2, IoDriver::Auto);
        stage.play(install::node().script("eris_client.mjs"));
        stage.verdict();
    }

    #[test]
    fn twilight_is_served_by_one_worker_on_epoll() {
        let stage = Stage::start(1, IoDriver::Epoll);
        twilight::play(stage.proxy());
        stage.verdict();
    }

    #[test]
    fn twilight_is_served_by_two_workers() {
        let stage = Stage::start(2, IoDriver::Auto);
        twilight::play(stage.proxy());
        stage.verdict();
    }

    #[test]
    fn curl_is_served_by_the_forward_proxy() {
        Forward::start(2, IoDriver::Auto).play_curl();
        Forward::start(1, IoDriver::Epoll).play_curl();
    }

    #[test]
    fn requests_is_served_by_the_forward_proxy() {
        let forward = Forward::start(2, IoDriver::Auto);
        forward.play(install::python().script("forward_proxy.py"));
    }

    #[test]
    fn undici_is_served_by_the_forward_proxy() {
        let forward = Forward::start(2, IoDriver::Auto);
        forward.play(install::node().script("forward_proxy.mjs"));
    }
}
