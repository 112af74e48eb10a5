//! SIGHUP has the forward proxy's credentials read again.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::http::Client;
use crate::support::pem_file;
use crate::support::program::{Program, slow_mock};

/// The status that somebody gets who shows these credentials, as base64.
fn status(weir: &Program, credentials: &str) -> u16 {
    let mut client = Client::connect(weir.forward.unwrap());
    client
        .ask(&format!(
            "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
        ))
        .status
}

/// `a:1`.
const A: &str = "YTox";
/// `b:2`.
const B: &str = "Yjoy";

/// Waits until weir says that it has read them again, or that it could not.
#[track_caller]
fn reload(weir: &Program, says: &str) {
    weir.signal("HUP");
    let mut seen = Vec::new();
    for _ in 0..500 {
        seen.extend(weir.log_lines());
        if seen.iter().any(|line| line.contains(says)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not say {says:?}: {seen:#?}");
}

#[test]
fn credentials_are_read_again_on_sighup_and_kept_if_the_file_is_no_good() {
    let mock = slow_mock(0.0);
    let file = pem_file("a:1\n");
    let weir = Program::start(
        &mock,
        &[
            ("FORWARD_PORT", "0"),
            ("FORWARD_CREDENTIALS_FILE", file.to_str().unwrap()),
        ],
    );
    // Who is let in is told that loopback may not be reached.
    assert_eq!((status(&weir, A), status(&weir, B)), (403, 407));
    fs::write(&file, "b:2\n").unwrap();
    assert_eq!(
        (status(&weir, A), status(&weir, B)),
        (403, 407),
        "nobody has said so yet"
    );
    reload(&weir, "FORWARD_CREDENTIALS_FILE was read again");
    assert_eq!((status(&weir, A), status(&weir, B)), (407, 403));
    fs::write(&file, "nonsense\n").unwrap();
    reload(&weir, "is not user:password");
    assert_eq!(
        (status(&weir, A), status(&weir, B)),
        (407, 403),
        "those from before"
    );
    fs::remove_file(&file).unwrap();
    reload(&weir, "cannot be read");
    assert_eq!(status(&weir, B), 403);
}

#[test]
fn without_files_there_is_nothing_to_be_read_again() {
    let mock = slow_mock(0.0);
    let weir = Program::start(&mock, &[]);
    reload(
        &weir,
        "neither TLS_CERT_FILE nor FORWARD_CREDENTIALS_FILE is set",
    );
}
