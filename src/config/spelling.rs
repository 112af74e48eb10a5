//! What somebody may have meant: names that are nearly another.

use super::setting::Setting;

/// Edits that a typing error is made of.
const EDITS_MAX: usize = 2;

/// Letters of a name for each edit that is forgiven: of four letters, one that is wrong makes another
/// word as easily as a misspelt one.
const LETTERS_FOR_AN_EDIT: usize = 4;

/// Variables of other programs that are nearly weir's.
const OTHERS: [&str; 1] = ["SSL_CERT_FILE"];

/// The setting whose variable `name` may be a misspelling of; `None` if there is none, or if it is one.
pub fn misspelt_setting(name: &str) -> Option<&'static str> {
    if OTHERS.contains(&name) {
        return None;
    }
    let known: Vec<_> = Setting::all().map(|setting| setting.name).collect();
    nearest(name, &known)
}

/// The nearest of `known` that `word` may be a misspelling of; `None` if there is none, or if it is one
/// of them.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let edits_max = EDITS_MAX.min(word.len() / LETTERS_FOR_AN_EDIT);
    let distances = known.iter().map(|known| (distance(word, known), *known));
    let (edits, nearest) = distances.min_by_key(|(edits, _)| *edits)?;
    (1..=edits_max).contains(&edits).then_some(nearest)
}

/// Letters that were put in, left out, replaced or swapped with the next (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut edits = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                edits = edits.min(before[j - 1] + 1);
            }
            row.push(edits);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("PORT", "PORT", 0),
            ("PROT", "PORT", 1),
            ("METRIC_PORT", "METRICS_PORT", 1),
            ("METRICS_PROTS", "METRICS_PORT", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn a_short_name_must_be_nearer_than_a_long_one() {
        let known = ["PORT", "METRICS_PORT"];
        for (word, expected) in [
            ("PROT", Some("PORT")),
            ("PATH", None),
            ("SPORT", Some("PORT")),
            ("METRIC_PROT", Some("METRICS_PORT")),
            ("METRICS_PORT", None),
            ("POR", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
    }
}
