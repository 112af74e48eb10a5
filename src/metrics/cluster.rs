//! What a node tells of its cluster, but for relayed requests.

use super::text::{Family, Kind};

/// Counts of one process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cluster {
    /// Nodes that share out the identities, this one included.
    pub members: u64,
    /// Slots that are this node's, of 4,096.
    pub slots: u64,
    /// Slots that became this node's.
    pub gained: u64,
    /// Slots that became others'.
    pub lost: u64,
    /// Hand-overs that another node confirmed.
    pub sent: u64,
    /// Hand-overs that came.
    pub received: u64,
    /// Hand-overs that were given up.
    pub failed: u64,
    /// What came to the cluster's port and was ignored, by reason.
    pub ignored: Vec<(&'static str, u64)>,
}

impl Cluster {
    /// Appends everything to `out` in the text format 0.0.4.
    pub fn encode(&self, out: &mut String) {
        let family = |out: &mut String, name, help, kind| {
            let family = Family { name, help, kind };
            family.head(out);
            family
        };
        for (name, help, value) in [
            (
                "weir_cluster_members",
                "Nodes that share out the identities, as this one sees it",
                self.members,
            ),
            (
                "weir_cluster_slots",
                "Slots of 4096 that are this node's",
                self.slots,
            ),
        ] {
            family(out, name, help, Kind::Gauge).sample(out, "", &[], value);
        }
        let moves = family(
            out,
            "weir_cluster_slots_moved_total",
            "Slots that changed hands, by direction",
            Kind::Counter,
        );
        moves.sample(out, "", &[("direction", "gained")], self.gained);
        moves.sample(out, "", &[("direction", "lost")], self.lost);
        let handed = family(
            out,
            "weir_cluster_handovers_total",
            "Hand-overs of what is known of identities that changed hands, by what became of them",
            Kind::Counter,
        );
        for (result, value) in [
            ("sent", self.sent),
            ("received", self.received),
            ("failed", self.failed),
        ] {
            handed.sample(out, "", &[("result", result)], value);
        }
        let ignored = family(
            out,
            "weir_cluster_ignored_total",
            "Datagrams and hand-overs that came to the cluster's port and were ignored, by reason",
            Kind::Counter,
        );
        for (reason, value) in &self.ignored {
            ignored.sample(out, "", &[("reason", *reason)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_stands_under_its_own_label() {
        let counts = Cluster {
            members: 3,
            slots: 1_300,
            gained: 1,
            lost: 2,
            sent: 4,
            received: 5,
            failed: 6,
            ignored: vec![("stale", 7), ("refused", 8)],
        };
        let mut text = String::new();
        counts.encode(&mut text);
        for line in [
            "# TYPE weir_cluster_members gauge",
            "weir_cluster_members 3",
            "weir_cluster_slots 1300",
            "weir_cluster_slots_moved_total{direction=\"gained\"} 1",
            "weir_cluster_slots_moved_total{direction=\"lost\"} 2",
            "weir_cluster_handovers_total{result=\"sent\"} 4",
            "weir_cluster_handovers_total{result=\"received\"} 5",
            "weir_cluster_handovers_total{result=\"failed\"} 6",
            "weir_cluster_ignored_total{reason=\"stale\"} 7",
            "weir_cluster_ignored_total{reason=\"refused\"} 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
