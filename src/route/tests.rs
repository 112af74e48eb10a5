//! The table of routes, and paths that nobody sane would send.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use proptest::prelude::*;

use super::key::counts_globally;
use super::*;
use crate::config::{RouteTemplate, bounds};

/// Wall clock at which the vectors are written.
const NOW_MS: u64 = 1_700_000_000_000;

fn keys() -> Keys {
    Keys::with_seeds([1, 2, 3, 4])
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn describe(route: &Route<'_>) -> [String; 4] {
    let identity = match route.identity {
        PathIdentity::Authorization => "auth",
        PathIdentity::Webhook { .. } => "webhook",
        PathIdentity::Interaction { .. } => "interaction",
    };
    let major = match route.major {
        Major::None => String::new(),
        Major::Channel(id) => format!("channels/{}", text(id)),
        Major::Guild(id) => format!("guilds/{}", text(id)),
        Major::Webhook { id, token: None } => format!("webhooks/{}", text(id)),
        Major::Webhook {
            id,
            token: Some(token),
        } => {
            format!("webhooks/{}/{}", text(id), text(token))
        }
        Major::Interaction(id) => format!("interactions/{id}"),
    };
    [
        identity.into(),
        major,
        route.template().to_string(),
        route.label.into(),
    ]
}

fn described(method: &str, target: &str) -> [String; 4] {
    describe(&classify(
        method.as_bytes(),
        target.as_bytes(),
        NOW_MS,
        &mut RouteText::default(),
    ))
}

fn key(method: &str, target: &str, authorization: Option<&[u8]>) -> BucketKey {
    let mut text = RouteText::default();
    let route = classify(method.as_bytes(), target.as_bytes(), NOW_MS, &mut text);
    keys().bucket_key(&route, &identity::parse(authorization), method.as_bytes())
}

fn vectors() -> impl Iterator<Item = [&'static str; 6]> {
    include_str!("../../tests/vectors/routes.tsv")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("method\t"))
        .map(|line| line.split('\t').collect::<Vec<_>>().try_into().unwrap())
}

#[test]
fn every_row_of_the_vectors_holds() {
    let mut wrong = String::new();
    for [method, target, identity, major, route, label] in vectors() {
        let (is, should) = (described(method, target), [identity, major, route, label]);
        if is != should {
            writeln!(
                wrong,
                "{method} {target}\n  is     {is:?}\n  should {should:?}"
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(vectors().count(), 61);
}

#[test]
fn two_rows_share_a_key_exactly_when_identity_major_route_and_method_agree() {
    let mut seen: HashMap<BucketKey, (String, String)> = HashMap::new();
    for [method, target, identity, major, route, _] in vectors() {
        let method_class = if route.ends_with("!modify") {
            ""
        } else {
            method
        };
        let secret = if identity == "auth" { "" } else { major };
        let limit = format!("{identity} {secret} {major} {method_class} {route}");
        let named = (limit, target.to_owned());
        if let Some(other) = seen.insert(key(method, target, None), named.clone()) {
            assert_eq!(other.0, named.0, "{} and {target} share a key", other.1);
        }
    }
    let limits: HashSet<_> = seen.values().map(|(limit, _)| limit).collect();
    assert_eq!(limits.len(), seen.len(), "one limit has two keys");
}

#[test]
fn a_template_has_the_key_of_every_request_of_its_route() {
    let mut tested = 0;
    for [method, target, _, _, _, label] in vectors() {
        let Ok(template) = format!("{method} {label}").parse::<RouteTemplate>() else {
            assert!(
                ["/", "/other", "/long"].contains(&label),
                "{method} {label}"
            );
            continue;
        };
        tested += 1;
        let of_template = keys().template_keys(template.method(), template.path());
        let of_request = key(method, target, Some(b"Bot a")).route;
        assert!(of_template.contains(&of_request), "{template} {target}");
    }
    assert!(tested > 50, "{tested}");
}

#[test]
fn a_template_has_the_keys_of_its_own_route_and_no_other() {
    let now = |age_ms: u64| ((NOW_MS - age_ms - 1_420_070_400_000) << 22).to_string();
    let week_ms = 7 * 24 * 60 * 60 * 1_000;
    let message = |age_ms| format!("/api/v10/channels/1/messages/{}", now(age_ms));
    let interaction = base64::encode(b"interaction:1103049420930568322:secretsecret", true);
    let table: &[(&str, &str, &[String])] = &[
        (
            "POST",
            "/channels/!/messages",
            &["/api/v10/channels/203039963636301824/messages".into()],
        ),
        (
            "GET",
            "/guilds/!/members/!",
            &["/api/guilds/1/members/2?x=1".into()],
        ),
        ("GET", "/users/@me", &["/api/v9/users/@me".into()]),
        (
            "DELETE",
            "/channels/!/messages/!",
            &[message(1_000), message(week_ms), message(3 * week_ms)],
        ),
        (
            "PATCH",
            "/channels/!/messages/!",
            &[message(1_000), message(3 * week_ms)],
        ),
        (
            "PUT",
            "/channels/!/messages/!/reactions/!/@me",
            &["/api/channels/1/messages/2/reactions/%F0%9F%98%8B/@me".into()],
        ),
        (
            "GET",
            "/channels/!/messages/!/reactions/!",
            &["/api/channels/1/messages/2/reactions/a:1".into()],
        ),
        ("GET", "/invites/!", &["/api/invites/dyno".into()]),
        ("GET", "/invites/dyno", &["/api/invites/other".into()]),
        (
            "POST",
            "/webhooks/!/!",
            &[
                "/api/webhooks/1/token".into(),
                format!("/api/v10/webhooks/1/{interaction}"),
            ],
        ),
        (
            "PATCH",
            "/webhooks/!/token/messages/@original",
            &[format!(
                "/api/v10/webhooks/1/{interaction}/messages/@original"
            )],
        ),
        (
            "POST",
            "/interactions/!/!/callback",
            &[format!("/api/v10/interactions/1/{interaction}/callback")],
        ),
    ];
    for (method, template, targets) in table {
        let parsed = format!("{method} {template}")
            .parse::<RouteTemplate>()
            .unwrap();
        let of_template: HashSet<u64> = keys()
            .template_keys(parsed.method(), parsed.path())
            .into_iter()
            .collect();
        let of_requests: HashSet<u64> = targets
            .iter()
            .map(|target| key(method, target, None).route)
            .collect();
        assert_eq!(of_template, of_requests, "{method} {template}");
    }
    let put = keys().template_keys("PUT", "/channels/!/messages/!/reactions/!/@me");
    let delete = keys().template_keys("DELETE", "/channels/!/messages/!/reactions/!/!");
    assert_eq!(put, delete, "they share one limit");
}

#[test]
fn the_longest_template_is_a_route_of_its_own() {
    let bytes = bounds::TEMPLATE_BYTES_MAX;
    let mut path = "/channels/!/messages/!/reactions".to_owned();
    path.push_str(&"/a".repeat((bytes - path.len()) / 2));
    let plain = format!("/{}", "ab/".repeat(32) + "abc");
    assert_eq!((path.len(), plain.len()), (bytes, bytes));
    let long = key("GET", &format!("/api/{}", "word/".repeat(40)), None).route;
    for path in [path, plain] {
        let template = format!("GET {path}").parse::<RouteTemplate>().unwrap();
        assert!(!keys().template_keys("GET", template.path()).contains(&long));
    }
    const { assert!(bounds::TEMPLATE_WORD_BYTES_MAX == WORD_BYTES_MAX) };
}

#[test]
fn reactions_are_put_and_deleted_under_one_key_and_read_under_another() {
    let path = |emoji: &str| format!("/api/v10/channels/1/messages/2/reactions/{emoji}/@me");
    let put = key("PUT", &path("a"), None);
    assert_eq!(put, key("DELETE", &path("%F0%9F%98%8B"), None));
    assert_eq!(
        put,
        key("DELETE", "/api/channels/1/messages/2/reactions", None)
    );
    assert_ne!(put, key("GET", &path("a"), None));
    assert_ne!(put, key("DELETE", "/api/channels/1/messages/2", None));
    assert_ne!(
        put.major,
        key("PUT", &path("a").replace("/1/", "/3/"), None).major
    );
}

#[test]
fn what_is_learned_of_a_route_holds_for_every_channel_and_bot() {
    let one = key("GET", "/api/v10/channels/1/messages", Some(b"Bot a"));
    let other = key("GET", "/api/v9/channels/2/messages?limit=5", Some(b"Bot b"));
    assert_eq!(one.route, other.route);
    assert_ne!(one.major, other.major);
    assert_ne!(one.identity, other.identity);
    let guild = key("GET", "/api/v10/guilds/1/messages", Some(b"Bot a"));
    assert_ne!(
        one.major, guild.major,
        "a guild is no channel of the same id"
    );
    assert_ne!(
        one.route,
        key("POST", "/api/v10/channels/1/messages", Some(b"Bot a")).route
    );
}

#[test]
fn the_identity_is_the_token_in_the_path_else_the_header_else_the_egress_ip() {
    let hook = "/api/webhooks/1/token";
    let with = |target, header: &'static [u8]| key("POST", target, Some(header)).identity;
    assert_eq!(with(hook, b"Bot a"), key("POST", hook, None).identity);
    assert_ne!(with(hook, b""), with("/api/webhooks/1/other", b""));
    assert_ne!(
        with("/api/webhooks/1/23", b""),
        with("/api/webhooks/12/3", b"")
    );
    assert_eq!(
        with("/api/users/@me", b"Bot a"),
        with("/api/gateway", b"Bot a")
    );
    assert_ne!(
        with("/api/users/@me", b"Bot a"),
        with("/api/users/@me", b"Bot b")
    );
    assert_ne!(
        with("/api/users/@me", b"Bot a"),
        with("/api/users/@me", b"a")
    );
    assert_eq!(
        with("/api/users/@me", b""),
        key("GET", "/api/gateway", None).identity
    );
    assert_ne!(with("/api/users/@me", b""), with("/api/users/@me", b"x"));
}

#[test]
fn an_interactions_callback_and_follow_ups_share_identity_and_major() {
    let token = base64::encode(b"interaction:1103049420930568322:secretsecret", true);
    let callback = format!("/api/v10/interactions/1103049420930568322/{token}/callback");
    let follow_up = format!("/api/v10/webhooks/392827169497284619/{token}");
    let (callback, follow_up) = (key("POST", &callback, None), key("POST", &follow_up, None));
    assert_eq!(
        (callback.identity, callback.major),
        (follow_up.identity, follow_up.major)
    );
    assert_ne!(callback.route, follow_up.route);
    let [identity, major, ..] = described("POST", "/api/interactions/5/any-token/callback");
    assert_eq!(
        [identity.as_str(), &major],
        ["interaction", "interactions/5"]
    );
}

#[test]
fn the_global_limit_counts_what_no_token_in_the_path_stands_for() {
    for (target, counts) in [
        ("/api/v10/channels/1/messages", true),
        ("/api/v10/webhooks/1", true),
        ("/other", true),
        ("/api/v10/webhooks/1/token", false),
        ("/api/v10/webhooks/1/token/messages/@original", false),
        ("/api/v10/interactions/1/token/callback", false),
        ("/api/v10/webhooks/99999999999999999999/token", false),
    ] {
        let mut text = RouteText::default();
        let route = classify(b"POST", target.as_bytes(), NOW_MS, &mut text);
        assert_eq!(counts_globally(&route), counts, "{target}");
    }
}

#[test]
fn a_broken_interaction_token_is_a_webhooks_token() {
    for plain in [
        "interaction:",
        "interaction:x:secret",
        "interaction:99999999999999999999:s",
    ] {
        let token = base64::encode(plain.as_bytes(), false);
        let target = format!("/api/webhooks/1/{token}");
        assert_eq!(described("POST", &target)[0], "webhook", "{plain}");
    }
    let largest = base64::encode(format!("interaction:{}:s", u64::MAX).as_bytes(), false);
    assert_eq!(
        described("POST", &format!("/api/webhooks/1/{largest}"))[0],
        "interaction"
    );
}

#[test]
fn odd_paths_have_a_route_as_well() {
    let long = format!("/api/v10/{}", "word/".repeat(40));
    let token = "x".repeat(WORD_BYTES_MAX + 1);
    for (target, label) in [
        ("", "/other"),
        ("*", "/other"),
        ("/channels/1/messages", "/other"),
        ("/nirn/healthz", "/other"),
        ("/api", "/"),
        ("/api/v10/?x", "/"),
        ("/api/v10//channels//1/", "/channels/!"),
        ("/api/v10/channels/../guilds", "/channels/../guilds"),
        ("/api/v10/channels/%31", "/channels/%31"),
        ("/api/v10/a\u{e9}\n/b", "/a@@@/b"),
        (
            "/api/v10/guilds/1/templates/hgM48av5Q69A",
            "/guilds/!/templates/!",
        ),
        (&long, "/long"),
        (&format!("/api/v10/unheard-of/{token}"), "/unheard-of/!"),
        (&format!("/api/v10/{token}"), "/!"),
        (
            &format!("/api/v10/channels/{}", "9".repeat(5_000)),
            "/channels/!",
        ),
    ] {
        assert_eq!(described("GET", target)[3], label, "{target}");
    }
}

#[test]
fn only_a_messages_own_deletion_is_classed_by_its_age() {
    let old = "1168674023014400000";
    for (method, rest, template) in [
        ("DELETE", "", "/channels/!/messages/!14d"),
        ("DELETE", "/crosspost", "/channels/!/messages/!/crosspost"),
        ("PATCH", "", "/channels/!/messages/!"),
    ] {
        let target = format!("/api/channels/1/messages/{old}{rest}");
        assert_eq!(described(method, &target)[2], template);
    }
    let elsewhere = format!("/api/channels/1/threads/messages/{old}");
    assert_eq!(
        described("DELETE", &elsewhere)[2],
        "/channels/!/threads/messages/!"
    );
    let pins = format!("/api/channels/1/messages/pins/{old}");
    assert_eq!(described("DELETE", &pins)[2], "/channels/!/messages/pins/!");
}

#[test]
fn a_reused_text_holds_the_last_route_alone() {
    let mut text = RouteText::default();
    classify(b"GET", b"/api/v10/channels/1/messages", NOW_MS, &mut text);
    classify(b"GET", b"/api/v10/gateway", NOW_MS, &mut text);
    assert_eq!(text.as_str(), "/gateway");
}

#[test]
fn a_printed_route_holds_no_token() {
    let mut text = RouteText::default();
    let route = classify(b"POST", b"/api/webhooks/1/secret", NOW_MS, &mut text);
    assert!(!format!("{route:?}").contains("secret"));
}

/// Pieces that real and hostile paths are made of.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "/", "//", "api", "v10", "channels", "guilds", "webhooks", "interactions", "messages",
            "reactions", "invites", "1103049420930568322", "aW50ZXJhY3Rpb246MTEwMzA0", "..", "?",
            "#", "%2F", "callback", "@me", "http://",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ]
}

fn hostile_path() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), prop::collection::vec(piece(), 0..30)).prop_map(|(in_api, pieces)| {
        let mut path = if in_api {
            b"/api/v10/".to_vec()
        } else {
            Vec::new()
        };
        path.extend(pieces.join(&b'/'));
        path
    })
}

proptest! {
    #[test]
    fn any_path_has_a_short_printable_route(
        method in prop::sample::select(vec!["GET", "PUT", "DELETE", ""]),
        path in hostile_path(),
        now_ms: u64,
    ) {
        let mut text = RouteText::default();
        let route = classify(method.as_bytes(), &path, now_ms, &mut text);
        prop_assert!(route.label.len() <= ROUTE_TEXT_BYTES_MAX);
        prop_assert!(route.label.starts_with('/'));
        prop_assert!(route.label.bytes().all(|b| b.is_ascii_graphic()));
        prop_assert!(route.label.split('/').all(|word| word.len() <= WORD_BYTES_MAX));
        if let Major::Channel(id) | Major::Guild(id) | Major::Webhook { id, .. } = route.major {
            prop_assert!(id.iter().all(u8::is_ascii_digit));
        }
    }

    #[test]
    fn the_query_never_takes_part(path in hostile_path(), query in hostile_path()) {
        prop_assume!(!path.contains(&b'?') && !path.contains(&b'#'));
        let with = [&path[..], b"?", &query[..]].concat();
        let (mut one, mut other) = (RouteText::default(), RouteText::default());
        let (one, other) = (
            classify(b"GET", &path, NOW_MS, &mut one),
            classify(b"GET", &with, NOW_MS, &mut other),
        );
        let sender = identity::parse(None);
        prop_assert_eq!(
            keys().bucket_key(&one, &sender, b"GET"),
            keys().bucket_key(&other, &sender, b"GET")
        );
    }
}
