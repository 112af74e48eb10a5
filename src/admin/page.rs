//! The status page: one document that loads nothing from anywhere but `status.json` beside it.
//!
//! Its parts are three files for whoever edits them and one for whoever opens it. Script and style are
//! allowed by their hashes, so that nothing else would run even if text found its way into the markup.

use std::sync::LazyLock;

use ring::digest::{SHA256, digest};

use super::answer::Answer;
use super::pages::Asked;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>weir</title>\n\
    <link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
    %3Cpath d='M1 5h5v6h9' fill='none' stroke='%230b8794' stroke-width='2.5'/%3E%3C/svg%3E\">\n";
const STYLE: &str = include_str!("page/status.css");
const BODY: &str = include_str!("page/status.html");
const SCRIPT: &str = include_str!("page/status.js");

/// The page, and what it may do.
struct Built {
    page: String,
    policy: String,
}

static BUILT: LazyLock<Built> = LazyLock::new(|| Built {
    page: format!(
        "{HEAD}<style>{STYLE}</style>\n</head>\n{BODY}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    ),
    policy: format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source(STYLE),
        source(SCRIPT)
    ),
});

/// `GET /`
pub(super) fn show(_: &Asked<'_>) -> Answer {
    Answer::page(BUILT.page.as_bytes(), &BUILT.policy)
}

/// What a policy calls this script or style (Content Security Policy Level 3, "hash-source").
fn source(text: &str) -> String {
    format!(
        "sha256-{}",
        base64(digest(&SHA256, text.as_bytes()).as_ref())
    )
}

fn base64(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - group.len()));
        for at in 0..4 {
            let symbol = SYMBOLS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at > group.len() {
                '='
            } else {
                char::from(symbol)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_rfc_4648_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn the_page_names_nothing_that_lies_elsewhere_and_has_no_script_of_no_hash() {
        let page = &BUILT.page;
        for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
            let found = page.match_indices(elsewhere);
            // The name of a vocabulary is no address that anybody asks.
            let real =
                found.filter(|(at, _)| !page[*at..].starts_with("http://www.w3.org/2000/svg"));
            assert_eq!(real.count(), 0, "{elsewhere}");
        }
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("<style").count(), 1);
        for handler in [" onclick=", " onload=", " style=\""] {
            assert!(!page.contains(handler), "{handler}");
        }
    }
}
