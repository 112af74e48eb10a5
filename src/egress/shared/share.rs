//! What part of a cap is whose while nobody can be asked.

/// The part of `cap` that the proxy of rank `rank` has, of `fleet` proxies: an even one, and the first
/// few have one more, so that all parts together are the cap exactly.
pub(crate) fn of(cap: u32, rank: usize, fleet: usize) -> u32 {
    let fleet = u32::try_from(fleet.max(1)).unwrap_or(u32::MAX);
    let one_more = u32::try_from(rank).is_ok_and(|rank| rank < cap % fleet);
    cap / fleet + u32::from(one_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_the_cap_and_differ_by_one_at_most() {
        for cap in 0..60 {
            for fleet in 1..20 {
                let parts: Vec<u32> = (0..fleet).map(|rank| of(cap, rank, fleet)).collect();
                assert_eq!(parts.iter().sum::<u32>(), cap, "{cap} over {fleet}");
                let (most, least) = (parts.iter().max(), parts.iter().min());
                assert!(most.unwrap() - least.unwrap() <= 1, "{cap} over {fleet}");
            }
        }
        assert_eq!(of(25, 0, 0), 25, "nobody but this one");
    }
}
