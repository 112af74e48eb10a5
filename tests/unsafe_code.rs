//! Every use of `unsafe` is in the table below, with its number and its reason. The pure core has
//! none, nor have the fuzz targets.
//!
//! Counts what the compiler would: blocks, functions, implementations and traits, in modules of
//! tests and in macros too. Comments and strings do not count.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// Directories with Rust of ours, from the root of the repository.
const ROOTS: &[&str] = &["src", "benches", "loadtest", "tests", "fuzz/fuzz_targets"];

/// The file, how often it says `unsafe`, and why it cannot do without.
const ALLOWED: &[(&str, usize, &str)] = &[
    // What ships. Each is a call of the operating system or the allocator that no safe interface
    // among our dependencies offers, on memory of the same function.
    (
        "src/admin/server.rs",
        1,
        "poll of the metrics port's listener and of the word that it is to end, on a local array",
    ),
    (
        "src/io/deadline.rs",
        1,
        "shuts a socket down by descriptor: its guard, which disarms, must not outlive the socket",
    ),
    (
        "src/io/descriptors.rs",
        2,
        "getrlimit and setrlimit of the number of descriptors, on a local structure",
    ),
    (
        "src/io/dumps.rs",
        3,
        "prctl of whether the process may leave a core dump, with numbers alone",
    ),
    (
        "src/io/memory.rs",
        10,
        "an allocator that passes every call on and counts",
    ),
    (
        "src/io/runtime.rs",
        3,
        "sched_getaffinity into a local cpu_set_t, and reading its bits",
    ),
    (
        "src/io/socket.rs",
        12,
        "recv of one byte with MSG_PEEK, and into a vector's spare room without waiting; send without \
         waiting; connect to nowhere, which resets; borrowing a descriptor of a socket that is borrowed \
         itself; waiting for one half of a split stream, which monoio offers for the whole alone",
    ),
    (
        "src/main.rs",
        4,
        "mi_collect of the allocator; the mask of signals that the threads of weir inherit",
    ),
    (
        "src/state/claim.rs",
        1,
        "flock of the state file's lock by descriptor: File::try_lock is of a newer Rust than weir asks for",
    ),
    (
        "src/systemd.rs",
        1,
        "owning the descriptors that whoever started the process left it (sd_listen_fds(3))",
    ),
    (
        "src/upstream/dial.rs",
        1,
        "setsockopt IP_BIND_ADDRESS_NO_PORT, which socket2 does not have",
    ),
    (
        "src/worker/wait.rs",
        2,
        "getsockopt TCP_INFO into a local tcp_info, to see the end of a stream behind unread bytes",
    ),
    // What measures and tests.
    (
        "loadtest/src/compare/host.rs",
        1,
        "pre_exec: a child that is compared with dies with its parent",
    ),
    (
        "loadtest/src/tunnel/relay.rs",
        2,
        "the same, of bytes both ways: a descriptor that the ring has just accepted, and operations on a \
         buffer that lives as long as the ring",
    ),
    (
        "loadtest/src/compare/relay.rs",
        2,
        "the bare relay speaks to io_uring itself: pushed entries, accepted descriptors",
    ),
    (
        "loadtest/src/load/process.rs",
        2,
        "the CPU clock of another process, into local structures",
    ),
    (
        "loadtest/src/mock/server.rs",
        1,
        "shutdown of connections by descriptor, each open while it is in the table",
    ),
    (
        "loadtest/src/mock/wire.rs",
        1,
        "borrows the descriptor of a stream that is owned, to reset it",
    ),
    (
        "tests/allocations.rs",
        8,
        "an allocator that counts, before the system's; gettid",
    ),
    ("tests/faults.rs", 1, "pre_exec: a limit of open files"),
    (
        "tests/greedy.rs",
        3,
        "a limit of open files, of a running process and by pre_exec",
    ),
    (
        "tests/limiter_memory.rs",
        5,
        "an allocator that counts, before the system's",
    ),
    (
        "tests/restart.rs",
        1,
        "pre_exec: sockets as descriptors 3 and 4, as systemd hands them over",
    ),
    ("tests/secrets.rs", 2, "pre_exec: no limit of core dumps"),
    (
        "tests/support/program.rs",
        1,
        "pre_exec: a filter of system calls that takes io_uring away",
    ),
];

/// How often the keyword stands in these tokens.
fn count(tokens: TokenStream) -> usize {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(ident) => usize::from(ident == "unsafe"),
            TokenTree::Group(group) => count(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => 0,
        })
        .sum()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is = |name: &str| path.file_name().is_some_and(|n| n == name);
        if path.is_dir() && !is("node_modules") && !is(".venv") && !is("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// What differs between the table and what was found.
fn wrong(table: &[(&str, usize, &str)], found: &[(String, usize)]) -> String {
    let mut wrong = String::new();
    for (file, count) in found {
        let entry = table.iter().find(|(name, ..)| name == file);
        let allowed = entry.map_or(0, |&(_, allowed, _)| allowed);
        if *count != allowed {
            let _ = writeln!(
                wrong,
                "{file}: {count} times unsafe, {allowed} in the table"
            );
        }
    }
    for (name, _, reason) in table {
        let known = found.iter().any(|(file, _)| file == name);
        if !known || reason.is_empty() {
            let _ = writeln!(wrong, "{name}: no such file, or no reason");
        }
    }
    wrong
}

#[test]
fn every_use_of_unsafe_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in ROOTS {
        sources(&root.join(dir), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 100, "the source was found");
    let found: Vec<(String, usize)> = paths
        .iter()
        .map(|path| {
            let file = path.strip_prefix(root).unwrap().display().to_string();
            let source = fs::read_to_string(path).unwrap();
            (file, count(source.parse().unwrap()))
        })
        .collect();
    let wrong = wrong(ALLOWED, &found);
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn unsafe_is_found_in_every_form_and_not_in_text() {
    let times = |source: &str| count(source.parse().unwrap());
    assert_eq!(times("fn f() { unsafe { g() } }"), 1);
    assert_eq!(times("unsafe impl Send for X {} unsafe trait T {}"), 2);
    assert_eq!(times("fn f() { m!(x, [unsafe { g() }]) }"), 1);
    assert_eq!(times("mod tests { unsafe fn f() { unsafe { g() } } }"), 2);
    assert_eq!(times("unsafe extern \"C\" { fn f(); }"), 1);
    assert_eq!(times("// unsafe\nfn f() { g(\"unsafe\"); unsafe_(); }"), 0);
}

#[test]
fn an_entry_too_few_or_too_many_is_told() {
    let table = [
        ("a.rs", 1, "why"),
        ("b.rs", 2, "why"),
        ("gone.rs", 1, "why"),
    ];
    let found =
        |a, b, c| [("a.rs", a), ("b.rs", b), ("c.rs", c)].map(|(file, n)| (file.to_owned(), n));
    let lines = |a, b, c| wrong(&table[..2], &found(a, b, c)).lines().count();
    assert_eq!(lines(1, 2, 0), 0);
    assert_eq!(lines(2, 2, 0), 1, "one more");
    assert_eq!(lines(1, 1, 0), 1, "one less");
    assert_eq!(lines(1, 2, 1), 1, "in a file without an entry");
    assert_eq!(wrong(&table, &found(1, 2, 0)).lines().count(), 1);
    assert_eq!(
        wrong(&[("a.rs", 1, "")], &found(1, 0, 0)).lines().count(),
        1
    );
}
