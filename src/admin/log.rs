//! The log: events of `tracing` as lines on stderr.
//!
//! Text is for eyes and coloured where stderr is a terminal (and `NO_COLOR` is unset); JSON is one
//! object a line for collectors. Where stderr is the journal, lines have no time of their own and begin
//! with a priority (`<4>`, sd-daemon(3)), so that `journalctl -p warning` finds warnings. A line that
//! cannot be written (a closed pipe, a full disk) is dropped: a log is no reason to stop serving.
//! Writing a line takes stderr's lock, so that the data path logs requests at `debug` and below only; at
//! the usual level it writes nothing. The level can be changed while weir runs; what is below it costs
//! one comparison.

use std::any::Any;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{panic, thread};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, layer};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use crate::config::{LogFormat, LogLevel};

/// The level of this process's log; unset in a program that keeps a log of its own.
static DIAL: OnceLock<Dial> = OnceLock::new();

struct Dial {
    level: Mutex<LogLevel>,
    handle: reload::Handle<LevelFilter, Registry>,
}

/// What every line goes through first.
type Filtered = Layered<reload::Layer<LevelFilter, Registry>, Registry>;

/// Logs to stderr from now on, in the whole process. `journal`: stderr is the journal.
///
/// # Errors
///
/// If something in the process has set up a log already: a program that embeds weir does so by
/// itself and does not call this.
pub fn start(
    level: LogLevel,
    format: LogFormat,
    journal: bool,
) -> Result<(), SetGlobalDefaultError> {
    let colours = !journal && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (filtered, handle) = filtered(level);
    match format {
        LogFormat::Text => set_global_default(text(filtered, colours, journal, io::stderr))?,
        LogFormat::Json => set_global_default(json(filtered, journal, io::stderr))?,
    }
    let level = Mutex::new(level);
    // It was not set before, or the log would have been.
    let _ = DIAL.set(Dial { level, handle });
    Ok(())
}

/// The program that weir is a part of keeps its log by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotOurs;

/// What is logged now.
///
/// # Errors
/// It is not weir that decides.
pub fn level() -> Result<LogLevel, NotOurs> {
    let dial = DIAL.get().ok_or(NotOurs)?;
    Ok(*dial.level.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Logs so much from now on; says how much it was.
///
/// # Errors
/// It is not weir that decides.
pub fn set_level(to: LogLevel) -> Result<LogLevel, NotOurs> {
    let dial = DIAL.get().ok_or(NotOurs)?;
    let mut level = dial.level.lock().unwrap_or_else(PoisonError::into_inner);
    // The subscriber lives as long as the process.
    dial.handle.reload(filter(to)).map_err(|_| NotOurs)?;
    Ok(std::mem::replace(&mut *level, to))
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

fn filtered(level: LogLevel) -> (Filtered, reload::Handle<LevelFilter, Registry>) {
    let (layer, handle) = reload::Layer::new(filter(level));
    (Registry::default().with(layer), handle)
}

fn text<W>(to: Filtered, colours: bool, journal: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let timed = Format::default().with_target(false);
    let lines = Lines {
        journal,
        for_journal: timed.clone().without_time(),
        for_others: timed,
    };
    to.with(
        layer()
            .log_internal_errors(false)
            .with_ansi(colours)
            .event_format(lines)
            .with_writer(writer),
    )
}

fn json<W>(to: Filtered, journal: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let objects = Format::default()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false);
    let lines = Lines {
        journal,
        for_journal: objects.clone(),
        for_others: objects,
    };
    to.with(
        layer()
            .log_internal_errors(false)
            .fmt_fields(JsonFields::new())
            .event_format(lines)
            .with_writer(writer),
    )
}

/// Lines as they are for the journal, with a priority in front, and as they are for others.
struct Lines<J, O> {
    journal: bool,
    for_journal: J,
    for_others: O,
}

impl<S, N, J, O> FormatEvent<S, N> for Lines<J, O>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    J: FormatEvent<S, N>,
    O: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.journal {
            return self.for_others.format_event(context, writer, event);
        }
        let priority = match *event.metadata().level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        writer.write_str(priority)?;
        self.for_journal.format_event(context, writer, event)
    }
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
            with_default(
                text(filtered(level).0, false, false, kept.writer()),
                log_one_of_each,
            );
            assert_eq!(kept.text().lines().count(), lines, "{level:?}");
            let kept = Kept::default();
            with_default(
                json(filtered(level).0, false, kept.writer()),
                log_one_of_each,
            );
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
        let errors = || filtered(LogLevel::Error).0;
        with_default(text(errors(), false, false, kept.writer()), log_one_of_each);
        let line = kept.text();
        assert!(line.ends_with("Z ERROR an error port=8080\n"), "{line:?}");
        let kept = Kept::default();
        with_default(text(errors(), true, false, kept.writer()), log_one_of_each);
        assert!(
            kept.text().contains('\u{1b}'),
            "coloured where it is wanted"
        );
    }

    #[test]
    fn a_line_of_json_is_one_flat_object() {
        let kept = Kept::default();
        let errors = filtered(LogLevel::Error).0;
        with_default(json(errors, false, kept.writer()), log_one_of_each);
        let line: serde_json::Value = serde_json::from_str(&kept.text()).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "an error");
        assert_eq!(line["port"], 8080);
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn the_journal_gets_priorities_and_no_times() {
        let kept = Kept::default();
        let all = || filtered(LogLevel::Trace).0;
        with_default(text(all(), false, true, kept.writer()), log_one_of_each);
        let expected = [
            "<3>ERROR an error port=8080",
            "<4> WARN a warning",
            "<6> INFO news",
            "<7>DEBUG a request",
            "<7>TRACE a step",
        ];
        assert_eq!(kept.text().lines().collect::<Vec<_>>(), expected);
        let kept = Kept::default();
        with_default(json(all(), true, kept.writer()), log_one_of_each);
        let line = kept.text().lines().nth(1).unwrap().to_owned();
        let object = line.strip_prefix("<4>").unwrap();
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        assert_eq!(object["message"], "a warning");
    }

    #[test]
    fn the_level_can_be_changed_while_the_log_runs() {
        let kept = Kept::default();
        let (info, handle) = filtered(LogLevel::Info);
        with_default(text(info, false, false, kept.writer()), || {
            log_one_of_each();
            handle.reload(filter(LogLevel::Trace)).unwrap();
            log_one_of_each();
            handle.reload(filter(LogLevel::Error)).unwrap();
            log_one_of_each();
        });
        assert_eq!(kept.text().lines().count(), 3 + 5 + 1);
        // Nobody has set this process's log up.
        assert_eq!(level(), Err(NotOurs));
        assert_eq!(set_level(LogLevel::Debug), Err(NotOurs));
    }
}
