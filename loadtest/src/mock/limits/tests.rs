use super::*;
use crate::mock::route::Method;

const MS: u64 = 1_000_000;

fn op(quota: Quota) -> OpRule {
    OpRule {
        quota,
        counter: 7,
        bucket: "abc".into(),
        headers: true,
        shared: None,
        hidden: Vec::new(),
    }
}

fn demand(rule: &OpRule) -> Demand<'_> {
    Demand {
        identity: 1,
        major: 2,
        global: None,
        rule,
        hidden: 0,
    }
}

#[test]
fn a_sliding_bucket_gives_back_one_slot_at_a_time() {
    let mut limits = Limits::default();
    let rule = op(Quota::sliding(5, 5000));
    for i in 1..=5 {
        let d = limits.decide(0, &demand(&rule));
        assert_eq!(d.refused, None);
        let view = d.view.unwrap();
        assert_eq!(
            (view.remaining, view.reset_after_ns),
            (5 - i, u64::from(i) * 1000 * MS)
        );
    }
    assert_eq!(
        limits.decide(0, &demand(&rule)).refused,
        Some((Cause::Bucket, 1000 * MS))
    );
    assert_eq!(
        limits.decide(999 * MS, &demand(&rule)).refused,
        Some((Cause::Bucket, MS))
    );
    let d = limits.decide(1000 * MS, &demand(&rule));
    assert_eq!(d.refused, None);
    assert_eq!(d.view.unwrap().remaining, 0);
    assert!(limits.decide(1000 * MS, &demand(&rule)).refused.is_some());
}

#[test]
fn a_sliding_bucket_is_full_again_after_its_window() {
    let mut limits = Limits::default();
    let rule = op(Quota::sliding(3, 330));
    for _ in 0..3 {
        assert_eq!(limits.decide(0, &demand(&rule)).refused, None);
    }
    for _ in 0..3 {
        assert_eq!(limits.decide(330 * MS, &demand(&rule)).refused, None);
    }
    assert!(limits.decide(330 * MS, &demand(&rule)).refused.is_some());
}

#[test]
fn a_fixed_window_keeps_its_reset_and_returns_all_slots_at_once() {
    let mut limits = Limits::default();
    let rule = op(Quota::fixed(2, 1000));
    let first = limits.decide(100 * MS, &demand(&rule)).view.unwrap();
    let second = limits.decide(600 * MS, &demand(&rule)).view.unwrap();
    assert_eq!(first.reset_after_ns, 1000 * MS);
    assert_eq!(second.reset_after_ns, 500 * MS);
    let d = limits.decide(1099 * MS, &demand(&rule));
    assert_eq!(d.refused, Some((Cause::Bucket, MS)));
    assert_eq!(limits.decide(1100 * MS, &demand(&rule)).refused, None);
    assert_eq!(limits.decide(1100 * MS, &demand(&rule)).refused, None);
    assert!(limits.decide(1100 * MS, &demand(&rule)).refused.is_some());
}

#[test]
fn identities_and_major_parameters_count_apart() {
    let mut limits = Limits::default();
    let rule = op(Quota::fixed(1, 1000));
    for (identity, major) in [(1, 1), (1, 2), (2, 1)] {
        let d = Demand {
            identity,
            major,
            ..demand(&rule)
        };
        assert_eq!(limits.decide(0, &d).refused, None);
        assert!(limits.decide(0, &d).refused.is_some());
    }
}

#[test]
fn the_global_limit_comes_first_and_spends_no_bucket() {
    let mut limits = Limits::default();
    let rule = op(Quota::sliding(100, 1000));
    let global = Some(GlobalQuota {
        limit: 2,
        ..GlobalQuota::default()
    });
    let d = Demand {
        global,
        ..demand(&rule)
    };
    assert_eq!(limits.decide(0, &d).refused, None);
    assert_eq!(limits.decide(400 * MS, &d).refused, None);
    let refused = limits.decide(500 * MS, &d);
    assert_eq!(
        refused,
        Decision {
            view: None,
            refused: Some((Cause::Global, 500 * MS))
        }
    );
    // Slots return one by one: each a second after its own use.
    assert_eq!(limits.decide(1000 * MS, &d).refused, None);
    assert_eq!(
        limits.decide(1001 * MS, &d).refused,
        Some((Cause::Global, 399 * MS))
    );
}

#[test]
fn a_fixed_global_window_frees_all_its_slots_together() {
    let mut limits = Limits::default();
    let rule = op(Quota::sliding(100, 1000));
    let global = Some(GlobalQuota {
        limit: 2,
        window: GlobalWindow::Fixed,
        ..GlobalQuota::default()
    });
    let d = Demand {
        global,
        ..demand(&rule)
    };
    for now in [0, 900 * MS, 1000 * MS, 1000 * MS] {
        assert_eq!(limits.decide(now, &d).refused, None, "at {now}");
    }
    assert!(limits.decide(1000 * MS, &d).refused.is_some());
}

#[test]
fn a_shared_limit_counts_all_identities_while_their_headers_show_room() {
    let mut limits = Limits::default();
    let rule = OpRule {
        shared: Some(Quota::fixed(2, 1000)),
        ..op(Quota::sliding(5, 1000))
    };
    for identity in [1, 2] {
        let d = Demand {
            identity,
            ..demand(&rule)
        };
        assert_eq!(limits.decide(0, &d).refused, None);
    }
    let third = limits.decide(
        0,
        &Demand {
            identity: 3,
            ..demand(&rule)
        },
    );
    assert_eq!(third.refused, Some((Cause::Shared, 1000 * MS)));
    assert_eq!(third.view.unwrap().remaining, 4);
}

#[test]
fn a_hidden_limit_binds_only_bodies_with_its_fields() {
    let mut limits = Limits::default();
    let rule = LimitSettings::default().rule_of(Method::Patch, "/channels/!");
    let named = Demand {
        hidden: 1,
        ..demand(&rule)
    };
    assert_eq!(limits.decide(0, &named).refused, None);
    assert_eq!(limits.decide(0, &named).refused, None);
    let third = limits.decide(0, &named);
    assert_eq!(third.refused, Some((Cause::Hidden, 600_000 * MS)));
    assert!(
        third.view.unwrap().remaining > 0,
        "the headers must not foretell it"
    );
    assert_eq!(limits.decide(0, &demand(&rule)).refused, None);
}

#[test]
fn rules_of_one_counter_share_it_and_one_bucket_may_have_two() {
    let mut settings = LimitSettings::default();
    let put = settings.rule_of(Method::Put, "/channels/!/messages/!/reactions/!");
    let delete = settings.rule_of(Method::Delete, "/channels/!/messages/!/reactions/!");
    assert_eq!((put.counter, &put.bucket), (delete.counter, &delete.bucket));

    for (template, counter) in [("/a/!", "one"), ("/b/!", "two")] {
        let mut r = settings.rules[0].clone();
        r.template = template.to_owned();
        r.bucket = Some("samehash".to_owned());
        r.counter = Some(counter.to_owned());
        settings.rules.push(r);
    }
    let a = settings.rule_of(Method::Post, "/a/!");
    let b = settings.rule_of(Method::Post, "/b/!");
    assert_eq!(a.bucket, b.bucket);
    assert_ne!(a.counter, b.counter);
}

#[test]
fn a_rule_with_a_star_matches_any_rest_and_the_default_what_no_rule_names() {
    let settings = LimitSettings::default();
    assert!(!settings.rule_of(Method::Get, "/guilds/!/emojis/!").headers);
    let unnamed = settings.rule_of(Method::Get, "/new-thing/!");
    assert_eq!(unnamed.quota, settings.default);
    assert_eq!(
        settings.rule_of(Method::Head, "/new-thing/!").counter,
        unnamed.counter,
        "HEAD is counted as GET"
    );
}

#[test]
fn a_bot_of_its_own_global_limit_has_it() {
    let mut settings = LimitSettings::default();
    settings.global_by_bot.insert("42".to_owned(), 500);
    assert_eq!(settings.global_of(Some(42)).unwrap().limit, 500);
    assert_eq!(settings.global_of(Some(43)).unwrap().limit, 50);
    settings.enforce = false;
    assert_eq!(settings.global_of(Some(42)), None);
}

#[test]
fn counters_stay_bounded() {
    let mut limits = Limits::default();
    let rule = op(Quota::sliding(5, 1000));
    for major in 0..(COUNTERS_MAX as u64 + 10) {
        limits.decide(
            major * MS,
            &Demand {
                major,
                ..demand(&rule)
            },
        );
    }
    assert!(
        limits.len() < 2000,
        "idle counters are swept, {} are left",
        limits.len()
    );
}

#[test]
fn ten_thousand_invalid_requests_ban_an_address_and_no_other() {
    let settings = InvalidSettings {
        threshold: 3,
        ..InvalidSettings::default()
    };
    let mut invalid = Invalid::default();
    let (a, b) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
    assert!(!invalid.record(&settings, a, 0));
    assert!(!invalid.record(&settings, a, MS));
    // The first has left the window.
    assert!(!invalid.record(&settings, a, 600_000 * MS));
    assert!(invalid.record(&settings, a, 600_000 * MS));
    assert_eq!(invalid.banned_for(a, 600_000 * MS), Some(3_600_000 * MS));
    assert_eq!(invalid.banned_for(b, 600_000 * MS), None);
    assert_eq!(invalid.banned_for(a, 4_200_000 * MS), None);
}

#[test]
fn after_a_ban_counting_begins_anew() {
    let settings = InvalidSettings {
        threshold: 2,
        ban_ms: 1000,
        ..InvalidSettings::default()
    };
    let mut invalid = Invalid::default();
    let source = "127.0.0.1".parse().unwrap();
    assert!(!invalid.record(&settings, source, 0));
    assert!(invalid.record(&settings, source, 0));
    assert!(!invalid.record(&settings, source, 1000 * MS));
    assert!(invalid.record(&settings, source, 1000 * MS));
}
