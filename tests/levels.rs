//! The source obeys its levels: a module imports only what stands below it, and the pure core
//! touches no socket, clock, environment, thread or lock.
//!
//! Walks every path in `src/`, in `use` items, expressions, types and macro arguments alike. A
//! module that is not in the table fails the test: whoever adds one says where it stands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proc_macro2::{Spacing, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Modules from the ground up. One may import what stands in a row above its own in this table, or
/// left of it in its own row, so that there is never a cycle. The longest matching path counts:
/// `mesh::owner` is pure although `mesh` is not.
const LEVELS: &[(Kind, &[&str])] = &[
    (
        Kind::Ground,
        &["caseless", "clock", "destination", "config", "error"],
    ),
    (
        Kind::Pure,
        &[
            "http1",
            "route",
            "limit",
            "identify",
            "metrics",
            "status",
            "mesh::owner",
            "cluster::wire",
            "cluster::member",
            "cluster::owner",
            "cluster::told",
            "cluster::change",
            "egress::hosts",
            "egress::shared::keys",
            "egress::shared::share",
            "egress::shared::book",
            "egress::shared::line",
            "upstream::pool",
        ],
    ),
    // For tests and `loadtest sim`: it may stand on the pure core alone.
    (Kind::Model, &["sim"]),
    (
        Kind::Shell,
        &[
            "io", "tls", "upstream", "mesh", "cluster", "places", "watch", "egress", "access",
            "process", "admin", "state", "systemd",
        ],
    ),
    (Kind::Shell, &["worker"]),
    (Kind::Shell, &["server"]),
    (Kind::Shell, &["cli"]),
];

/// Files that stand above all levels.
const ROOTS: &[&str] = &["lib.rs", "main.rs"];

/// What the pure core may not mention, and who may all the same.
const IMPURE: &[(&str, &[&str])] = &[
    ("monoio", &[]),
    ("redis::Client", &[]),
    ("redis::Connection", &[]),
    ("redis::cmd", &[]),
    ("rustls", &[]),
    ("io_uring", &[]),
    ("libc", &[]),
    ("socket2", &[]),
    ("signal_hook", &[]),
    ("webpki_roots", &[]),
    ("tracing_subscriber", &[]),
    ("sd_notify", &[]),
    ("std::net::TcpStream", &[]),
    ("std::net::TcpListener", &[]),
    ("std::net::UdpSocket", &[]),
    ("std::net::ToSocketAddrs", &[]),
    ("std::os", &[]),
    ("std::process", &[]),
    ("std::thread", &[]),
    ("std::sync::Mutex", &[]),
    ("std::sync::RwLock", &[]),
    ("std::sync::Condvar", &[]),
    ("std::sync::mpsc", &[]),
    ("std::fs", &["config"]),
    ("std::env", &["config"]),
    ("std::time::Instant", &["clock"]),
    ("std::time::SystemTime", &["clock"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ground,
    Pure,
    Model,
    Shell,
}

/// Where a module stands: its row, its place in the row, its name in the table.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    column: usize,
    kind: Kind,
    name: &'static str,
}

impl Place {
    fn of(path: &[String]) -> Option<Self> {
        let mut best = None;
        let mut best_len = 0;
        for (row, (kind, names)) in LEVELS.iter().enumerate() {
            for (column, name) in names.iter().enumerate() {
                let len = name.split("::").count();
                let is_prefix = path.len() >= len && name.split("::").eq(&path[..len]);
                if is_prefix && len > best_len {
                    best = Some(Self {
                        row,
                        column,
                        kind: *kind,
                        name,
                    });
                    best_len = len;
                }
            }
        }
        best
    }

    fn may_import(self, other: Self) -> bool {
        self.name == other.name
            || other.kind != Kind::Model && (other.row, other.column) < (self.row, self.column)
    }
}

/// The paths of one file, each made absolute: `crate::limit::Permit`, `std::time::Instant`.
struct Paths {
    module: Vec<String>,
    found: Vec<(usize, Vec<String>)>,
}

impl Paths {
    fn note(&mut self, segments: &[String], span: Span) {
        let mut absolute = match segments.first().map(String::as_str) {
            Some("self" | "super") => {
                let mut base = self.module.clone();
                base.insert(0, "crate".to_owned());
                base
            }
            _ => Vec::new(),
        };
        for segment in segments {
            match segment.as_str() {
                "self" => {}
                "super" => {
                    absolute.pop();
                }
                name => absolute.push(name.to_owned()),
            }
        }
        if absolute.len() > 1 {
            self.found.push((span.start().line, absolute));
        }
    }

    fn tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.tree(prefix, &path.tree);
                prefix.pop();
            }
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.tree(prefix, item);
                }
            }
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                prefix.push(ident.to_string());
                self.note(prefix, ident.span());
                prefix.pop();
            }
            syn::UseTree::Glob(glob) => {
                prefix.push("*".to_owned());
                self.note(prefix, glob.star_token.spans[0]);
                prefix.pop();
            }
        }
    }

    /// Paths among the arguments of a macro, which are tokens and not syntax.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut at = Span::call_site();
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note(&path, at);
                        path.clear();
                        at = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(p)
                    if p.as_char() == ':' && (p.spacing() == Spacing::Joint || colons == 1) =>
                {
                    colons += 1;
                }
                TokenTree::Group(group) => {
                    self.note(&path, at);
                    path.clear();
                    colons = 0;
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.note(&path, at);
                    path.clear();
                    colons = 0;
                }
            }
        }
        self.note(&path, at);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.note(&segments, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// What is wrong with the file of this module, one line each.
fn violations(module: &[&str], source: &str) -> Vec<String> {
    let module: Vec<String> = module.iter().map(|&m| m.to_owned()).collect();
    let own = module.join("::");
    // A file of tests may use threads and clocks to test the core with; its arrows point down too.
    let in_tests = module.iter().any(|segment| segment == "tests");
    let Some(place) = Place::of(&module) else {
        return vec![format!(
            "{own}: the table of levels does not know this module"
        )];
    };
    let file = match syn::parse_file(source) {
        Ok(file) => file,
        Err(error) => return vec![format!("{own}: {error}")],
    };
    let mut paths = Paths {
        module,
        found: Vec::new(),
    };
    paths.visit_file(&file);
    let mut wrong = Vec::new();
    for (line, path) in paths.found {
        let shown = path.join("::");
        if path[0] == "crate" {
            match Place::of(&path[1..]) {
                None => wrong.push(format!(
                    "{own}:{line}: {shown} names no module of the table (the crate root's re-exports are for users)"
                )),
                Some(other) if !place.may_import(other) => {
                    wrong.push(format!("{own}:{line}: {shown}: {} stands above {}", other.name, place.name));
                }
                Some(_) => {}
            }
        } else if matches!(place.kind, Kind::Ground | Kind::Pure)
            && !in_tests
            && is_impure(&path, place.name)
        {
            wrong.push(format!(
                "{own}:{line}: {shown} has no place in the pure core"
            ));
        }
    }
    wrong
}

/// Whether `path` is, is in, or (as a whole module or a glob) may hide something impure.
fn is_impure(path: &[String], own: &str) -> bool {
    IMPURE
        .iter()
        .filter(|(_, allowed)| !allowed.contains(&own))
        .any(|(name, _)| {
            let impure: Vec<&str> = name.split("::").collect();
            let open = path.last().is_some_and(|last| last == "*");
            let path = if open { &path[..path.len() - 1] } else { path };
            let common = path.len().min(impure.len());
            path[..common] == impure[..common]
                && (path.len() >= impure.len() || open || path.len() > 1)
        })
}

/// Finds every `.rs` file below `dir` with its module path.
fn sources(
    dir: &Path,
    module: &[String],
    found: &mut Vec<(Vec<String>, PathBuf)>,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_root = module.is_empty() && ROOTS.iter().any(|root| path.ends_with(root));
        let mut inner = module.to_vec();
        if name != "mod" {
            inner.push(name);
        }
        if path.is_dir() {
            sources(&path, &inner, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") && !is_root {
            found.push((inner, path));
        }
    }
    Ok(())
}

#[test]
fn every_import_points_down_and_the_core_is_pure() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &[],
        &mut files,
    )
    .unwrap();
    assert!(!files.is_empty(), "no source was found");
    files.sort();
    let mut wrong = Vec::new();
    for (module, path) in files {
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        wrong.extend(violations(&module, &fs::read_to_string(path).unwrap()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_that_points_up_is_found_in_every_form() {
    for source in [
        "use crate::worker::Worker;",
        "use crate::{clock::Instant, worker};",
        "use crate::worker as w;",
        "use super::worker::*;",
        "fn f() { crate::worker::run(); }",
        "fn f(_: &crate::worker::Worker) {}",
        "fn f() { tracing::debug!(x = crate::worker::COUNT, \"x\"); }",
        "fn f() { g!(a, [super::worker::COUNT]); }",
        "pub(in crate::worker) fn f() {}",
        "mod tests { use super::super::worker::Worker; }",
        "impl crate::worker::Job for X {}",
        "use crate::sim::Seed;",
    ] {
        assert_eq!(violations(&["limit"], source).len(), 1, "{source}");
    }
}

#[test]
fn arrows_that_point_down_or_stay_inside_are_allowed() {
    for (module, source) in [
        (
            &["limit"][..],
            "use crate::clock::Instant; use crate::route::Key;",
        ),
        (
            &["limit", "queue"],
            "use super::bucket::Bucket; use crate::limit::timer;",
        ),
        (
            &["limit", "queue"],
            "mod tests { use super::*; use super::super::bucket::Bucket; }",
        ),
        (
            &["worker"],
            "use crate::mesh::{self, owner}; fn f() { crate::limit::f(); }",
        ),
        (
            &["mesh"],
            "mod owner; pub use owner::Owner; use self::owner::X; use crate::limit::Permit;",
        ),
        (
            &["sim"],
            "use crate::limit::Limiter; use std::time::Instant; use std::env;",
        ),
        (
            &["limit"],
            "// use crate::worker;\nconst X: &str = \"crate::worker::X\";",
        ),
    ] {
        assert_eq!(violations(module, source), [""; 0], "{source}");
    }
}

#[test]
fn a_row_has_an_order_too() {
    assert_eq!(
        violations(&["config"], "use crate::clock::Instant;"),
        [""; 0]
    );
    assert_eq!(
        violations(&["clock"], "use crate::config::Config;").len(),
        1
    );
    assert_eq!(violations(&["upstream"], "use crate::mesh::Mesh;").len(), 1);
}

#[test]
fn a_pure_module_inside_a_shell_stands_below_it() {
    assert_eq!(violations(&["mesh", "owner"], "use super::Mesh;").len(), 1);
    assert_eq!(
        violations(&["mesh", "owner"], "use crate::mesh::local::Local;").len(),
        1
    );
    assert_eq!(
        violations(&["mesh", "local"], "use super::owner::Owner;"),
        [""; 0]
    );
}

#[test]
fn an_unknown_module_and_a_root_re_export_are_found() {
    assert_eq!(violations(&["helpers"], "").len(), 1);
    assert_eq!(violations(&["worker"], "use crate::helpers::X;").len(), 1);
    assert_eq!(violations(&["worker"], "use crate::Config;").len(), 1);
}

#[test]
fn an_impure_mention_in_the_core_is_found_in_every_form() {
    for source in [
        "use monoio::net::TcpStream;",
        "fn f() { monoio::spawn(x()); }",
        "fn f() { ::rustls::x(); }",
        "use std::net::{IpAddr, TcpStream};",
        "fn f() -> std::time::Instant { std::time::Instant::now() }",
        "use std::time::{Duration, SystemTime};",
        "use std::time::*;",
        "use std::time;",
        "fn f() { let _ = std::env::var(\"X\"); }",
        "fn f() { assert!(std::env::var_os(\"X\").is_none()); }",
        "use std::sync::{Arc, Mutex};",
        "fn f() { std::thread::sleep(d); }",
    ] {
        assert!(!violations(&["limit"], source).is_empty(), "{source}");
        assert_eq!(violations(&["worker"], source), [""; 0], "{source}");
    }
    for (module, source) in [
        ("clock", "use std::time::{Instant, SystemTime};"),
        ("config", "use std::{env, fs};"),
        (
            "limit",
            "use std::time::Duration; use std::net::IpAddr; use std::sync::Arc;",
        ),
        (
            "limit",
            "fn f() { std::mem::take(&mut x); } use std::io::Error;",
        ),
    ] {
        assert_eq!(violations(&[module], source), [""; 0], "{source}");
    }
}
