//! What commands and flags there are, and what is said about them.

use clap::Command;

use super::*;

fn long_help(command: &str, columns: usize) -> String {
    let mut root = super::command().term_width(columns);
    root.build();
    let of: &mut Command = match command {
        "" => &mut root,
        name => root.find_subcommand_mut(name).unwrap(),
    };
    of.render_long_help().to_string()
}

#[test]
fn the_commands_are_sound() {
    command().debug_assert();
}

#[test]
fn a_flag_that_does_not_exist_ends_with_status_2_and_help_with_0() {
    for (args, status) in [
        (&["--prot=1"][..], 2),
        (&["x"], 2),
        (&["check", "--prot=1"], 2),
        (&["--help"], 0),
        (&["-h"], 0),
        (&["check", "--help"], 0),
        (&["--version"], 0),
    ] {
        let error = command()
            .try_get_matches_from(["weir"].iter().chain(args))
            .unwrap_err();
        assert_eq!(error.exit_code(), status, "{args:?}");
    }
}

#[test]
fn help_has_every_setting_under_its_heading_with_unit_and_default() {
    let help = long_help("", 80);
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for heading in [
        "Serving clients:",
        "Discord:",
        "Limits:",
        "Identify queue:",
        "Cluster:",
        "Forward proxy:",
        "Redis, for forward proxies that share their caps:",
        "State and lifecycle:",
        "Logs and metrics:",
        "Accepted for nirn-proxy, without effect:",
        "Exit status:",
        "Signals:",
    ] {
        assert!(
            help.lines().any(|line| line == heading),
            "{heading}\n{help}"
        );
    }
    for part in [
        "--port <PORT> Port for clients; 0 takes a free one [env: PORT] [default: 8080] Allowed: a port number 0 to 65535",
        "--request-timeout <MS>",
        "--retry-shared[=<BOOL>]",
        "[default: https://discord.com]",
        "SHUTDOWN_TIMEOUT",
        "README.md",
    ] {
        assert!(words.contains(part), "{part}\n{help}");
    }
}

#[test]
fn help_fits_its_terminal() {
    for columns in [80, texts::WIDTH_MAX] {
        for name in ["", "check"] {
            let help = long_help(name, columns);
            for line in help.lines() {
                // A word that is longer than the line cannot be broken.
                let is_one_word = line.trim().split(' ').count() == 1;
                assert!(
                    line.len() <= columns || is_one_word,
                    "{name} {columns}: {line}"
                );
            }
        }
    }
}

#[test]
fn short_help_is_short_and_says_where_the_rest_is() {
    let help = command().term_width(80).render_help().to_string();
    assert!(
        help.lines().count() <= 56,
        "{} lines\n{help}",
        help.lines().count()
    );
    for part in ["check", "--port", "--log-level", "weir --help"] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    assert!(!help.contains("--retries"), "{help}");
}
