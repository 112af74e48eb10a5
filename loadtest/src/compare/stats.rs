//! Medians, spreads, and ratios of what was measured side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::measure::Sample;

/// Median, least and most of some numbers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The middle, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of no numbers there is none.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (min, max) = (*numbers.first()?, *numbers.last()?);
        let half = numbers.len() / 2;
        let median = if numbers.len() % 2 == 1 {
            numbers[half]
        } else {
            f64::midpoint(numbers[half - 1], numbers[half])
        };
        Some(Self { median, min, max })
    }

    /// In another unit.
    #[must_use]
    pub(super) fn scaled(self, by: f64) -> Self {
        Self {
            median: self.median * by,
            min: self.min * by,
            max: self.max * by,
        }
    }
}

/// All samples of a run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Samples(pub Vec<Sample>);

impl Samples {
    /// One measurement of one peer, by round.
    fn by_round(&self, scenario: &str, peer: &str, metric: &str) -> BTreeMap<usize, f64> {
        self.of(scenario, peer)
            .filter_map(|sample| Some((sample.round, *sample.values.get(metric)?)))
            .collect()
    }

    /// The samples of a peer.
    pub(super) fn of(&self, scenario: &str, peer: &str) -> impl Iterator<Item = &Sample> {
        self.0
            .iter()
            .filter(move |sample| sample.scenario == scenario && sample.peer == peer)
    }

    /// One measurement of one peer over all rounds; `None` if it was not made.
    pub(super) fn spread(&self, scenario: &str, peer: &str, metric: &str) -> Option<Spread> {
        Spread::of(
            self.by_round(scenario, peer, metric)
                .into_values()
                .collect(),
        )
    }

    /// What `one` measured against `other`, round by round, so that what changes with time about
    /// the machine drops out; `None` if they never ran in one round.
    pub(super) fn ratio(
        &self,
        scenario: &str,
        (one, other): (&str, &str),
        metric: &str,
    ) -> Option<Spread> {
        self.pairs(scenario, (one, other), metric, |a, b| a / b)
    }

    /// As [`Self::ratio`], the difference.
    pub(super) fn difference(
        &self,
        scenario: &str,
        (one, other): (&str, &str),
        metric: &str,
    ) -> Option<Spread> {
        self.pairs(scenario, (one, other), metric, |a, b| a - b)
    }

    fn pairs(
        &self,
        scenario: &str,
        (one, other): (&str, &str),
        metric: &str,
        compare: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let others = self.by_round(scenario, other, metric);
        let pairs = self.by_round(scenario, one, metric).into_iter();
        let compared = pairs.filter_map(|(round, a)| Some(compare(a, *others.get(&round)?)));
        Spread::of(compared.filter(|value| value.is_finite()).collect())
    }

    /// What makes the samples of a peer doubtful, each once.
    pub(super) fn problems(&self, scenario: &str, peer: &str) -> BTreeSet<&str> {
        self.of(scenario, peer)
            .flat_map(|sample| sample.problems.iter().map(String::as_str))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(peer: &'static str, round: usize, value: f64) -> Sample {
        Sample {
            scenario: "s".into(),
            peer,
            round,
            place: 1,
            values: [("m", value)].into(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round, and the fourth lacks the other one.
        let samples = Samples(vec![
            sample("a", 1, 1.0),
            sample("b", 1, 2.0),
            sample("a", 2, 2.0),
            sample("b", 2, 4.0),
            sample("a", 3, 1.0),
            sample("b", 3, 1.0),
            sample("a", 4, 9.0),
        ]);
        let ratio = samples.ratio("s", ("a", "b"), "m").unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (0.5, 0.5, 1.0));
        assert_eq!(
            samples.difference("s", ("a", "b"), "m").unwrap().median,
            -1.0
        );
        assert_eq!(samples.ratio("s", ("a", "c"), "m"), None);
        assert_eq!(samples.ratio("t", ("a", "b"), "m"), None);
    }
}
