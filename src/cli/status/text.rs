//! Words and numbers, as short as they may be.

/// Text without what steers a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Text in lines of no more than so many columns, but for longer words.
pub(super) fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = |line: &String| line.chars().count() + 1 + word.chars().count() > columns;
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line += word,
            Some(line) if !full(line) => *line = format!("{line} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `1,234,567`
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with as many digits as it is worth.
pub(super) fn number(value: f64) -> String {
    if value >= 100.0 {
        thousands(value.round() as u64)
    } else if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// `340 ms`, `1.8 s`, `12 min`, `3 h 4 min`, `2 d 5 h`
pub(super) fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..10 => format!("{:.1} s", ms as f64 / 1_000.0),
        10..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_as_exact_as_they_matter() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (value, expected) in cases {
            assert_eq!(thousands(value), expected);
        }
        for (value, expected) in [
            (0.0, "0"),
            (0.031, "0.03"),
            (1.26, "1.3"),
            (61.2, "61"),
            (12_345.6, "12,346"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (ms, expected) in [
            (340, "340 ms"),
            (1_840, "1.8 s"),
            (41_200, "41 s"),
            (600_000, "10 min"),
            (7_260_000, "2 h 1 min"),
            (190_800_000, "2 d 5 h"),
        ] {
            assert_eq!(span(ms), expected);
        }
    }
}
