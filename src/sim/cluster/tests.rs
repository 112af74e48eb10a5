use super::*;

#[test]
fn a_cluster_agrees_and_keeps_discords_limits_whatever_happens_to_its_nodes() {
    let mut all = Vec::new();
    for seed in 0..40 {
        let report = run(seed);
        all.extend(report.complaints());
        eprintln!("{seed} {} {:?} {:?} f{} ref{} served{} asked{} bytes{:.0} handed{}", report.nodes, report.steady, report.disturbed, report.failed, report.refused, report.served, report.asked, report.bytes_per_node_and_second, report.handed_bytes);
        for d in &report.disturbances { eprint!(" {:?}:{:?}", d.kind, d.took()); }
        eprintln!();
    }
    assert!(all.is_empty(), "{all:#?}");
}
