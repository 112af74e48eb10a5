//! The lists, and what is meant by a pattern.

use super::*;
use crate::config::Config;
use crate::config::setting::Effect;
use crate::destination::Destination;

/// Gives a setting of the forward proxy a value; the error is what is wrong in it.
fn apply(name: &str, value: &str) -> Result<Forward, String> {
    let setting = FORWARD.iter().find(|setting| setting.name == name).unwrap();
    let mut config = Config::default();
    match setting.effect {
        Effect::Sets(apply) => apply(&mut config, value).ok_or_else(|| value.to_owned())?,
        Effect::Lists(apply) => apply(&mut config, value)?,
        Effect::Switches(_) | Effect::Ignored(..) => unreachable!("none of them"),
    }
    Ok(config.forward)
}

fn meant(patterns: &str, destination: &str) -> bool {
    let patterns: HostPatterns = patterns.parse().unwrap();
    let destination = Destination::parse(destination.as_bytes(), Some(443)).unwrap();
    patterns.names(&destination)
}

#[test]
fn a_name_pattern_means_what_its_table_says() {
    for (patterns, destination, expected) in [
        ("*", "a.example:1", true),
        ("*", "192.0.2.1", true),
        ("*:443", "a.example:443", true),
        ("*:443", "a.example:444", false),
        ("Example.COM", "example.com", true),
        ("example.com.", "example.com.", true),
        ("example.com", "www.example.com", false),
        ("example.com", "notexample.com", false),
        ("*.example.com", "www.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "notexample.com", false),
        ("*.example.com:8443", "a.example.com:8443", true),
        ("*.example.com:8443", "a.example.com:443", false),
        ("a.example,b.example", "b.example", true),
        ("192.0.2.0/24", "192.0.2.1", false),
    ] {
        assert_eq!(
            meant(patterns, destination),
            expected,
            "{patterns} {destination}"
        );
    }
}

#[test]
fn a_network_means_addresses_and_names_none() {
    let patterns: HostPatterns = "a.example, 10.0.0.0/8 ,fd00::/8,192.0.2.7".parse().unwrap();
    for (address, expected) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("fd12::1", true),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("::1", false),
    ] {
        assert_eq!(patterns.holds(address.parse().unwrap(), 7), expected);
    }
}

#[test]
fn an_address_or_a_network_may_have_a_port() {
    let patterns: HostPatterns = "10.0.0.1:443,192.0.2.0/24:80,[fd00::1]:443,[2001:db8::/32]:80"
        .parse()
        .unwrap();
    for (address, port, expected) in [
        ("10.0.0.1", 443, true),
        ("::ffff:10.0.0.1", 443, true),
        ("10.0.0.1", 80, false),
        ("10.0.0.2", 443, false),
        ("192.0.2.9", 80, true),
        ("192.0.2.9", 443, false),
        ("fd00::1", 443, true),
        ("fd00::1", 444, false),
        ("2001:db8::9", 80, true),
        ("2001:db9::9", 80, false),
    ] {
        let holds = patterns.holds(address.parse().unwrap(), port);
        assert_eq!(holds, expected, "{address} {port}");
    }
}

#[test]
fn what_is_no_pattern_is_named() {
    for wrong in [
        "",
        "*.",
        "**",
        "*a.example",
        "a.*.example",
        "a b",
        "a:0",
        "a:x",
        "a:65536",
        "a:",
        "10.0.0.0/33",
        "127.1",
        "127.1:80",
        "::1:443x",
        "[::1]",
        "[::1]:0",
        "[::1]:x",
        "[a.example]:443",
        "10.0.0.0/33:80",
        "10.0.0.1:0",
        "10.0.0.1:",
        "http://a.example",
    ] {
        let list = format!("a.example,{wrong},b.example");
        let error = apply("FORWARD_ALLOW", &list).unwrap_err();
        assert_eq!(error, wrong, "{list}");
        assert_eq!(apply("FORWARD_DENY", &list).unwrap_err(), wrong);
    }
    let many = vec!["a.example"; bounds::FORWARD_PATTERNS_MAX].join(",");
    assert!(apply("FORWARD_ALLOW", &many).is_ok());
    assert!(apply("FORWARD_ALLOW", &format!("{many},::1")).is_err());
}

#[test]
fn host_limits_are_read_by_the_keys_that_connections_have() {
    let limits = apply(
        "FORWARD_HOST_LIMITS",
        "API.example.com.:443=5, [::1]:8443 = 7,free.example=0",
    );
    let key = |text| HostKey::parse(text).unwrap();
    assert_eq!(
        limits.unwrap().host_limits,
        [
            (key("api.example.com"), 5),
            (key("[::1]:8443"), 7),
            (key("free.example"), 0)
        ]
        .into()
    );
    for wrong in [
        "",
        "a.example",
        "a.example=",
        "a.example=-1",
        "a.example=1048577",
        "=5",
        "a b=5",
        "ok.example:443=2",
    ] {
        let list = format!("ok.example=1,{wrong}");
        let error = apply("FORWARD_HOST_LIMITS", &list).unwrap_err();
        assert_eq!(error, wrong, "{list}");
    }
}
