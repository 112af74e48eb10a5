//! What weir is to show, held against what was measured. What was not measured is not claimed.

use serde::Serialize;

use super::measure::metric;
use super::peers::Peer;
use super::stats::{Samples, Spread};

/// Something that is to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    what: &'static str,
    scenario: &'static str,
    of: Of,
    most: f64,
    unit: &'static str,
}

/// What is compared with the bound.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// A measurement of weir's.
    Itself(&'static str),
    /// The same, in MiB.
    ItselfMib(&'static str),
    /// Against a peer's, as a ratio: peer over whom, measurement.
    Ratio(Peer, Peer, &'static str),
    /// Beyond a peer's.
    Beyond(Peer, &'static str),
    /// Another's beyond weir's.
    MoreThanWeir(Peer, &'static str),
}

const MIB: f64 = 1024.0 * 1024.0;

const fn bound(
    what: &'static str,
    scenario: &'static str,
    of: Of,
    most: f64,
    unit: &'static str,
) -> Bound {
    Bound {
        what,
        scenario,
        of,
        most,
        unit,
    }
}

/// The bounds of the throughput issue (issue 4), and of the relay in a cluster (issue 8).
const BOUNDS: [Bound; 28] = {
    use Of::{Beyond, Itself, ItselfMib, MoreThanWeir, Ratio};
    use Peer::{Direct, DirectApart, Haproxy, Nginx, Relay, Weir, Weir2, WeirRelayed};
    use metric::{CPU, FULL_SHARE, IDLE, OPENED_SHARE, P50, P99, RSS, USER};
    [
        bound(
            "CPU per request against nginx",
            "closed-64",
            Ratio(Weir, Nginx, CPU),
            0.80,
            "×",
        ),
        bound(
            "CPU per request against haproxy",
            "closed-64",
            Ratio(Weir, Haproxy, CPU),
            0.75,
            "×",
        ),
        bound(
            "CPU per request against the relay",
            "closed-64",
            Ratio(Weir, Relay, CPU),
            1.35,
            "×",
        ),
        bound(
            "CPU per request in user space",
            "closed-64",
            Itself(USER),
            4.0,
            "µs",
        ),
        bound(
            "p99 against nginx",
            "closed-64",
            Ratio(Weir, Nginx, P99),
            1.0,
            "×",
        ),
        bound(
            "CPU per request against nginx",
            "closed-8",
            Ratio(Weir, Nginx, CPU),
            0.80,
            "×",
        ),
        bound(
            "CPU per request against haproxy",
            "closed-8",
            Ratio(Weir, Haproxy, CPU),
            0.75,
            "×",
        ),
        bound(
            "CPU per request against the relay",
            "closed-8",
            Ratio(Weir, Relay, CPU),
            1.35,
            "×",
        ),
        bound(
            "CPU per request in user space",
            "closed-8",
            Itself(USER),
            4.0,
            "µs",
        ),
        bound(
            "p99 against nginx",
            "closed-8",
            Ratio(Weir, Nginx, P99),
            1.0,
            "×",
        ),
        bound(
            "p99 against nginx",
            "closed-256",
            Ratio(Weir, Nginx, P99),
            1.0,
            "×",
        ),
        bound(
            "added latency, p50",
            "open-50",
            Beyond(Direct, P50),
            100.0,
            "µs",
        ),
        bound(
            "added latency, p99",
            "open-50",
            Beyond(Direct, P99),
            1000.0,
            "µs",
        ),
        bound(
            "added latency, p50, upstream apart",
            "open-50",
            Beyond(DirectApart, P50),
            100.0,
            "µs",
        ),
        bound(
            "added latency, p99, upstream apart",
            "open-50",
            Beyond(DirectApart, P99),
            1000.0,
            "µs",
        ),
        bound(
            "an idle connection",
            "idle-10000",
            Itself(IDLE),
            2048.0,
            "bytes",
        ),
        bound(
            "resident memory",
            "buckets-10000",
            ItselfMib(RSS),
            40.0,
            "MiB",
        ),
        bound(
            "requests on a new connection",
            "churn",
            Itself(OPENED_SHARE),
            0.1,
            "%",
        ),
        bound(
            "new connections without resumption",
            "churn",
            Itself(FULL_SHARE),
            0.0,
            "%",
        ),
        bound(
            "2 workers against 1, CPU per request",
            "closed-64",
            Ratio(Weir2, Weir, CPU),
            1.15,
            "×",
        ),
        bound(
            "2 workers against 1, CPU per request",
            "open-5",
            Ratio(Weir2, Weir, CPU),
            1.15,
            "×",
        ),
        bound(
            "2 workers against 1, CPU per request",
            "open-50",
            Ratio(Weir2, Weir, CPU),
            1.15,
            "×",
        ),
        bound(
            "2 workers against 1, CPU per request",
            "open-100",
            Ratio(Weir2, Weir, CPU),
            1.15,
            "×",
        ),
        bound(
            "p99 against nginx",
            "open-50",
            Ratio(Weir, Nginx, P99),
            1.0,
            "×",
        ),
        bound(
            "p99 against nginx",
            "open-5",
            Ratio(Weir, Nginx, P99),
            1.0,
            "×",
        ),
        bound(
            "relayed against local, CPU of both nodes",
            "closed-64",
            Ratio(WeirRelayed, Weir, CPU),
            1.9,
            "×",
        ),
        bound(
            "relayed against local, p50",
            "open-5",
            MoreThanWeir(WeirRelayed, P50),
            300.0,
            "µs",
        ),
        bound(
            "relayed against local, p50",
            "open-50",
            MoreThanWeir(WeirRelayed, P50),
            300.0,
            "µs",
        ),
    ]
};

/// How a bound stands.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Standing {
    /// What is bounded.
    pub what: &'static str,
    /// Where it is measured.
    pub scenario: &'static str,
    /// The bound.
    pub most: f64,
    /// Of both numbers.
    pub unit: &'static str,
    /// `None` when it was not measured in this run.
    pub measured: Option<Spread>,
    /// Whether the median keeps to the bound; `None` when it was not measured.
    pub holds: Option<bool>,
}

/// How all bounds stand.
pub(super) fn standings(samples: &Samples) -> Vec<Standing> {
    BOUNDS.iter().map(|bound| bound.stand(samples)).collect()
}

impl Bound {
    fn stand(&self, samples: &Samples) -> Standing {
        let measured = match self.of {
            Of::Itself(metric) => samples.spread(self.scenario, Peer::Weir.name(), metric),
            Of::ItselfMib(metric) => samples
                .spread(self.scenario, Peer::Weir.name(), metric)
                .map(|bytes| bytes.scaled(1.0 / MIB)),
            Of::Ratio(one, other, metric) => {
                samples.ratio(self.scenario, (one.name(), other.name()), metric)
            }
            Of::MoreThanWeir(one, metric) => {
                samples.difference(self.scenario, (one.name(), Peer::Weir.name()), metric)
            }
            Of::Beyond(other, metric) => {
                samples.difference(self.scenario, (Peer::Weir.name(), other.name()), metric)
            }
        };
        Standing {
            what: self.what,
            scenario: self.scenario,
            most: self.most,
            unit: self.unit,
            measured,
            holds: measured.map(|spread| spread.median <= self.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Sample;
    use super::*;

    fn sample(peer: Peer, cpu: f64) -> Sample {
        Sample {
            scenario: "closed-64".into(),
            peer: peer.name(),
            round: 1,
            place: 1,
            values: [(metric::CPU, cpu)].into(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_bound_holds_fails_or_was_not_measured() {
        let samples = vec![
            sample(Peer::Weir, 16.0),
            sample(Peer::Nginx, 20.0),
            sample(Peer::Relay, 10.0),
        ];
        let standings = standings(&Samples(samples));
        let of = |what| standings.iter().find(|s| s.what == what).map(|s| s.holds);
        assert_eq!(of("CPU per request against nginx"), Some(Some(true)));
        assert_eq!(of("CPU per request against the relay"), Some(Some(false)));
        assert_eq!(of("CPU per request against haproxy"), Some(None));
    }
}
