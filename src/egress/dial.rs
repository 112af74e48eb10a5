//! Connecting to whichever of a host's addresses answers first (Happy Eyeballs, RFC 8305).
//!
//! Addresses of both families take turns, beginning with the one that the resolver prefers. The next
//! one is tried when the one before has failed, or has not answered for a moment; all that were begun
//! go on side by side, and the first that stands is taken.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use monoio::net::TcpStream;

use crate::clock::Instant;
use crate::error::{Error, Kind};
use crate::io::Deadlines;
use crate::upstream::dial::connect;

/// Connection Attempt Delay: RFC 8305 5 recommends 250 ms.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Takes turns between the families; within each, the order stays (RFC 8305 4).
pub(super) fn in_turns(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addresses.first() else {
        return Vec::new();
    };
    let of = |first_family: bool| {
        let same = move |address: &&IpAddr| (address.is_ipv4() == first.is_ipv4()) == first_family;
        addresses.iter().filter(same).copied()
    };
    let (mut first, mut second) = (of(true), of(false));
    let mut turns = Vec::with_capacity(addresses.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<TcpStream, Error>> + 'a>>;

/// Connects to one of `addresses`, which are tried in their order, before `until`.
///
/// # Errors
/// The last refusal; [`Kind::ConnectTimeout`] if the time is over; [`Kind::Dns`] if there is no
/// address.
pub(super) async fn dial(
    addresses: &[SocketAddr],
    outbound: Option<IpAddr>,
    until: Instant,
    deadlines: &Deadlines,
) -> Result<TcpStream, Error> {
    let usable = addresses
        .iter()
        .filter(|address| outbound.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4()));
    let mut left = usable.copied();
    let mut running: Vec<Attempt<'_>> = Vec::new();
    let mut pause: Option<Pin<Box<monoio::time::Sleep>>> = None;
    let mut last = Error::new(Kind::Dns);
    let begin = |address| -> Attempt<'_> {
        let timeout = until.saturating_duration_since(crate::clock::now());
        Box::pin(connect(address, outbound, timeout, deadlines))
    };
    poll_fn(|cx| {
        loop {
            let mut failed = false;
            let mut at = 0;
            while at < running.len() {
                match running[at].as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        last = error;
                        failed = true;
                        drop(running.remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            let due = match &mut pause {
                None => true,
                Some(pause) => failed || running.is_empty() || pause.as_mut().poll(cx).is_ready(),
            };
            if !due {
                return Poll::Pending;
            }
            match left.next() {
                Some(address) => {
                    running.push(begin(address));
                    pause = Some(Box::pin(monoio::time::sleep(ATTEMPT_DELAY)));
                }
                None if running.is_empty() => {
                    let kind = Error::new(Kind::Dns);
                    return Poll::Ready(Err(std::mem::replace(&mut last, kind)));
                }
                None => {
                    pause = None;
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for (given, expected) in [
            (&[][..], &[][..]),
            (&["::1", "::2"], &["::1", "::2"]),
            (
                &["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"],
                &["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"],
            ),
            (
                &["1.1.1.1", "::1", "1.1.1.2"],
                &["1.1.1.1", "::1", "1.1.1.2"],
            ),
        ] {
            assert_eq!(in_turns(&ips(given)), ips(expected));
        }
    }
}
