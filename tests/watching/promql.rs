//! The names of metrics in a PromQL expression.

/// Words of PromQL that look like names of metrics.
const WORDS: [&str; 12] = [
    "and",
    "or",
    "unless",
    "on",
    "ignoring",
    "by",
    "without",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "inf",
];

/// Words whose parentheses hold names of labels.
const BEFORE_LABELS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// Every metric that is named: identifiers that are no words of the language, no functions (a parenthesis
/// follows), and stand neither in braces nor among labels nor in brackets or strings.
pub(crate) fn metrics(expression: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = expression;
    // The closing of each open parenthesis, brace or bracket; whether names within it are metrics.
    let mut open: Vec<(char, bool)> = Vec::new();
    let mut before = "";
    while let Some(first) = rest.chars().next() {
        let within = open.last().is_none_or(|(_, metrics)| *metrics);
        match first {
            '"' | '\'' | '`' => {
                let mut end = 1;
                let bytes = rest.as_bytes();
                while bytes[end] != first as u8 {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                rest = &rest[end + 1..];
                before = "";
            }
            '(' => {
                open.push((')', within && !BEFORE_LABELS.contains(&before)));
                rest = &rest[1..];
                before = "";
            }
            '{' => {
                open.push(('}', false));
                rest = &rest[1..];
            }
            '[' => {
                open.push((']', false));
                rest = &rest[1..];
            }
            ')' | '}' | ']' => {
                let closed = open.pop();
                assert_eq!(closed.map(|(end, _)| end), Some(first), "{expression}");
                rest = &rest[1..];
                before = "";
            }
            _ if first.is_ascii_alphabetic() || first == '_' || first == ':' => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                let after_space = after.trim_start();
                let function = after_space.starts_with('(');
                // `sum by (le) (…)`: no function, though a word stands behind it.
                let aggregated = ["by", "without"].iter().any(|word| {
                    let behind = after_space.strip_prefix(word);
                    behind.is_some_and(|behind| behind.trim_start().starts_with('('))
                });
                if within && !function && !aggregated && !WORDS.contains(&word) {
                    names.push(word.to_owned());
                }
                before = word;
                rest = after;
            }
            _ if first.is_ascii_digit() => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
                rest = &rest[end.unwrap_or(rest.len())..];
            }
            _ => rest = &rest[first.len_utf8()..],
        }
    }
    names
}

#[test]
fn metrics_are_told_from_functions_labels_and_words() {
    let of = |expression| metrics(expression).join(" ");
    assert_eq!(
        of("histogram_quantile(0.9, sum by (le) (rate(a_bucket{b=~\"c{2}|d\"}[5m])))"),
        "a_bucket"
    );
    assert_eq!(
        of("sum(rate(a{x=\"y\"}[$__rate_interval])) by (z) / on (q) group_left (r) b offset 1d"),
        "a b"
    );
    assert_eq!(
        of("a > 2 * (b offset 1d) and c > 1e3 or absent(up{})"),
        "a b c up"
    );
    assert_eq!(of("topk(10, sum by (x, y) (a)) unless vector(0)"), "a");
}
