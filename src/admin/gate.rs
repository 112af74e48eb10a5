//! Who may change a running weir, and look at what is for operators alone.
//!
//! | `ADMIN_TOKEN` | who may |
//! |---|---|
//! | unset | whoever is on this machine (a loopback address), whatever `ALLOW_FROM` says |
//! | set | who sends `Authorization: Bearer <token>`, from this machine too, from wherever `ALLOW_FROM` lets in |
//!
//! A loopback address alone says nothing of who is behind it: a page in a browser on this machine has one,
//! too. So whatever a browser sends for a page of another origin is refused (`Origin`,
//! `Sec-Fetch-Site`), and so is, without a token, what names this weir otherwise than by an address or
//! `localhost`: a name that a stranger points here makes their page one of the same origin (DNS
//! rebinding). A form, which browsers send without asking anybody, is never taken.
//!
//! Pages that anybody may read who gets through `ALLOW_FROM` have no token to ask for. Those that tell of
//! bots and nodes ([`Gate::may_read`]) are kept from a stranger's page all the same: asked from this
//! machine, they want the same `Host`, `ADMIN_TOKEN` or not. `/metrics` and `/nirn/healthz` do not, since
//! scrapers and probes may call weir what they like. Asked from elsewhere any `Host` will do: which
//! names lead here nobody has told weir, and who must not read them is kept out by `ALLOW_FROM`.
//!
//! Wrong tokens are counted, said now and then, and slow down who sends them: after each, its address is
//! not listened to for a while, twice as long each time.

mod attempts;

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use ring::digest::{SHA256, digest};

use super::answer::Answer;
use super::pages::Verb;
use crate::clock;
use crate::config::AdminToken;
use crate::http1::RequestHead;
use crate::io::SharedSeldom;
use crate::metrics::AdminRefusal;
use crate::process::Process;
use attempts::Attempts;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Gate {
    attempts: Mutex<Attempts>,
    said: SharedSeldom,
}

impl Gate {
    /// Whether the request may do what it asks for.
    ///
    /// # Errors
    /// What it is answered instead.
    pub(super) fn may(
        &self,
        request: &RequestHead<'_>,
        verb: Verb,
        from: IpAddr,
        process: &Process,
    ) -> Result<(), Answer> {
        let token = process.config.admin_token.as_ref();
        let refused = match self.judge(request, verb, from, token) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        Err(self.refuse(refused, from, process))
    }

    /// Whether the request may read what is for whoever may connect, but not for every page in a browser
    /// of theirs.
    ///
    /// # Errors
    /// What it is answered instead.
    pub(super) fn may_read(
        &self,
        request: &RequestHead<'_>,
        from: IpAddr,
        process: &Process,
    ) -> Result<(), Answer> {
        if !is_led_here(request, from) {
            return Ok(());
        }
        let refused = (AdminRefusal::Browser, Answer::error(403, NAMED_ODDLY));
        Err(self.refuse(refused, from, process))
    }

    /// Counts and says it.
    fn refuse(
        &self,
        (reason, answer): (AdminRefusal, Answer),
        from: IpAddr,
        process: &Process,
    ) -> Answer {
        process.admin_refused.count(reason);
        if let Some(unsaid) = self.said.happened(clock::now()) {
            tracing::warn!(
                %from,
                reason = reason.label(),
                unsaid,
                "refused a request to change this weir, or to look at what is for its operators; if that \
                 was nobody of yours, ALLOW_FROM says who may connect at all"
            );
        }
        answer
    }

    fn judge(
        &self,
        request: &RequestHead<'_>,
        verb: Verb,
        from: IpAddr,
        token: Option<&AdminToken>,
    ) -> Result<(), (AdminRefusal, Answer)> {
        let host = host(request);
        if is_from_another_page(request, host, verb) {
            let told = "nothing is changed from a browser";
            return Err((AdminRefusal::Browser, Answer::error(403, told)));
        }
        let Some(token) = token else {
            if !from.to_canonical().is_loopback() {
                let told = "this is for this machine alone, unless ADMIN_TOKEN is set";
                return Err((AdminRefusal::Address, Answer::error(403, told)));
            }
            if request.headers().any(|(name, _)| is_forwarded(name)) {
                let told =
                    "this came through a proxy: whom it is from is not known without ADMIN_TOKEN";
                return Err((AdminRefusal::Address, Answer::error(403, told)));
            }
            if !host.is_some_and(is_this_machine) {
                return Err((AdminRefusal::Browser, Answer::error(403, NAMED_ODDLY)));
            }
            return Ok(());
        };
        let now = clock::now();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = attempts.closed(now, from) {
            let told = "too many wrong tokens came from this address";
            let answer = Answer::error(429, told).retry_after(wait);
            return Err((AdminRefusal::TooMany, answer));
        }
        if bearer(request).is_some_and(|given| is_same(given, token.as_bytes())) {
            attempts.right(from);
            return Ok(());
        }
        if bearer(request).is_some() {
            attempts.wrong(now, from);
        }
        drop(attempts);
        let told = "Authorization: Bearer, with ADMIN_TOKEN, is asked for";
        Err((AdminRefusal::Token, Answer::error(401, told).challenge()))
    }
}

const NAMED_ODDLY: &str =
    "ask by an address or localhost: any other Host may be a browser's that was led here";

/// Whether a browser on this machine may have sent it for a page whose name was led here.
fn is_led_here(request: &RequestHead<'_>, from: IpAddr) -> bool {
    from.to_canonical().is_loopback() && !host(request).is_some_and(is_this_machine)
}

/// Whether a proxy on this machine adds such a header, for somebody who need not be on it.
fn is_forwarded(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(&name[..], b"forwarded" | b"via" | b"x-real-ip") || name.starts_with(b"x-forwarded-")
}

/// Whether a browser sends it for a page that is not this weir's own; or for one that is, and it would
/// change something: there is no such page.
fn is_from_another_page(request: &RequestHead<'_>, host: Option<&str>, verb: Verb) -> bool {
    let changes = verb != Verb::Read;
    request.headers().any(|(name, value)| {
        if name.eq_ignore_ascii_case(b"origin") {
            let origin = std::str::from_utf8(value).unwrap_or_default();
            let own = origin.strip_prefix("http://");
            changes || own.is_none() || own != host
        } else if name.eq_ignore_ascii_case(b"sec-fetch-site") {
            // "none": somebody typed it, or opened a bookmark.
            changes || !matches!(value, b"same-origin" | b"none")
        } else if name.eq_ignore_ascii_case(b"content-type") {
            // `curl -d` calls whatever it sends a form; browsers ask before they PUT one.
            verb == Verb::Post && !value.to_ascii_lowercase().starts_with(b"application/json")
        } else {
            false
        }
    })
}

fn host<'r>(request: &RequestHead<'r>) -> Option<&'r str> {
    let of_line = request
        .headers()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"host"))
        .map(|(_, value)| value);
    std::str::from_utf8(request.authority.or(of_line)?).ok()
}

/// Whether a host, with or without a port, is an address or `localhost`.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(inside, _)| inside),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn bearer<'r>(request: &RequestHead<'r>) -> Option<&'r [u8]> {
    let (scheme, rest) = request.authorization?.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

/// Takes as long whatever they are: digests are compared, each byte of them.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let (given, token) = (digest(&SHA256, given), digest(&SHA256, token));
    let differs = given.as_ref().iter().zip(token.as_ref());
    differs.fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Parse, parse_request};

    fn with<R>(lines: &str, check: impl FnOnce(&RequestHead<'_>) -> R) -> R {
        let head = format!("POST / HTTP/1.1\r\n{lines}\r\n");
        match parse_request(head.as_bytes()) {
            Parse::Complete(head) => check(&head),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_is_this_machine_if_nobody_else_can_have_named_it_so() {
        for host in [
            "localhost",
            "LOCALHOST:9000",
            "127.0.0.1",
            "127.0.0.1:9000",
            "[::1]:9000",
            "[::1]",
            "10.0.0.1:80",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "x",
            "evil.example:9000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil]:1",
            "0x7f.1",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_name_that_was_led_here_is_known_by_the_address_that_asks_for_it() {
        let led_here = |from: &str, host: &str| {
            let line = format!("Host: {host}\r\n");
            with(&line, |head| is_led_here(head, from.parse().unwrap()))
        };
        for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(led_here(here, "evil.example:9000"), "{here}");
            assert!(!led_here(here, "localhost:9000"), "{here}");
        }
        for elsewhere in ["10.0.0.7", "2001:db8::1"] {
            assert!(!led_here(elsewhere, "weir.internal:9000"), "{elsewhere}");
        }
    }

    #[test]
    fn what_a_browser_sends_for_a_page_is_told_apart() {
        let judged = |lines: &str, verb| {
            let lines = format!("Host: 127.0.0.1:9000\r\n{lines}");
            with(&lines, |head| is_from_another_page(head, host(head), verb))
        };
        for (lines, read, changes) in [
            ("", false, false),
            ("Content-Type: application/json\r\n", false, false),
            (
                "Content-Type: application/x-www-form-urlencoded\r\n",
                false,
                true,
            ),
            ("Content-Type: text/plain\r\n", false, true),
            ("Origin: http://127.0.0.1:9000\r\n", false, true),
            ("Origin: http://127.0.0.1:9001\r\n", true, true),
            ("Origin: https://127.0.0.1:9000\r\n", true, true),
            ("Origin: null\r\n", true, true),
            ("Sec-Fetch-Site: same-origin\r\n", false, true),
            ("Sec-Fetch-Site: none\r\n", false, true),
            ("Sec-Fetch-Site: cross-site\r\n", true, true),
            ("Sec-Fetch-Site: same-site\r\n", true, true),
        ] {
            assert_eq!(judged(lines, Verb::Read), read, "{lines}");
            assert_eq!(judged(lines, Verb::Post), changes, "{lines}");
        }
        assert!(!judged(
            "Content-Type: application/x-www-form-urlencoded\r\n",
            Verb::Put
        ));
    }

    #[test]
    fn without_a_token_only_this_machine_may_and_with_one_wherever_it_is_from() {
        let gate = Gate::default();
        let token = AdminToken::new("0123456789abcdef").unwrap();
        let judged = |from: &str, lines: &str, token: Option<&AdminToken>| {
            let lines = format!("Host: 10.0.0.1\r\n{lines}");
            let judge =
                |head: &RequestHead<'_>| gate.judge(head, Verb::Read, from.parse().unwrap(), token);
            with(&lines, judge).map_err(|(reason, _)| reason)
        };
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(judged(here, "", None), Ok(()), "{here}");
        }
        let right = "Authorization: Bearer 0123456789abcdef\r\n";
        for elsewhere in ["10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1"] {
            let address = Err(AdminRefusal::Address);
            assert_eq!(judged(elsewhere, "", None), address, "{elsewhere}");
            assert_eq!(
                judged(elsewhere, right, None),
                address,
                "nobody has set one"
            );
            assert_eq!(judged(elsewhere, right, Some(&token)), Ok(()));
        }
        assert_eq!(
            judged("127.0.0.1", "", Some(&token)),
            Err(AdminRefusal::Token)
        );
    }

    #[test]
    fn a_token_is_taken_whole_and_as_a_bearer_alone() {
        let token = b"0123456789abcdef";
        let right = |line: &str| {
            let lines = format!("Host: x\r\nAuthorization: {line}\r\n");
            with(&lines, |head| {
                bearer(head).is_some_and(|given| is_same(given, token))
            })
        };
        assert!(right("Bearer 0123456789abcdef") && right("bearer  0123456789abcdef"));
        for wrong in [
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Bearer 0123456789abcdeF",
            "Bearer ",
            "Bearer",
        ] {
            assert!(!right(wrong), "{wrong}");
        }
    }
}
