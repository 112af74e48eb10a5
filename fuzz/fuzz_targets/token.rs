//! Any bytes as an `Authorization` header.
//!
//! - What `Debug` prints is decided by the kind alone, so it can hold nothing of the secret.
//! - The metrics' label is one of three words or a number.
//! - Outer blanks change nothing; the scheme's case does not change the kind.
//! - Exactly an empty header is nobody's; all those share one key, and no other header has it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::route::identity::{Client, Kind, parse};
use weir::route::{Keys, PathIdentity};

fuzz_target!(|header: &[u8]| {
    let identity = parse(Some(header));
    let printed = format!("{identity:?}");
    assert_eq!(
        printed,
        format!("Identity {{ kind: {:?}, .. }}", identity.kind)
    );

    let label = identity.client().to_string();
    match identity.client() {
        Client::Bot(id) => assert!(id > 2 && label == id.to_string()),
        Client::Bearer | Client::NoAuth | Client::Unknown => {
            assert!(["Bearer", "NoAuth", "Unknown"].contains(&label.as_str()));
        }
    }

    let keys = Keys::with_seeds([1, 2, 3, 4]);
    let key = |header| keys.identity_key(&PathIdentity::Authorization, &parse(header));
    let padded = [b" \t", header, b"\t "].concat();
    assert_eq!(parse(Some(&padded)).kind, identity.kind);
    assert_eq!(key(Some(&padded)), key(Some(header)));
    let empty = header.trim_ascii().is_empty();
    assert_eq!(identity.kind == Kind::None, empty);
    assert_eq!(key(Some(header)) == key(None), empty);

    let with_scheme = |scheme: &[u8]| parse(Some(&[scheme, header].concat())).kind;
    assert_eq!(with_scheme(b"Bot x"), with_scheme(b"bOT x"));
    assert_eq!(with_scheme(b"Bearer x"), Kind::Bearer);
    assert!(matches!(with_scheme(b"Bot x"), Kind::Bot { .. }));
});
