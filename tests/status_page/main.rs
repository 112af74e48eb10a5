//! The status page and the document behind it, before a weir at work: read as a program does, and looked
//! at in a browser.
//!
//! `STATUS_SCREENSHOTS=deploy cargo test --test status_page browser` also takes the pictures in `deploy/`,
//! which `pngquant --force --ext .png 48 deploy/status-*.png` makes small; the browser is Debian's
//! `chromium`.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

#[path = "../support/install.rs"]
mod install;
#[path = "../support/mod.rs"]
mod support;

mod browser;
mod document;
mod stage;
