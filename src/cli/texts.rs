//! What `--help` and the manual page say beside commands and flags.

/// Columns of a help text on a wide terminal: longer lines are hard to read.
pub const WIDTH_MAX: usize = 100;

/// Columns of what is laid out here: the least that a terminal has.
const WIDTH: usize = 80;

/// Exit statuses of serving.
pub const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Everything was served. Of check: nothing failed."),
    (
        "1",
        "The machine is in the way: a port in use, no thread, no io_uring where IO_DRIVER asks for it. Trying again \
         may help. Of check: something failed.",
    ),
    (
        "2",
        "A flag or a setting is wrong; trying again does not help.",
    ),
    (
        "3",
        "weir ended as told, but not everything was served: some were refused or cut off when SHUTDOWN_TIMEOUT was \
         over, or by a second signal.",
    ),
];

/// Signals while it serves.
pub const SIGNALS: &[(&str, &str)] = &[
    (
        "TERM, INT",
        "No new connections; requests under way and waiting finish, for up to SHUTDOWN_TIMEOUT. A second one ends weir at \
         once; within 0.2 s of the first it is taken for the same.",
    ),
    (
        "HUP",
        "The files of TLS_* and FORWARD_CREDENTIALS_FILE are read again. If one is no good, the log says so, and what was \
         read before is used on.",
    ),
];

/// Where settings come from.
pub const SETTINGS: &str = "Each setting can be a flag, an environment variable or a line in .env in the working \
     directory (or in --env-file), in this order of precedence. One that is set to nothing is not set. A wrong one stops the start with \
     one line that says what is allowed.";

/// Where there is more.
pub const MORE: &str = "README.md says what weir does with requests and why; Debian's package has it in \
     /usr/share/doc/weir. The manual page is weir(1).";

/// What `check` looks at.
pub const CHECK: &str = "Prints the settings that are not as they are by default and where they come from, secrets \
     left out, then a line for each thing that was tried: ok, warning or failed, and what to do about it. Nothing is \
     served, nothing is changed. Ports of a weir that runs already are told of as such. Exit status: 0 if nothing \
     failed, 1 if something did, 2 if a setting is wrong.";

/// What `status` shows.
pub const STATUS: &str = "Looks twice, half a second apart, so that counts become rates, and prints a screenful: what \
     needs attention and what to do about it, requests, latency, guards, connections, bots and buckets. Where the \
     metrics port is, METRICS_PORT and BIND_IP say, as they do to the weir that runs. Exit status: 0 if it answered, 1 \
     if not, 2 if a flag is wrong.";

/// What `top` shows.
pub const TOP: &str = "Ends on Ctrl-C, and leaves the terminal as it was. A weir that is away for a moment is waited \
     for. Exit status: as that of status.";

/// Behind the flags of `status`.
pub(super) fn status_help() -> String {
    wrapped(STATUS, 0)
}

/// Behind the flags of `top`.
pub(super) fn top_help() -> String {
    wrapped(TOP, 0)
}

/// Behind the flags of `-h`.
pub(super) fn short_help() -> String {
    wrapped(
        "All settings, exit statuses and signals: weir --help, or weir(1). Each setting can be an environment variable \
         or a line in .env as well.",
        0,
    )
}

/// Behind the flags of `--help`.
pub(super) fn long_help() -> String {
    let mut text = format!("Settings:\n{}\n", wrapped(SETTINGS, 2));
    for (heading, rows) in [("Exit status", EXIT_STATUS), ("Signals", SIGNALS)] {
        text += &format!("\n{heading}:\n");
        for (what, means) in rows {
            text += &format!("  {what}\n{}\n", wrapped(means, 10));
        }
    }
    text + "\nMore:\n" + &wrapped(MORE, 2)
}

/// Behind the flags of `check`.
pub(super) fn check_help() -> String {
    wrapped(CHECK, 0)
}

/// Text in lines, with so many blanks in front of each.
fn wrapped(text: &str, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let fits = column > 0 && column + 1 + word.len() <= WIDTH;
        if fits {
            out.push(' ');
            column += 1;
        } else {
            if column > 0 {
                out.push('\n');
            }
            out += &blanks;
            column = indent;
        }
        out += word;
        column += word.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_laid_out_for_eighty_columns() {
        for indent in [0, 2, 10] {
            let text = wrapped(SETTINGS, indent);
            let lines = text.lines();
            assert!(lines.clone().all(|line| line.len() <= WIDTH), "{text}");
            assert!(lines.clone().count() > 2);
            let blanks = |line: &str| line.len() - line.trim_start().len();
            assert!(lines.clone().all(|line| blanks(line) == indent), "{text}");
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let expected = SETTINGS.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words, expected);
        }
    }
}
