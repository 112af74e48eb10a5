use super::*;
use crate::mock::limits::Quota;
use crate::mock::settings::Settings;
use serde_json::json;

const C: &str = "203039963636301824";
const MS: u64 = 1_000_000;
const BOT: &str = "Bot MzkyODI3MTY5NDk3Mjg0NjE5.X.y";

fn request<'a>(method: Method, target: &'a str) -> Request<'a> {
    Request {
        method,
        target,
        authorization: BOT,
        source: "127.0.0.1".parse().unwrap(),
        json: b"",
        body_bytes: 0,
        connection: (1, 1),
    }
}

fn status(world: &mut World, now_ns: u64, request: &Request<'_>) -> u16 {
    match world.judge(now_ns, 1_700_000_000_000, request).reply {
        Reply::Serve(endpoint) => endpoint.status(request.target),
        Reply::Limited(..) => 429,
        Reply::Error(status, ..) => status,
    }
}

fn patched(patch: &serde_json::Value) -> World {
    World::new(Settings::default().patched(patch).unwrap(), 1)
}

#[test]
fn six_messages_at_once_draw_one_429_that_the_oracle_counts() {
    let mut world = patched(&json!({}));
    let target = format!("/api/v10/channels/{C}/messages");
    let post = request(Method::Post, &target);
    let statuses: Vec<u16> = (0..6).map(|_| status(&mut world, 0, &post)).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let report = world.report(0);
    assert_eq!(
        (report.violations, report.unforetold, report.invalid),
        (1, 0, 1)
    );
    assert_eq!(report.templates["POST /channels/!/messages"].accepted, 5);
    assert_eq!(report.refused[&Cause::Bucket], 1);
    assert_eq!(report.bots["392827169497284619"], 6);
    world.reset(0);
    assert_eq!(world.report(0).violations, 0);
    assert_eq!(status(&mut world, 0, &post), 200);
}

#[test]
fn interactions_and_webhooks_are_exempt_from_the_global_limit() {
    let mut world = patched(&json!({"limits": {"global": {"limit": 3}}}));
    for i in 0..200 {
        let target = format!("/api/v10/interactions/20303996363630{i:04}/token{i}/callback");
        assert_eq!(status(&mut world, 0, &request(Method::Post, &target)), 204);
        let target = format!("/api/v10/webhooks/20303996363630{i:04}/token");
        assert_eq!(status(&mut world, 0, &request(Method::Post, &target)), 204);
    }
    for i in 0..4 {
        let target = format!("/api/v10/channels/20303996363630{i:04}");
        let want = if i < 3 { 200 } else { 429 };
        assert_eq!(status(&mut world, 0, &request(Method::Get, &target)), want);
    }
    assert_eq!(world.report(0).refused[&Cause::Global], 1);
    // Nor does a webhook have a global limit of its own.
    for _ in 0..5 {
        let target = format!("/api/v10/webhooks/{C}/token");
        assert_eq!(status(&mut world, 0, &request(Method::Post, &target)), 204);
    }
}

#[test]
fn ids_that_end_in_404_are_unknown_and_in_403_forbidden() {
    let mut world = patched(&json!({}));
    let mut reply = |method, target: &str| {
        world
            .judge(0, 1_700_000_000_000, &request(method, target))
            .reply
    };
    let unknown = "203039963636301404";
    let channel = reply(
        Method::Post,
        &format!("/api/v10/channels/{unknown}/messages"),
    );
    assert_eq!(channel, Reply::Error(404, 10_003, "Unknown Channel"));
    let hook = reply(Method::Post, &format!("/api/v10/webhooks/{unknown}/tok"));
    assert_eq!(hook, Reply::Error(404, 10_015, "Unknown Webhook"));
    let message = reply(
        Method::Delete,
        &format!("/api/v10/channels/{C}/messages/{unknown}"),
    );
    assert_eq!(message, Reply::Error(404, 10_008, "Unknown Message"));
    let forbidden = reply(Method::Get, "/api/v10/channels/203039963636301403");
    assert_eq!(forbidden, Reply::Error(403, 50_001, "Missing Access"));
}

#[test]
fn dead_tokens_and_missing_ones_are_unauthorized_and_spend_no_limit() {
    let mut world = patched(&json!({"auth": {"dead_tokens": ["dead"]}}));
    let me = request(Method::Get, "/api/v10/users/@me");
    assert_eq!(
        status(
            &mut world,
            0,
            &Request {
                authorization: "Bot dead.x",
                ..me
            }
        ),
        401
    );
    assert_eq!(
        status(
            &mut world,
            0,
            &Request {
                authorization: "",
                ..me
            }
        ),
        401
    );
    let gateway = request(Method::Get, "/api/v10/gateway");
    assert_eq!(
        status(
            &mut world,
            0,
            &Request {
                authorization: "",
                ..gateway
            }
        ),
        200
    );
    let target = format!("/api/v10/webhooks/{C}/dead");
    let hook = world.judge(0, 0, &request(Method::Post, &target)).reply;
    assert_eq!(hook, Reply::Error(401, 50_027, "Invalid Webhook Token"));

    let revived = world
        .settings()
        .patched(&json!({"auth": {"dead_tokens": []}}))
        .unwrap();
    world.configure(revived);
    assert_eq!(
        status(
            &mut world,
            0,
            &Request {
                authorization: "Bot dead.x",
                ..me
            }
        ),
        200
    );
}

#[test]
fn too_many_invalid_requests_ban_the_address_even_for_valid_ones() {
    let mut world = patched(&json!({"invalid": {"threshold": 3, "ban_ms": 1000}}));
    let bad = Request {
        authorization: "",
        ..request(Method::Get, "/api/v10/users/@me")
    };
    for _ in 0..3 {
        assert_eq!(status(&mut world, 0, &bad), 401);
    }
    let good = request(Method::Get, "/api/v10/users/@me");
    let reply = world.judge(0, 0, &good).reply;
    assert_eq!(reply, Reply::Limited(Cause::Cloudflare, 1000 * MS));
    assert_eq!(status(&mut world, 1000 * MS, &good), 200);
    let report = world.report(0);
    assert_eq!(
        (report.bans, report.banned_requests, report.violations),
        (1, 1, 0)
    );
}

#[test]
fn shared_429s_are_neither_violations_nor_invalid() {
    let mut world = patched(&json!({}));
    let mut settings = world.settings().clone();
    settings.limits.rules[0].shared = Some(Quota::fixed(1, 1000));
    world.configure(settings);
    let target = format!("/api/v10/channels/{C}/messages");
    assert_eq!(status(&mut world, 0, &request(Method::Post, &target)), 200);
    assert_eq!(status(&mut world, 0, &request(Method::Post, &target)), 429);
    let report = world.report(0);
    assert_eq!(
        (report.violations, report.unforetold, report.invalid),
        (0, 1, 0)
    );
}

#[test]
fn a_renamed_channel_meets_its_hidden_limit_and_other_changes_do_not() {
    let mut world = patched(&json!({}));
    let target = format!("/api/v10/channels/{C}");
    let rename = Request {
        json: br#"{"name":"x"}"#,
        ..request(Method::Patch, &target)
    };
    let other = Request {
        json: br#"{"nsfw":true}"#,
        ..request(Method::Patch, &target)
    };
    assert_eq!(status(&mut world, 0, &rename), 200);
    assert_eq!(status(&mut world, 0, &rename), 200);
    assert_eq!(status(&mut world, 0, &rename), 429);
    assert_eq!(status(&mut world, 0, &other), 200);
    assert_eq!(world.report(0).unforetold, 1);
}

#[test]
fn order_is_judged_by_what_was_accepted() {
    let mut world = patched(&json!({}));
    let target = format!("/api/v10/channels/{C}/messages");
    for (i, seq) in [0, 1, 3, 2, 4, 5].into_iter().enumerate() {
        let json = format!(r#"{{"content":"seq:{seq}"}}"#);
        let post = Request {
            json: json.as_bytes(),
            ..request(Method::Post, &target)
        };
        // The sixth is refused, so it never took its place.
        assert_eq!(status(&mut world, 0, &post), if i < 5 { 200 } else { 429 });
    }
    let order = world.report(0).order;
    assert_eq!((order.tagged, order.inversions, order.missing), (5, 1, 0));
}

#[test]
fn a_faulted_request_is_noted_but_not_processed() {
    let mut world = patched(&json!({"faults": [{"action": {"kind": "half_head"}, "times": 1}]}));
    let me = request(Method::Get, "/api/v10/users/@me");
    let action = world.fault(me.method, me.target, BOT).unwrap();
    assert!(!action.is_processed());
    world.strike(0, 0, &me, 0);
    assert_eq!(world.fault(me.method, me.target, BOT), None);
    let report = world.report(0);
    assert_eq!(
        (report.faults, report.requests, report.statuses[&0]),
        (1, 1, 1)
    );
    assert_eq!(report.templates["GET /users/@me"].accepted, 0);
}

#[test]
fn arrivals_are_logged_with_time_and_connection() {
    let mut world = patched(&json!({}));
    let me = Request {
        connection: (3, 2),
        ..request(Method::Get, "/api/v10/users/@me")
    };
    status(&mut world, 5 * MS, &me);
    let log = world.oracle.log.of("users");
    assert_eq!(
        (log[0].at_ns, log[0].connection, log[0].ordinal),
        (5 * MS, 3, 2)
    );
    assert_eq!(
        (log[0].status, log[0].bot_id),
        (200, 392_827_169_497_284_619)
    );
}

#[test]
fn a_path_that_is_no_route_is_not_found() {
    let mut world = patched(&json!({}));
    assert_eq!(
        status(&mut world, 0, &request(Method::Get, "/robots.txt")),
        404
    );
    assert_eq!(world.report(0).templates["GET other"].requests, 1);
}
