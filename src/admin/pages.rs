//! What there is at the metrics port: the one table of pages.
//!
//! **To add a page**: a function `fn(&Asked<'_>) -> Answer` in a file of its own beside this one, and a
//! row in [`PAGES`]. The 404 lists it, HEAD, 405, the bound of its body, strict headers and the question
//! who may ask come by themselves.

use std::net::IpAddr;

use super::answer::Answer;
use super::control::{self, locks, overrides};
use super::gate::Gate;
use super::{forward, page, status};
use crate::http1::{Method, RequestHead};
use crate::process::Process;

/// The text format that Prometheus scrapes.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every page, by path; of several with one path, each has a verb of its own.
const PAGES: &[Page] = &[
    Page {
        verb: Verb::Read,
        path: Path::Is("/"),
        about: "how weir stands, for people",
        from: From::Reader,
        body_bytes_max: 0,
        answer: page::show,
    },
    Page {
        verb: Verb::Read,
        path: Path::Is("/metrics"),
        about: "metrics in the text format of Prometheus",
        from: From::Anywhere,
        body_bytes_max: 0,
        answer: |asked| Answer::ok(PROMETHEUS, asked.process.metrics_text().into_bytes()),
    },
    Page {
        verb: Verb::Read,
        path: Path::Is("/nirn/status.json"),
        about: "how weir stands, as JSON",
        from: From::Reader,
        body_bytes_max: 0,
        answer: status::json,
    },
    Page {
        verb: Verb::Read,
        path: Path::Is("/nirn/healthz"),
        about: "whether this process lives",
        from: From::Anywhere,
        body_bytes_max: 0,
        answer: |_| Answer::text(&b"ok\n"[..]),
    },
    Page {
        verb: Verb::Read,
        path: Path::Is("/nirn/cluster"),
        about: "the members of the cluster",
        from: From::Reader,
        body_bytes_max: 0,
        answer: |asked| match &asked.process.cluster {
            Some(members) => Answer::json(members.page()),
            None => Answer::error(404, "this weir is no node of a cluster (CLUSTER_MEMBERS)"),
        },
    },
    Page {
        verb: Verb::Read,
        path: Path::Is(forward::PATH),
        about: "the caps of the forward proxy",
        from: From::Operator,
        body_bytes_max: 0,
        answer: forward::read,
    },
    Page {
        verb: Verb::Put,
        path: Path::Is(forward::PATH),
        about: "sets the default cap",
        from: From::Operator,
        body_bytes_max: forward::BODY_BYTES_MAX,
        answer: forward::set_default,
    },
    Page {
        verb: Verb::Put,
        path: Path::Below(forward::HOSTS),
        about: "gives a host a cap of its own",
        from: From::Operator,
        body_bytes_max: forward::BODY_BYTES_MAX,
        answer: forward::set_host,
    },
    Page {
        verb: Verb::Delete,
        path: Path::Below(forward::HOSTS),
        about: "takes a host's cap away",
        from: From::Operator,
        body_bytes_max: 0,
        answer: forward::remove_host,
    },
    operators(
        Verb::Read,
        Path::Is("/admin/log-level"),
        "how much is logged",
        control::read_log_level,
    ),
    operators(
        Verb::Put,
        Path::Is("/admin/log-level"),
        "logs error, warn, info, debug or trace",
        control::set_log_level,
    ),
    operators(
        Verb::Read,
        Path::Is(overrides::PATH),
        "global limits that were set",
        overrides::read_all,
    ),
    operators(
        Verb::Read,
        Path::Below(overrides::BOTS),
        "a bot's",
        overrides::read,
    ),
    operators(
        Verb::Put,
        Path::Below(overrides::BOTS),
        "sets a bot's, in requests a second",
        overrides::set,
    ),
    operators(
        Verb::Delete,
        Path::Below(overrides::BOTS),
        "has it found out again",
        overrides::remove,
    ),
    operators(
        Verb::Read,
        Path::Is(locks::PATH),
        "locked tokens, dead webhooks, Cloudflare's block",
        locks::read,
    ),
    operators(
        Verb::Delete,
        Path::Is(locks::PATH),
        "opens all of them",
        locks::open_all,
    ),
    operators(
        Verb::Delete,
        Path::Below(locks::BELOW),
        "opens tokens, webhooks or cloudflare, or one of them: tokens/<bot>",
        locks::open,
    ),
    operators(
        Verb::Post,
        Path::Is("/admin/drain"),
        "ends weir as SIGTERM does",
        control::drain,
    ),
    operators(
        Verb::Post,
        Path::Is("/admin/state"),
        "writes STATE_FILE now",
        control::write_state,
    ),
];

/// A page for operators.
const fn operators(
    verb: Verb,
    path: Path,
    about: &'static str,
    answer: fn(&Asked<'_>) -> Answer,
) -> Page {
    let body_bytes_max = match verb {
        Verb::Put => control::BODY_BYTES_MAX,
        Verb::Read | Verb::Post | Verb::Delete => 0,
    };
    Page {
        verb,
        path,
        about,
        from: From::Operator,
        body_bytes_max,
        answer,
    }
}

/// A page: what is asked for how, and what answers.
pub(super) struct Page {
    verb: Verb,
    path: Path,
    /// What is there, in a few words, for whoever looks for it.
    about: &'static str,
    from: From,
    /// Longest body; a longer one is refused before it is read.
    pub(super) body_bytes_max: usize,
    /// What answers. It may take a while; it runs on a thread of its own.
    pub(super) answer: fn(&Asked<'_>) -> Answer,
}

/// What is done to a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// GET or HEAD
    Read,
    Put,
    Post,
    Delete,
}

impl Verb {
    fn of(method: Method) -> Option<Self> {
        match method {
            Method::Get | Method::Head => Some(Self::Read),
            Method::Put => Some(Self::Put),
            Method::Post => Some(Self::Post),
            Method::Delete => Some(Self::Delete),
            Method::Patch | Method::Options | Method::Trace | Method::Connect | Method::Other => {
                None
            }
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a page is.
#[derive(Clone, Copy)]
enum Path {
    /// At this path.
    Is(&'static str),
    /// At every path that goes on behind this one, which ends with a slash.
    Below(&'static str),
}

impl Path {
    fn is_at(self, path: &[u8]) -> bool {
        match self {
            Self::Is(own) => path == own.as_bytes(),
            Self::Below(own) => path.len() > own.len() && path.starts_with(own.as_bytes()),
        }
    }
}

/// Who may ask for a page, of those whom `ALLOW_FROM` lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// Whatever calls weir by whatever name.
    Anywhere,
    /// Who reads of bots and nodes: not a stranger's page in a browser ([`Gate::may_read`]).
    Reader,
    /// Whom the [`Gate`] lets in: whoever may scrape metrics need not be one who may change anything.
    Operator,
}

/// What a page is asked.
pub(super) struct Asked<'r> {
    /// Without the query.
    pub(super) path: &'r [u8],
    pub(super) body: &'r [u8],
    /// Who asks.
    pub(super) from: IpAddr,
    pub(super) process: &'r Process,
}

impl<'r> Asked<'r> {
    pub(super) fn new(
        request: &RequestHead<'r>,
        body: &'r [u8],
        from: IpAddr,
        process: &'r Process,
    ) -> Self {
        Self {
            path: path(request),
            body,
            from,
            process,
        }
    }

    /// What follows `prefix` in the path, if it is UTF-8.
    pub(super) fn behind(&self, prefix: &str) -> Option<&'r str> {
        std::str::from_utf8(self.path.strip_prefix(prefix.as_bytes())?).ok()
    }
}

/// The page that a request is for, if it may be asked for so.
pub(super) fn find(
    request: &RequestHead<'_>,
    from: IpAddr,
    process: &Process,
    gate: &Gate,
) -> Result<&'static Page, Answer> {
    let path = path(request);
    let mut here = PAGES.iter().filter(|page| page.path.is_at(path)).peekable();
    if here.peek().is_none() {
        return Err(nothing_here());
    }
    let verb = Verb::of(request.method);
    let Some(page) = here.clone().find(|page| Some(page.verb) == verb) else {
        let methods: Vec<_> = here.map(|page| page.verb.methods()).collect();
        return Err(Answer::not_allowed(methods.join(", ")));
    };
    match page.from {
        From::Anywhere => {}
        From::Reader => gate.may_read(request, from, process)?,
        From::Operator => gate.may(request, page.verb, from, process)?,
    }
    Ok(page)
}

fn path<'r>(request: &RequestHead<'r>) -> &'r [u8] {
    let target = request.target;
    target.split(|&byte| byte == b'?').next().unwrap_or(target)
}

/// A 404 that says what there is.
fn nothing_here() -> Answer {
    let mut message = "there is no such page; there are".to_owned();
    for page in PAGES {
        let (path, rest) = match page.path {
            Path::Is(path) => (path, ""),
            Path::Below(path) => (path, "…"),
        };
        let method = page.verb.methods().split(',').next().unwrap_or_default();
        message += &format!("\n{method} {path}{rest}: {}", page.about);
    }
    Answer::error(404, &message)
}
