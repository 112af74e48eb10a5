//! What was set and does nothing: each such setting is a wish that weir does not fulfil, so it says so.

use super::Config;
use super::source::GivenSetting;
use super::spelling;

/// A reason for which settings do nothing.
struct Idle {
    /// Which settings: by their names' beginning, or whole.
    names: &'static [&'static str],
    /// Those of them that it does not hold for.
    except: &'static [&'static str],
    /// Whether it holds.
    holds: fn(&Config) -> bool,
    /// To follow "has no effect".
    why: &'static str,
}

const IDLE: &[Idle] = &[
    Idle {
        names: &["FORWARD_", "DPRL_MAX_CONNECTIONS"],
        except: &["FORWARD_PORT"],
        holds: |config| config.forward.port.is_none(),
        why: "without FORWARD_PORT: there is no forward proxy",
    },
    Idle {
        names: &["REDIS_ADDR"],
        except: &[],
        holds: |config| config.forward.port.is_none(),
        why: "without FORWARD_PORT: Redis is for the forward proxy alone",
    },
    Idle {
        names: &["REDIS_"],
        except: &["REDIS_ADDR"],
        holds: |config| config.redis_addr.is_none(),
        why: "without REDIS_ADDR: the forward proxy shares no caps",
    },
    Idle {
        names: &["GATEWAY_QUEUE_", "DISCORD_TOKEN"],
        except: &["GATEWAY_QUEUE_PORT"],
        holds: |config| config.gateway_queue_port.is_none(),
        why: "without GATEWAY_QUEUE_PORT: there is no identify queue",
    },
    Idle {
        names: &["CLUSTER_"],
        except: &["CLUSTER_MEMBERS", "CLUSTER_DNS"],
        holds: |config| !config.is_clustered(),
        why: "without CLUSTER_MEMBERS or CLUSTER_DNS: this weir is no node of a cluster",
    },
    Idle {
        names: &["METRICS_PORT", "ADMIN_TOKEN"],
        except: &[],
        holds: |config| !config.enable_metrics,
        why: "with ENABLE_METRICS=false",
    },
    Idle {
        names: &["UPSTREAM_CA_FILE"],
        except: &[],
        holds: |config| !config.upstream.tls,
        why: "with UPSTREAM_URL=http://…: nobody shows a certificate",
    },
];

/// dprl's names, and weir's that hold over them.
const HELD_OVER: [(&str, &str); 2] = [
    ("DPRL_PORT", "FORWARD_PORT"),
    ("DPRL_MAX_CONNECTIONS", "FORWARD_MAX_CONNECTIONS"),
];

/// One line for each reason.
pub(super) fn warnings(config: &Config, given: &[GivenSetting]) -> Vec<String> {
    let mut warnings = Vec::new();
    for idle in IDLE.iter().filter(|idle| (idle.holds)(config)) {
        let is_meant = |name: &str| {
            idle.names.iter().any(|start| name.starts_with(start)) && !idle.except.contains(&name)
        };
        let names = given.iter().map(|given| given.name);
        let names: Vec<_> = names.filter(|name| is_meant(name)).collect();
        if let Some(list) = listed(&names) {
            let verb = if names.len() == 1 { "has" } else { "have" };
            warnings.push(format!("{list} {verb} no effect {}", idle.why));
        }
    }
    for (theirs, ours) in HELD_OVER {
        let value = |name| given.iter().find(|given| given.name == name);
        if let (Some(idle), Some(held)) = (value(theirs), value(ours))
            && idle.value != held.value
        {
            warnings.push(format!(
                "{theirs} has no effect: {ours} is set as well, to {}, and holds",
                held.value
            ));
        }
    }
    for template in config.default_buckets.keys() {
        warnings.extend(unknown_words(&template.to_string(), template.path()));
    }
    warnings
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> Option<String> {
    let (last, before) = names.split_last()?;
    Some(match before {
        [] => (*last).to_owned(),
        _ => format!("{} and {last}", before.join(", ")),
    })
}

/// The words that Discord's documented paths are made of. One that is not here may be new, so it is
/// worth a warning and no more.
const WORDS: &str = "\
    @me @original achievements active activity-instances announcement-threads answers applications \
    archived attachments audit-logs auth authorize auto-moderation avatar ban bans bot bulk-ban \
    bulk-delete callback channels clear-history codes commands connections consume crosspost default \
    discovery embed emojis entitlements expire followers gateway github guilds incident-actions \
    integrations interactions invites job-status keys leave lobbies member member-counts \
    member-verification members messages metadata new-member-welcome nick oauth2 onboarding permissions \
    pins polls preview private profile prune public reactions recipients regions relationships requests \
    role-connection role-connections roles rules scheduled-events search send-soundboard-sound skus \
    slack soundboard-default-sounds soundboard-sounds stage-instances sticker-packs stickers \
    subscriptions sync target-users templates test thread-members threads token tokens typing users \
    vanity-url voice voice-states webhooks welcome-screen widget widget.json widget.png \
";

fn unknown_words(template: &str, path: &str) -> Option<String> {
    let known: Vec<_> = WORDS.split_whitespace().collect();
    let mut words = path
        .split('/')
        .filter(|word| !word.is_empty() && *word != "!");
    // What follows is a name of somebody's choice.
    let mut named = false;
    let unknown = words.find(|word| {
        let is_code = named;
        named = ["reactions", "invites", "templates", "codes"].contains(word);
        !is_code && !known.contains(word)
    })?;
    let like = spelling::nearest(unknown, &known);
    let like = like.map_or(String::new(), |like| format!("; did you mean {like:?}?"));
    Some(format!(
        "DEFAULT_BUCKETS: {template:?} is no route that weir knows of Discord, because of {unknown:?}{like}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_one_says_them() {
        assert_eq!(listed(&[]), None);
        assert_eq!(listed(&["A"]).as_deref(), Some("A"));
        assert_eq!(listed(&["A", "B"]).as_deref(), Some("A and B"));
        assert_eq!(listed(&["A", "B", "C"]).as_deref(), Some("A, B and C"));
    }

    #[test]
    fn every_route_of_the_vectors_is_known_and_a_misspelt_one_is_not() {
        let vectors = include_str!("../../tests/vectors/routes.tsv");
        let labels = vectors
            .lines()
            .filter(|line| line.contains("/api/v10/"))
            .filter_map(|line| line.rsplit('\t').next());
        let mut count = 0;
        // One is made up, to show that unknown ones have limits as well.
        for label in labels.filter(|label| !label.starts_with("/new-thing")) {
            assert_eq!(unknown_words(label, label), None);
            count += 1;
        }
        assert!(count > 30, "{count} routes");
        for (path, word, like) in [
            ("/chanels/!/messages", "chanels", "\"channels\""),
            ("/channels/!/mesages", "mesages", "\"messages\""),
            ("/channels/!/message", "message", "\"messages\""),
        ] {
            let warning = unknown_words("GET x", path).unwrap();
            assert!(warning.contains(&format!("{word:?}")), "{warning}");
            assert!(warning.contains(like), "{warning}");
        }
        let warning = unknown_words("GET x", "/quests/!").unwrap();
        assert!(!warning.contains("did you mean"), "{warning}");
    }
}
