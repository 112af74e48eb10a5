use super::*;

/// Seeds of a test; `loadtest cluster-sim` runs as many as are asked for.
const SEEDS: std::ops::Range<u64> = 0..8;

fn refused(report: &Report, kind: Kind) -> usize {
    let of_kind = report.disturbed.iter().find(|(k, _)| *k == kind);
    of_kind.map_or(0, |(_, count)| *count)
}

/// Of nodes that come and go as planned.
fn planned(report: &Report) -> usize {
    let kinds = [Kind::Leave, Kind::Join, Kind::Return];
    kinds.iter().map(|kind| refused(report, *kind)).sum()
}

fn all(mutant: Mutant, seeds: std::ops::Range<u64>) -> (Vec<String>, Vec<Report>) {
    let reports: Vec<_> = seeds.map(|seed| run_mutant(seed, mutant)).collect();
    (
        reports.iter().flat_map(Report::complaints).collect(),
        reports,
    )
}

#[test]
fn a_cluster_agrees_and_keeps_discords_limits_whatever_happens_to_its_nodes() {
    let (complaints, reports) = all(Mutant::None, SEEDS);
    assert!(complaints.is_empty(), "{complaints:#?}");
    let planned: usize = reports.iter().map(planned).sum();
    // Who comes or goes as planned costs next to nothing: one request that was in the wrong place.
    assert!(planned <= reports.len() / 2, "{planned}");
}

#[test]
fn a_run_is_its_seed() {
    let (a, b) = (run(3), run(3));
    assert_eq!(
        (a.asked, a.served, a.refused),
        (b.asked, b.served, b.refused)
    );
    assert_eq!((a.bytes, a.handed_bytes), (b.bytes, b.handed_bytes));
    assert_ne!(a.bytes, run(4).bytes);
}

#[test]
fn it_shows_when_nobody_hands_over_or_is_careful() {
    for mutant in [Mutant::TellsNothing, Mutant::Careless] {
        let (_, reports) = all(mutant, 0..3);
        let planned: usize = reports.iter().map(planned).sum();
        assert!(planned > 2 * reports.len(), "{mutant:?}: {planned}");
    }
}
