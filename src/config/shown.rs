//! Values as they may be printed.

use super::bounds::SHOWN_VALUE_BYTES_MAX;

/// A value as it may be printed: short, and without the credentials that a URL can carry, or a token
/// that was put into the wrong place.
pub(super) fn shown(value: &str) -> String {
    let value = &without_tokens(value);
    // What stands before an @ is hidden, whether or not a scheme stands before that.
    let value = match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        (_, None) => value.to_owned(),
    };
    if value.len() <= SHOWN_VALUE_BYTES_MAX {
        return value;
    }
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= SHOWN_VALUE_BYTES_MAX;
    let start: String = value
        .char_indices()
        .take_while(fits)
        .map(|(_, c)| c)
        .collect();
    start + "…"
}

/// A value with `…` for what may be a token of Discord's: a bot's has three parts between dots, the last
/// of 27 characters or more, a webhook's or an interaction's none and 60 or more.
fn without_tokens(value: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_token = |word: &str| {
        let last = word.rsplit('.').next().unwrap_or(word).len();
        last >= 60 || last >= 27 && word.matches('.').count() >= 2
    };
    let mut shown = String::with_capacity(value.len());
    for piece in value.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        shown.push_str(if is_token(word) { "…" } else { word });
        shown.push_str(&piece[word.len()..]);
    }
    shown
}
