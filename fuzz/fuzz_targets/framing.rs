//! A digit for how the body is cut into pieces and one for what it is, then a message: a request
//! (even) or the answer to a GET or a HEAD (odd), and whatever follows on its connection.
//!
//! - A head's framing is what an obvious model reads from its lines: none but plain digits is a
//!   length, none but `chunked` is a coding, and where there are two of anything there is no body
//!   that may be trusted.
//! - In whatever pieces a body arrives, it ends at the same byte, with the same content, or fails
//!   alike; a body of known length takes exactly that many bytes and says how many are missing.
//! - No byte behind the end is taken, however often it is offered.

#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;
use weir::http1::{
    BadChunk, BadFraming, BadRequest, BadResponse, BodyTracker, Framing, Method, Parse, Version,
    parse_request, parse_response,
};

fuzz_target!(|data: &[u8]| {
    let [cut, kind, message @ ..] = data else {
        return;
    };
    let (framing, len) = if kind % 2 == 0 {
        match parse_request(message) {
            Parse::Complete(head) => {
                let declared = model(&message[..head.len], head.version);
                assert_eq!(
                    declared.map(|d| d.unwrap_or(Framing::None)),
                    Ok(head.framing)
                );
                (head.framing, head.len)
            }
            Parse::Invalid(BadRequest::Framing(bad)) => return check_refused(message, bad),
            Parse::Invalid(_) | Parse::Partial => return,
        }
    } else {
        let method = [Method::Get, Method::Head][usize::from(kind / 2 % 2)];
        match parse_response(message, method) {
            Parse::Complete(head) => {
                let declared = model(&message[..head.len], head.version).expect("sound");
                let bare = method == Method::Head || matches!(head.status, 100..200 | 204 | 304);
                let expected = if bare {
                    Framing::None
                } else {
                    declared.unwrap_or(Framing::UntilClose)
                };
                assert_eq!(head.framing, expected);
                (head.framing, head.len)
            }
            Parse::Invalid(BadResponse::Framing(bad)) => return check_refused(message, bad),
            Parse::Invalid(_) | Parse::Partial => return,
        }
    };
    let rest = &message[len..];
    let whole = follow(framing, [rest]);
    assert_eq!(follow(framing, pieces::any(rest, *cut)), whole);
    assert_eq!(follow(framing, pieces::single(rest)), whole, "byte by byte");
    check_end(framing, rest, &whole);
});

/// What became of a body.
#[derive(PartialEq, Eq, Debug)]
struct Followed {
    content: Vec<u8>,
    /// Bytes that belong to it, whether it is over, and whether it is if the sender closes now.
    end: Result<(usize, bool, bool), BadChunk>,
    missing: Option<u64>,
}

fn follow<'b>(framing: Framing, pieces: impl IntoIterator<Item = &'b [u8]>) -> Followed {
    let mut tracker = BodyTracker::new(framing);
    let (mut content, mut total) = (Vec::new(), 0);
    for piece in pieces {
        let over = tracker.done();
        let taken = tracker.decode(piece, |range| content.extend_from_slice(&piece[range]));
        match taken {
            Ok(progress) => {
                assert!(!over || progress.consumed == 0, "a byte behind the end");
                assert!(progress.done || progress.consumed == piece.len());
                assert_eq!(progress.done, tracker.done());
                total += progress.consumed;
            }
            Err(bad) => {
                let (end, missing) = (Err(bad), None);
                return Followed {
                    content,
                    end,
                    missing,
                };
            }
        }
    }
    Followed {
        content,
        end: Ok((total, tracker.done(), tracker.done_at_close())),
        missing: tracker.remaining_hint(),
    }
}

/// Where the body has to end, by its framing alone.
fn check_end(framing: Framing, rest: &[u8], followed: &Followed) {
    let counted = |length: u64| {
        let here = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
        let missing = length - here as u64;
        Followed {
            content: rest[..here].to_vec(),
            end: Ok((here, missing == 0, missing == 0)),
            missing: Some(missing),
        }
    };
    match framing {
        Framing::None => assert_eq!(followed, &counted(0)),
        Framing::Length(length) => assert_eq!(followed, &counted(length)),
        Framing::UntilClose => {
            assert_eq!(followed.end, Ok((rest.len(), false, true)));
            assert_eq!((&followed.content[..], followed.missing), (rest, None));
        }
        Framing::Chunked => {
            let Ok((consumed, done, at_close)) = followed.end else {
                return;
            };
            assert_eq!(done, at_close, "a cut body is not whole");
            assert_eq!(followed.missing, done.then_some(0));
            assert!(followed.content.len() <= consumed);
            let end = &rest[..consumed];
            assert!(!done || end.ends_with(b"\r\n"), "{}", end.escape_ascii());
        }
    }
}

/// The head at the start of `message` has to be refused for this reason.
fn check_refused(message: &[u8], bad: BadFraming) {
    let start = message.iter().position(|byte| !b"\r\n".contains(byte));
    let head = &message[start.unwrap_or_default()..];
    let end = head.windows(4).position(|four| four == b"\r\n\r\n");
    let head = &head[..end.expect("a blank line") + 4];
    let said = [Version::Http11, Version::Http10].map(|version| model(head, version));
    assert!(said.contains(&Err(bad)), "{bad:?}, not {said:?}");
}

/// What the lines of a head declare, read line by line.
fn model(head: &[u8], version: Version) -> Result<Option<Framing>, BadFraming> {
    let text: Vec<char> = head.iter().map(|&byte| char::from(byte)).collect();
    let text: String = text.into_iter().collect();
    let values = |wanted: &str| -> Vec<String> {
        let fields = text.trim_start_matches("\r\n").split("\r\n").skip(1);
        fields
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let look_alikes = ["content_length", "transfer_encoding"];
    if look_alikes.iter().any(|name| !values(name).is_empty()) {
        return Err(BadFraming::LookAlike);
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) => {
            let length = length.trim_matches([' ', '\t']);
            let number = length.parse::<i64>().ok();
            number
                .filter(|number| number.to_string() == length && *number >= 0)
                .map(|number| Some(Framing::Length(number.unsigned_abs())))
                .ok_or(BadFraming::LengthInvalid)
        }
        (_, []) => Err(BadFraming::LengthRepeated),
        ([_, ..], [_, ..]) => Err(BadFraming::LengthAndCoding),
        ([], _) if version == Version::Http10 => Err(BadFraming::CodingInHttp10),
        // A tab beside it is more than every reader takes.
        ([], [coding]) if coding.trim_matches(' ').eq_ignore_ascii_case("chunked") => {
            Ok(Some(Framing::Chunked))
        }
        ([], _) => Err(BadFraming::CodingUnsupported),
    }
}
