//! The manual page and the completions in `deploy/`, and the pages' tables of settings, say what the
//! program does.
//!
//! The generators are of no use to who runs weir, so they are no part of it: this test makes the files
//! anew and compares. `WEIR_WRITE_DOCUMENTS=1 cargo test --test cli documents` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap_complete::Shell;
use roff::{Roff, bold, roman};
use weir::cli::{command, texts};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares a file with what it should be, or writes it.
#[track_caller]
fn is_as_made(name: &str, made: &[u8]) {
    if std::env::var_os("WEIR_WRITE_DOCUMENTS").is_some() {
        fs::create_dir_all(file(name).parent().unwrap()).unwrap();
        fs::write(file(name), made).unwrap();
    }
    let found = fs::read(file(name)).unwrap_or_default();
    assert!(
        found == made,
        "{name} is not what the flags say; `WEIR_WRITE_DOCUMENTS=1 cargo test --test cli documents` writes it anew"
    );
}

fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.text([roman(text)]);
}

/// Paragraphs with a tag each.
fn tagged(roff: &mut Roff, rows: &[(&str, &str)]) {
    for (tag, text) in rows {
        roff.control("TP", []);
        roff.text([bold(*tag)]);
        roff.text([roman(*text)]);
    }
}

fn manual_page() -> Vec<u8> {
    let mut root = command();
    root.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(root.clone())
        // Without a date: the page changes when the program does.
        .date("")
        .source(format!("weir {}", env!("CARGO_PKG_VERSION")))
        .manual("Administration");
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    let mut roff = Roff::new();
    // Names of variables are to be found by searching, so none is broken in two.
    roff.control("nh", []);
    roff.control("ad", ["l"]);
    roff.control("SH", ["SYNOPSIS"]);
    for (name, flags) in [
        ("", "[settings]"),
        (" serve", "[settings]"),
        (" check", "[settings]"),
        (" status", "[--at HOST:PORT]"),
        (" top", "[--at HOST:PORT] [--count N]"),
    ] {
        roff.control("B", [format!("weir{name}").as_str()]);
        roff.text([roman(flags)]);
        roff.control("br", []);
    }
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "weir stands between bots and Discord's REST interface: it learns Discord's rate limits from the answers, holds \
         back what would be refused, and relays the rest.",
    )]);
    paragraph(&mut roff, texts::SETTINGS);
    roff.control("SH", ["COMMANDS"]);
    for sub in root
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        roff.control("TP", []);
        roff.text([bold(format!("weir {}", sub.get_name()))]);
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let more = sub
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let more = more.split_whitespace().collect::<Vec<_>>().join(" ");
        let gap = if more.is_empty() { "" } else { ". " };
        roff.text([roman(format!("{about}{gap}{more}"))]);
    }
    roff.control("SH", ["SETTINGS"]);
    options(&mut roff, &root);
    roff.control("SH", ["EXIT STATUS"]);
    tagged(&mut roff, texts::EXIT_STATUS);
    roff.control("SH", ["SIGNALS"]);
    tagged(&mut roff, texts::SIGNALS);
    roff.control("SH", ["FILES"]);
    tagged(
        &mut roff,
        &[
            (
                ".env",
                "Settings, a name and a value on each line, read in the working directory.",
            ),
            (
                "/etc/weir/weir.env",
                "Settings of the service that Debian's package installs.",
            ),
            (
                "/var/lib/weir/state",
                "STATE_FILE of that service: what was learned.",
            ),
        ],
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(texts::MORE)]);
    roff.to_writer(&mut page).unwrap();
    page
}

/// All flags by their headings.
fn options(roff: &mut Roff, root: &clap::Command) {
    let mut heading = None;
    for argument in root.get_arguments() {
        let own = argument.get_help_heading();
        if own != heading {
            roff.control("SS", [own.unwrap_or("Options")]);
            heading = own;
        }
        roff.control("TP", []);
        let mut flags = Vec::new();
        if let Some(short) = argument.get_short() {
            flags.push(format!("-{short}"));
        }
        flags.extend(argument.get_long().map(|long| format!("--{long}")));
        let value = match argument.get_value_names() {
            Some([name, ..]) if argument.is_require_equals_set() => format!("[={name}]"),
            Some([name, ..]) if argument.get_action().takes_values() => format!(" {name}"),
            _ => String::new(),
        };
        roff.text([bold(flags.join(", ")), roman(value)]);
        let help = argument.get_long_help().or(argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let (first, rest) = help.split_once('\n').unwrap_or((&help, ""));
        roff.text([roman(first)]);
        if !rest.is_empty() {
            roff.control("br", []);
            roff.text([roman(rest)]);
        }
    }
}

#[test]
fn the_manual_page_is_made_of_the_flags() {
    is_as_made("deploy/weir.1", &manual_page());
    let checked = Command::new("man")
        .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
        .arg(file("deploy/weir.1"))
        .env("MANWIDTH", "80")
        .output();
    // Where there is no man, the page is compared and no more.
    if let Ok(output) = checked {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn the_completions_are_made_of_the_flags() {
    for (shell, name) in [
        (Shell::Bash, "deploy/completions/weir.bash"),
        (Shell::Zsh, "deploy/completions/_weir"),
        (Shell::Fish, "deploy/completions/weir.fish"),
    ] {
        let mut made = Vec::new();
        clap_complete::generate(shell, &mut command(), "weir", &mut made);
        is_as_made(name, &made);
    }
    let completes = "source deploy/completions/weir.bash; COMP_WORDS=(weir --metr); COMP_CWORD=1; \
                     _weir weir --metr weir; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", completes])
        .current_dir(file(""))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "--metrics-port",
        "{output:?}"
    );
}

/// The settings of the program, and what their help says that they are by default.
fn settings() -> BTreeMap<String, String> {
    let command = command();
    command
        .get_arguments()
        .filter(|argument| is_variable(argument.get_id().as_str()))
        .map(|argument| {
            let help = argument.get_help().unwrap().to_string();
            let default = help.split_once("[default: ").map_or("", |(_, rest)| rest);
            let default = default.strip_suffix(']').unwrap_or(default);
            (argument.get_id().to_string(), default.to_owned())
        })
        .collect()
}

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_variable(word: &str) -> bool {
    word.len() > 2
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn pages_and_help_have_the_same_settings_with_the_same_defaults() {
    let pages = [
        "README.md",
        "docs/identify-queue.md",
        "docs/forward-proxy.md",
    ];
    let pages = pages.map(|page| fs::read_to_string(file(page)).unwrap());
    let readme = pages.concat();
    let settings = settings();
    let mut told = BTreeSet::new();
    for row in readme.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let names: Vec<_> = quoted(cells[1]).filter(|word| is_variable(word)).collect();
        for name in &names {
            let default = settings.get(*name);
            let default = default.unwrap_or_else(|| panic!("the pages' {name} is no setting"));
            told.insert((*name).to_owned());
            let says = cells[2].trim_matches('`');
            let same = says == default || default.is_empty() && !cells[2].starts_with('`');
            assert!(
                same,
                "{name} is {default:?} by default, a page says {says:?}"
            );
        }
    }
    let ignored = readme
        .split_once("Accepted for nirn-proxy's sake")
        .unwrap()
        .1;
    let ignored = ignored.split_once("\n\n").unwrap().0;
    told.extend(quoted(ignored).map(str::to_owned));
    let silent: Vec<_> = settings
        .keys()
        .filter(|name| !told.contains(*name))
        .collect();
    assert!(silent.is_empty(), "no page tells of {silent:?}");
}
