//! `METHOD target` of any bytes.
//!
//! - The label is graphic ASCII, bounded, starts with a slash, and holds no segment long enough to
//!   be a token; nor the webhook's or interaction's token of the path.
//! - The same request has the same label and key, whatever was classified before it.
//! - Query and API version change neither.
//! - PUT and DELETE of a reaction are one limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::route::identity::parse;
use weir::route::key::counts_globally;
use weir::route::{
    BucketKey, Class, Keys, PathIdentity, ROUTE_TEXT_BYTES_MAX, RouteText, WORD_BYTES_MAX, classify,
};

/// 14 November 2023: ids of all ages can be written.
const UNIX_MS: u64 = 1_700_000_000_000;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |&byte| byte == b' ');
    let (method, target) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut text = RouteText::default();
    let seen = look(method, target, &mut text);
    check_label(method, target);
    assert_eq!(
        look(method, target, &mut text),
        seen,
        "the text is used again"
    );
    let with_query = [target, b"?limit=50/messages"].concat();
    assert_eq!(look(method, &with_query, &mut text), seen, "a query");
    let version =
        |prefix: &[u8], text: &mut RouteText| look(method, &[prefix, target].concat(), text);
    assert_eq!(
        version(b"/api/v9/", &mut text),
        version(b"/api/v10/", &mut text),
        "a version"
    );
});

fn look(method: &[u8], target: &[u8], text: &mut RouteText) -> (String, BucketKey) {
    let keys = Keys::with_seeds([1, 2, 3, 4]);
    let sender = parse(Some(b"Bot MTIzNDU.x.y"));
    let route = classify(method, target, UNIX_MS, text);
    (
        route.label.to_owned(),
        keys.bucket_key(&route, &sender, method),
    )
}

fn check_label(method: &[u8], target: &[u8]) {
    let mut text = RouteText::default();
    let route = classify(method, target, UNIX_MS, &mut text);
    let label = route.label;
    assert!((1..=ROUTE_TEXT_BYTES_MAX).contains(&label.len()));
    assert!(label.bytes().all(|byte| byte.is_ascii_graphic()) && label.starts_with('/'));
    assert!(
        label
            .split('/')
            .all(|segment| segment.len() <= WORD_BYTES_MAX)
    );
    match route.identity {
        PathIdentity::Authorization => assert!(counts_globally(&route)),
        PathIdentity::Webhook { .. } | PathIdentity::Interaction { .. } => {
            assert!(!counts_globally(&route));
            assert!(
                label == "/long" || label.split('/').nth(3) == Some("!"),
                "{label}"
            );
        }
    }
    if route.class == Class::ModifiesReaction {
        let key = |method| look(method, target, &mut RouteText::default()).1;
        assert_eq!(key(b"PUT"), key(b"DELETE"));
    }
}
