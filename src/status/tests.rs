use super::*;
use crate::route::Major;
use crate::route::identity::Client;

/// Every field has something in it.
fn full() -> Status {
    let text = include_str!("full.json");
    serde_json::from_str(text).expect("a document")
}

#[test]
fn what_was_written_by_this_version_is_read_and_written_as_it_was() {
    let text: serde_json::Value = serde_json::from_str(include_str!("full.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&full().to_json()).unwrap();
    assert_eq!(written, text, "a field has gone, or changed its name");
    assert_eq!(full().version, VERSION);
}

#[test]
fn a_reader_skips_what_it_does_not_know_and_does_without_what_is_missing() {
    let status: Status =
        serde_json::from_str(r#"{"version":1,"state":"draining","later":{"a":[1]}}"#).unwrap();
    assert_eq!(status.state, State::Draining);
    assert_eq!(status.requests, Requests::default());
}

#[test]
fn a_document_is_one_line() {
    assert_eq!(full().to_json().matches('\n').count(), 1);
    assert!(full().to_json().ends_with("}\n"));
}

fn said(change: impl FnOnce(&mut Status)) -> Vec<(Level, String)> {
    let mut status = Status::default();
    change(&mut status);
    let list = attention(&status, &Recent::default());
    list.into_iter()
        .map(|item| (item.level, item.what))
        .collect()
}

#[test]
fn when_all_is_well_there_is_nothing_to_say() {
    assert_eq!(said(|_| ()), []);
    assert_eq!(
        said(|status| {
            status.requests.waiting_max = 100;
            status.requests.waiting = 89;
            status.guards.invalid.max = 9_500;
            status.guards.invalid.used = 949;
            status.workers = vec![Worker {
                answers: true,
                ..Worker::default()
            }];
            status.buckets.blocked = vec![Bucket {
                waiting: 9,
                opens_in_ms: Some(9_999),
                ..Bucket::default()
            }];
        }),
        []
    );
}

#[test]
fn each_thing_that_a_person_should_know_is_said() {
    use Level::{Notice, Problem};
    let invalid = |used| {
        move |status: &mut Status| {
            status.guards.invalid.max = 9_500;
            status.guards.invalid.used = used;
        }
    };
    let one = |level, what: &str| vec![(level, what.to_owned())];
    assert_eq!(said(invalid(950)), one(Notice, "invalid_requests"));
    assert_eq!(said(invalid(4_750)), one(Problem, "invalid_requests"));
    assert_eq!(said(invalid(9_500)), one(Problem, "invalid_requests"));
    assert_eq!(
        said(|status| status.guards.cloudflare.blocked = true),
        one(Problem, "cloudflare")
    );
    assert_eq!(
        said(|status| status.workers = vec![Worker::default()]),
        one(Problem, "workers")
    );
    assert_eq!(
        said(|status| status.senders.locked = 2),
        one(Problem, "tokens")
    );
    assert_eq!(
        said(|status| {
            status.requests.waiting_max = 100;
            status.requests.waiting = 90;
        }),
        one(Problem, "waiting")
    );
    assert_eq!(
        said(|status| {
            status.connections.clients_max = 100;
            status.connections.clients = 90;
        }),
        one(Problem, "clients")
    );
    assert_eq!(
        said(|status| status.connections.upstream.waiting = 1),
        one(Notice, "connections")
    );
    assert_eq!(
        said(|status| status.state = State::Draining),
        one(Notice, "draining")
    );
    assert_eq!(
        said(|status| {
            status.buckets.blocked = vec![Bucket {
                waiting: 1,
                opens_in_ms: Some(10_000),
                ..Bucket::default()
            }];
        }),
        one(Notice, "bucket")
    );
    assert_eq!(
        said(|status| {
            let paused_ms = 1;
            status.senders.top = vec![Sender {
                paused_ms,
                ..Sender::default()
            }];
        }),
        one(Notice, "global")
    );
    assert_eq!(
        said(|status| {
            let mut cluster = Cluster::default();
            for state in ["alive", "suspected"] {
                cluster.members.push(Member {
                    state: state.to_owned(),
                    ..Member::default()
                });
            }
            status.cluster = Some(cluster);
        }),
        one(Notice, "cluster")
    );
    assert_eq!(
        said(|status| {
            let standing = "away".to_owned();
            let redis = Some(Redis {
                standing,
                proxies: 3,
            });
            let waiting = 1;
            let hosts = vec![Host {
                waiting,
                ..Host::default()
            }];
            status.forward = Some(Forward {
                redis,
                hosts,
                ..Forward::default()
            });
        }),
        [
            (Problem, "redis".to_owned()),
            (Notice, "forward".to_owned())
        ]
    );
}

#[test]
fn a_cluster_that_fell_apart_is_said_with_who_is_missing_and_what_to_do() {
    let of = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = Cluster::default();
        change(&mut cluster);
        let status = Status {
            cluster: Some(cluster),
            ..Status::default()
        };
        attention(&status, &Recent::default())
    };
    let missing = |for_ms| MissingMember {
        name: "10.0.0.2".to_owned(),
        resolves: true,
        for_ms,
    };
    let ignored = |reason: &str| IgnoredDatagram {
        reason: reason.to_owned(),
        from: "10.0.0.3:7946".to_owned(),
        ago_ms: 1,
        remedy: "set the clock".to_owned(),
    };
    assert_eq!(of(&|cluster| cluster.alone_ms = Some(4_999)), []);
    assert_eq!(of(&|cluster| cluster.missing = vec![missing(4_999)]), []);
    assert_eq!(
        of(&|cluster| cluster.ignored = vec![ignored("foreign")]),
        []
    );
    let list = of(&|cluster| cluster.alone_ms = Some(5_000));
    assert_eq!((list.len(), &*list[0].what), (1, "cluster_alone"));
    assert_eq!(list[0].level, Level::Notice, "perhaps there are no others");
    let list = of(&|cluster| {
        cluster.alone_ms = Some(5_000);
        cluster.missing = vec![missing(5_000)];
    });
    let what: Vec<_> = list.iter().map(|item| (item.level, &*item.what)).collect();
    let both = ["cluster_alone", "cluster_missing"].map(|what| (Level::Problem, what));
    assert_eq!(what, both);
    assert!(list[1].text.contains("10.0.0.2 (for 5 s)"), "{list:?}");
    for reason in ["wrong_tag", "unsealed", "no_secret", "stale"] {
        let list = of(&|cluster| cluster.ignored = vec![ignored(reason)]);
        let text = &list[0].text;
        assert_eq!(list[0].level, Level::Problem);
        assert!(
            text.contains("10.0.0.3:7946") && text.contains("set the clock"),
            "{text}"
        );
    }
    assert_eq!(
        of(&|cluster| {
            cluster.leaving = true;
            cluster.alone_ms = Some(60_000);
        }),
        []
    );
}

#[test]
fn what_happened_lately_is_said_and_what_has_a_word_of_its_own_is_not_said_twice() {
    let recent = |refused: &str, errors: &str| {
        let of = |name: &str| match name {
            "" => Vec::new(),
            name => vec![(name.to_owned(), 3)],
        };
        let recent = Recent {
            over_ms: 60_000,
            refused: of(refused),
            errors: of(errors),
        };
        let list = attention(&Status::default(), &recent);
        list.into_iter()
            .map(|item| item.text)
            .collect::<Vec<_>>()
            .join("|")
    };
    assert!(recent("bucket_full", "").contains("60 s (bucket_full 3)"));
    assert_eq!(recent("token_locked", ""), "");
    assert!(recent("", "connect_refused").contains("connect_refused 3"));
}

#[test]
fn the_worst_comes_first() {
    let status = {
        let mut status = full();
        status.state = State::Draining;
        status.guards.cloudflare.blocked = true;
        status
    };
    let list = attention(&status, &Recent::default());
    let levels: Vec<_> = list.iter().map(|item| item.level).collect();
    assert!(levels.is_sorted() && levels.len() > 2, "{list:?}");
    assert_eq!(list[0].what, "cloudflare");
    let mut status = Status::default();
    (status.connections.clients, status.connections.clients_max) = (9, 9);
    let recent = Recent {
        over_ms: 1_000,
        errors: vec![("dns".to_owned(), 1)],
        refused: Vec::new(),
    };
    let list = attention(&status, &recent);
    let what: Vec<_> = list.iter().map(|item| &*item.what).collect();
    assert_eq!(what, ["clients", "upstream"], "found later, and worse");
}

#[test]
fn names_are_remembered_as_long_as_they_are_used_and_there_is_an_end_to_them() {
    let mut names = Names::default();
    names.route(1, "POST", "/channels/!/messages");
    names.route(1, "GET", "/later");
    assert_eq!(names.of_route(1).method, "POST", "the first word holds");
    for key in 10..10 + 3 * ROUTES_MAX as u64 {
        names.route(key, "GET", "/x");
        if key % 100 == 0 {
            assert_eq!(names.of_route(1).label, "/channels/!/messages");
        }
    }
    assert_eq!(names.of_route(10), RouteName::default(), "forgotten");
}

#[test]
fn a_name_tells_no_secret() {
    let mut names = Names::default();
    let id = b"80351110224678912";
    let token = Some(&b"secret"[..]);
    names.major(1, &Major::Webhook { id, token });
    names.major(2, &Major::Channel(id));
    names.major(3, &Major::Channel(b"1e3"));
    let (kind, shown) = ("webhook", None);
    assert_eq!(names.of_major(1), MajorName { kind, id: shown });
    assert_eq!(names.of_major(2).id, Some(80_351_110_224_678_912));
    assert_eq!(names.of_major(3).id, None);
    for (client, kind, user_id) in [
        (Client::Bot(7), SenderKind::Bot, Some(7)),
        (Client::Bearer, SenderKind::Bearer, None),
        (Client::NoAuth, SenderKind::NoAuth, None),
        (Client::Unknown, SenderKind::Unknown, None),
    ] {
        assert_eq!(SenderName::of(client), SenderName { kind, user_id });
    }
}
