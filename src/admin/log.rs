//! The log: events of `tracing` as lines on stderr.
//!
//! Text is for eyes and coloured where stderr is a terminal (and `NO_COLOR` is unset); JSON is one
//! object a line for collectors. A line that cannot be written (a closed pipe, a full disk) is dropped:
//! a log is no reason to stop serving. Writing a line takes stderr's lock, so that the data path logs
//! requests at `debug` and below only; at the usual level it writes nothing.

use std::any::Any;
use std::io::{self, IsTerminal};
use std::{panic, thread};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, LogLevel};

/// Logs to stderr from now on, in the whole process.
///
/// # Errors
///
/// If something in the process has set up a log already: a program that embeds weir does so by
/// itself and does not call this.
pub fn start(level: LogLevel, format: LogFormat) -> Result<(), SetGlobalDefaultError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match format {
        LogFormat::Text => set_global_default(text(level, colours, io::stderr)),
        LogFormat::Json => set_global_default(json(level, io::stderr)),
    }
}

/// Has panics told of in the log from now on, by where they happened. What they say may be made of a
/// request: an index into a path, the value of a header. It is told only if it is of the program's text.
pub fn tell_panics() {
    panic::set_hook(Box::new(|panic| {
        tracing::error!(
            at = panic.location().map(tracing::field::display),
            thread = thread::current().name(),
            "panicked: {}",
            harmless(panic.payload())
        );
    }));
}

/// What a panic says, if no part of it was put in while the program ran.
fn harmless(payload: &dyn Any) -> &'static str {
    match payload.downcast_ref::<&'static str>() {
        Some(text) => text,
        None => "what it says is not told, since a request may be in it; CORE_DUMPS=true tells it",
    }
}

fn text<W>(level: LogLevel, colours: bool, to: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_max_level(filter(level))
        .log_internal_errors(false)
        .with_ansi(colours)
        .with_target(false)
        .with_writer(to)
        .finish()
}

fn json<W>(level: LogLevel, to: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .log_internal_errors(false)
        .with_max_level(filter(level))
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(to)
        .finish()
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn writer(&self) -> impl Fn() -> Self + Send + Sync + 'static {
            let kept = self.clone();
            move || kept.clone()
        }
    }

    fn log_one_of_each() {
        tracing::error!(port = 8080, "an error");
        tracing::warn!("a warning");
        tracing::info!("news");
        tracing::debug!("a request");
        tracing::trace!("a step");
    }

    #[test]
    fn each_level_logs_itself_and_what_is_worse() {
        let levels = [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ];
        for (level, lines) in levels.into_iter().zip(1..) {
            let kept = Kept::default();
            with_default(text(level, false, kept.writer()), log_one_of_each);
            assert_eq!(kept.text().lines().count(), lines, "{level:?}");
            let kept = Kept::default();
            with_default(json(level, kept.writer()), log_one_of_each);
            assert_eq!(kept.text().lines().count(), lines, "{level:?} as JSON");
        }
    }

    #[test]
    fn what_a_panic_says_is_told_if_it_is_of_the_programs_text() {
        let payload = |panic: fn()| panic::catch_unwind(panic).unwrap_err();
        let fixed = payload(|| panic::resume_unwind(Box::new("a fixed text")));
        assert_eq!(harmless(&*fixed), "a fixed text");
        let made = payload(|| panic::resume_unwind(Box::new(format!("no {} at 7", "token"))));
        assert!(!harmless(&*made).contains("token at"));
        assert!(!harmless(&7).is_empty());
    }

    #[test]
    fn a_line_of_text_has_time_level_message_and_fields() {
        let kept = Kept::default();
        with_default(text(LogLevel::Error, false, kept.writer()), log_one_of_each);
        let line = kept.text();
        assert!(line.ends_with("Z ERROR an error port=8080\n"), "{line:?}");
        let kept = Kept::default();
        with_default(text(LogLevel::Error, true, kept.writer()), log_one_of_each);
        assert!(
            kept.text().contains('\u{1b}'),
            "coloured where it is wanted"
        );
    }

    #[test]
    fn a_line_of_json_is_one_flat_object() {
        let kept = Kept::default();
        with_default(json(LogLevel::Error, kept.writer()), log_one_of_each);
        let line: serde_json::Value = serde_json::from_str(&kept.text()).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "an error");
        assert_eq!(line["port"], 8080);
        assert!(line["timestamp"].is_string());
    }
}
