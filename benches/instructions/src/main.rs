//! Counts the instructions of the request path and compares them with what was recorded.
//!
//! ```sh
//! cargo run --release -p instructions -- check     # fails if a part has grown by more than 3 %
//! cargo run --release -p instructions -- record    # after a change that is worth its instructions
//! ```
//! The record is `benches/instructions.txt`. It belongs into the commit that made it necessary, so
//! that the price stands beside what it bought.
//!
//! Another compiler, processor or C library than the record's makes other code: then the bound is
//! wider, and the output says so.

mod baseline;
mod count;
#[path = "../../heads/mod.rs"]
mod heads;
mod parts;
mod path;

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use baseline::{Baseline, GROWTH_MAX, GROWTH_MAX_ELSEWHERE, Place, Verdict};
use parts::PARTS;

/// Where the record is.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../instructions.txt");

const USAGE: &str = "usage: instructions check | record | run PART OPERATIONS";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["check"] => check(),
        ["record"] => record(),
        ["run", part, operations] => run(part, operations),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program says on stderr why it fails")]
            {
                eprintln!("\ninstructions: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program says what it found")]
fn say(line: &str) {
    println!("{line}");
}

/// What valgrind runs.
fn run(part: &str, operations: &str) -> Result<(), String> {
    let part = PARTS.iter().find(|it| it.name == part).ok_or(USAGE)?;
    let operations = operations.parse().map_err(|_| USAGE)?;
    if operations > 2 * parts::OPERATIONS {
        return Err(format!("at most {} operations", 2 * parts::OPERATIONS));
    }
    (part.run)(operations);
    Ok(())
}

fn check() -> Result<(), String> {
    let text = fs::read_to_string(RECORD).map_err(|error| format!("{RECORD}: {error}"))?;
    let before = Baseline::from_text(&text).ok_or_else(|| format!("{RECORD}: not a record"))?;
    let now = measure()?;
    let mut growth_max = GROWTH_MAX;
    if before.place != now.place {
        growth_max = GROWTH_MAX_ELSEWHERE;
        say(&format!(
            "NOTE: recorded with {}\n      counted with  {}\n      \
             so growth is told only from {growth_max} % on\n",
            before.place, now.place
        ));
    }
    say("  before      now    change  instructions per operation");
    let mut failed = false;
    let mut shrunk = false;
    for row in before.compare(&now) {
        let verdict = row.verdict(growth_max);
        let remark = match verdict {
            Verdict::Same => "",
            Verdict::Shrunk => "  (shrunk)",
            Verdict::Grown => "  GROWN",
            Verdict::Unmatched => "  ON ONE SIDE ONLY",
        };
        failed |= matches!(verdict, Verdict::Grown | Verdict::Unmatched);
        shrunk |= verdict == Verdict::Shrunk;
        let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        say(&format!(
            "{:>8} {:>8} {:>9}  {}{remark}",
            number(row.before),
            number(row.now),
            row.change(),
            row.name
        ));
    }
    let again = "cargo run --release -p instructions -- record";
    if failed {
        return Err(format!(
            "a part costs more than {growth_max} % over its record, or has none.\n\
             If that is worth it, put a new record into the same commit: {again}"
        ));
    }
    if shrunk {
        say(&format!("\nSomething became cheaper; to hold it: {again}"));
    }
    Ok(())
}

fn record() -> Result<(), String> {
    let text = measure()?.to_text();
    fs::write(RECORD, &text).map_err(|error| format!("{RECORD}: {error}"))?;
    say(text.trim_end());
    Ok(())
}

fn measure() -> Result<Baseline, String> {
    if cfg!(debug_assertions) {
        return Err("what ships is counted: build with --release".to_owned());
    }
    let rows = PARTS
        .iter()
        .map(|part| Ok((count::per_operation(part)?, part.name.to_owned())))
        .collect::<Result<_, count::Error>>()
        .map_err(|error| error.to_string())?;
    Ok(Baseline {
        place: here(),
        rows,
    })
}

fn here() -> Place {
    Place {
        compiler: env!("COMPILER").to_owned(),
        processor: processor(),
        library: library(),
    }
}

#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    // What decides which copy the C library takes.
    let known = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("erms", is_x86_feature_detected!("ermsb")),
        // At compile time: ahash then hashes with it.
        ("aes", cfg!(target_feature = "aes")),
    ];
    let there = known.iter().filter(|it| it.1).map(|it| it.0);
    let names: Vec<_> = [env::consts::ARCH].into_iter().chain(there).collect();
    names.join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    env::consts::ARCH.to_owned()
}

/// What getconf(1), which comes with the C library, says of it.
fn library() -> String {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = output.ok().and_then(|it| String::from_utf8(it.stdout).ok());
    match version {
        Some(version) if !version.trim().is_empty() => version.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
