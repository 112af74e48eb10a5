//! The connections to Discord in numbers.

use super::text::{Family, Kind};

/// The upstream connections of one worker, or of all once merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pool {
    /// Connections that carry an exchange now.
    pub busy: u64,
    /// Connections that idle now.
    pub idle: u64,
    /// Connections that are being opened now.
    pub opening: u64,
    /// Requests that wait for a connection now, because all are in use.
    pub waiting: u64,
    /// Connections that there may be.
    pub most: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Of those, TLS sessions that were resumed: a handshake without certificates.
    pub resumed: u64,
    /// Attempts to connect that failed.
    pub dials_failed: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// Requests that went out on a connection that was open already.
    pub reused: u64,
    /// Pooled connections that were found dead when they were to be used again.
    pub stale: u64,
    /// Pooled connections that were closed because they had idled too long, or weir ended.
    pub expired: u64,
    /// Connections that were closed, by either side, for whatever reason.
    pub closed: u64,
    /// TLS is spoken.
    pub tls: bool,
}

impl Pool {
    pub(super) fn merge(&mut self, other: &Self) {
        // Named in full, so that a new field cannot be forgotten here.
        let Self {
            busy,
            idle,
            opening,
            waiting,
            most,
            opened,
            resumed,
            dials_failed,
            handshakes_failed,
            reused,
            stale,
            expired,
            closed,
            tls,
        } = self;
        for (ours, theirs) in [
            (busy, other.busy),
            (idle, other.idle),
            (opening, other.opening),
            (waiting, other.waiting),
            (most, other.most),
            (opened, other.opened),
            (resumed, other.resumed),
            (dials_failed, other.dials_failed),
            (handshakes_failed, other.handshakes_failed),
            (reused, other.reused),
            (stale, other.stale),
            (expired, other.expired),
            (closed, other.closed),
        ] {
            *ours += theirs;
        }
        *tls |= other.tls;
    }

    pub(super) fn encode(&self, out: &mut String) {
        let family = |name, help, kind| Family { name, help, kind };
        family(
            "weir_upstream_connections",
            "Connections to Discord now: busy with a request, idle in the pool, being opened",
            Kind::Gauge,
        )
        .by(
            out,
            "state",
            &[
                ("busy", self.busy),
                ("idle", self.idle),
                ("opening", self.opening),
            ],
        );
        for (name, help, value) in [
            (
                "weir_upstream_connections_max",
                "Connections to Discord that there may be at a time (UPSTREAM_MAX_CONNECTIONS of all workers)",
                self.most,
            ),
            (
                "weir_upstream_connection_waiting",
                "Requests that wait for a connection to Discord because all are in use",
                self.waiting,
            ),
        ] {
            family(name, help, Kind::Gauge).one(out, value);
        }
        for (name, help, value) in [
            (
                "weir_upstream_connections_opened_total",
                "Connections to Discord that were opened",
                self.opened,
            ),
            (
                "weir_upstream_connections_reused_total",
                "Requests sent on a connection to Discord that was open already",
                self.reused,
            ),
            (
                "weir_upstream_connections_stale_total",
                "Pooled connections to Discord that were found dead when they were to be used again",
                self.stale,
            ),
            (
                "weir_upstream_connections_failed_total",
                "Attempts to connect to Discord that failed, TLS handshakes not among them",
                self.dials_failed,
            ),
        ] {
            family(name, help, Kind::Counter).one(out, value);
        }
        let known = self.stale + self.expired;
        family(
            "weir_upstream_connections_closed_total",
            "Connections to Discord that were closed: idle too long, found dead in the pool, or after a \
             request that left them unusable (Discord said close, an error, a client that left)",
            Kind::Counter,
        )
        .by(
            out,
            "reason",
            &[
                ("idle", self.expired),
                ("stale", self.stale),
                ("request", self.closed.saturating_sub(known)),
            ],
        );
        let full = if self.tls {
            self.opened.saturating_sub(self.resumed)
        } else {
            0
        };
        family(
            "weir_upstream_tls_handshakes_total",
            "TLS handshakes with Discord: full, resumed (without certificates) and failed",
            Kind::Counter,
        )
        .by(
            out,
            "result",
            &[
                ("full", full),
                ("resumed", self.resumed),
                ("failed", self.handshakes_failed),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_merged_and_written_under_its_own_name() {
        let one = Pool {
            busy: 1,
            idle: 2,
            opening: 3,
            waiting: 4,
            most: 5,
            opened: 60,
            resumed: 7,
            dials_failed: 8,
            handshakes_failed: 9,
            reused: 10,
            stale: 11,
            expired: 12,
            closed: 50,
            tls: true,
        };
        let mut both = Pool::default();
        both.merge(&one);
        assert_eq!(both, one);
        both.merge(&one);
        let mut text = String::new();
        both.encode(&mut text);
        for line in [
            "weir_upstream_connections{state=\"busy\"} 2",
            "weir_upstream_connections{state=\"idle\"} 4",
            "weir_upstream_connections{state=\"opening\"} 6",
            "weir_upstream_connection_waiting 8",
            "weir_upstream_connections_max 10",
            "weir_upstream_connections_opened_total 120",
            "weir_upstream_connections_failed_total 16",
            "weir_upstream_tls_handshakes_total{result=\"full\"} 106",
            "weir_upstream_tls_handshakes_total{result=\"resumed\"} 14",
            "weir_upstream_tls_handshakes_total{result=\"failed\"} 18",
            "weir_upstream_connections_reused_total 20",
            "weir_upstream_connections_stale_total 22",
            "weir_upstream_connections_closed_total{reason=\"idle\"} 24",
            "weir_upstream_connections_closed_total{reason=\"stale\"} 22",
            "weir_upstream_connections_closed_total{reason=\"request\"} 54",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
