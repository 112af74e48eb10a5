//! The lines that a check prints, and what they come to.

use std::io::Write;
use std::time::Duration;

use crate::cli::EXIT_USAGE;
use crate::clock::{self, Instant};
use crate::error::StartError;

/// Columns of the name of what is tried; longer ones push the rest to the right.
const NAME_COLUMNS: usize = 18;

/// What a line comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict {
    Ok,
    Warning,
    Failed,
    /// Failed, because a setting is wrong.
    Wrong,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed | Self::Wrong => "failed",
        }
    }

    /// The colour's number (ECMA-48 8.3.117).
    const fn colour(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Warning => 33,
            Self::Failed | Self::Wrong => 31,
        }
    }

    const fn exit_status(self) -> u8 {
        match self {
            Self::Ok | Self::Warning => 0,
            Self::Failed => 1,
            Self::Wrong => EXIT_USAGE,
        }
    }
}

/// All lines so far.
pub(super) struct Report {
    out: Box<dyn Write>,
    colours: bool,
    worst: Verdict,
    counts: [usize; 3],
    headings: usize,
}

/// Something that is being tried; its line is printed when it is known what came of it.
pub(super) struct Tried<'r> {
    report: &'r mut Report,
    what: String,
    began: Instant,
    is_timed: bool,
}

impl Report {
    pub(super) fn new(out: impl Write + 'static, colours: bool) -> Self {
        Self {
            out: Box::new(out),
            colours,
            worst: Verdict::Ok,
            counts: [0; 3],
            headings: 0,
        }
    }

    pub(super) fn heading(&mut self, text: &str) {
        let gap = if self.headings > 0 { "\n" } else { "" };
        self.headings += 1;
        let (on, off) = self.paint(1);
        self.line(&format!("{gap}{on}{text}{off}"));
    }

    /// A setting, its value, and where it was set.
    pub(super) fn setting(&mut self, name: &str, value: &str, place: &str) {
        self.line(&format!("  {name}={value}  ({place})"));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// Begins to try something; how long it takes is not worth telling.
    pub(super) fn trying(&mut self, what: &str) -> Tried<'_> {
        Tried {
            report: self,
            what: what.to_owned(),
            began: clock::now(),
            is_timed: false,
        }
    }

    /// Begins to try something that takes its time.
    pub(super) fn timing(&mut self, what: &str) -> Tried<'_> {
        Tried {
            is_timed: true,
            ..self.trying(what)
        }
    }

    /// The last line; returns the status to exit with.
    pub(super) fn end(mut self) -> u8 {
        let [ok, warnings, failed] = self.counts;
        let s = if warnings == 1 { "" } else { "s" };
        let (on, off) = self.paint(self.worst.colour());
        self.line(&format!(
            "\n{on}{failed} failed{off}, {warnings} warning{s}, {ok} ok"
        ));
        self.worst.exit_status()
    }

    fn paint(&self, colour: u8) -> (String, &'static str) {
        if self.colours {
            (format!("\x1b[{colour}m"), "\x1b[0m")
        } else {
            (String::new(), "")
        }
    }

    fn line(&mut self, line: &str) {
        // Whoever closed the pipe has seen enough; the status is still to be told.
        drop(writeln!(self.out, "{line}"));
        drop(self.out.flush());
    }
}

impl Tried<'_> {
    pub(super) fn ok(self, said: &str) {
        self.came_to(Verdict::Ok, said, "");
    }

    /// `advice` is what to do; nothing where `said` has it.
    pub(super) fn warning(self, said: &str, advice: &str) {
        self.came_to(Verdict::Warning, said, advice);
    }

    pub(super) fn failed(self, said: &str, advice: &str) {
        self.came_to(Verdict::Failed, said, advice);
    }

    /// It failed because a setting is wrong.
    pub(super) fn wrong(self, said: &str, advice: &str) {
        self.came_to(Verdict::Wrong, said, advice);
    }

    /// A start would end so.
    pub(super) fn start_error(self, error: &StartError) {
        let verdict = if error.exit_code() == EXIT_USAGE {
            Verdict::Wrong
        } else {
            Verdict::Failed
        };
        self.came_to(verdict, &error.to_string(), "");
    }

    fn came_to(self, verdict: Verdict, said: &str, advice: &str) {
        let Self {
            report,
            what,
            began,
            is_timed,
        } = self;
        let took = if is_timed {
            in_ms(clock::now().saturating_duration_since(began))
        } else {
            String::new()
        };
        let (on, off) = report.paint(verdict.colour());
        let word = verdict.word();
        report.line(&format!(
            "  {on}{word:7}{off}  {what:NAME_COLUMNS$} {took:>8}  {said}"
        ));
        if !advice.is_empty() {
            report.line(&format!("{:30}{:8}-> {advice}", "", ""));
        }
        report.worst = report.worst.max(verdict);
        report.counts[(verdict as usize).min(2)] += 1;
    }
}

/// Milliseconds, with a digit behind the point where they are few.
fn in_ms(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Rc<RefCell<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_worst_line_decides_the_status() {
        let status = |lines: &[Verdict]| {
            let mut report = Report::new(io::sink(), false);
            for line in lines {
                report.trying("x").came_to(*line, "", "");
            }
            report.end()
        };
        assert_eq!(status(&[]), 0);
        assert_eq!(status(&[Verdict::Ok, Verdict::Warning]), 0);
        assert_eq!(status(&[Verdict::Failed, Verdict::Warning]), 1);
        assert_eq!(status(&[Verdict::Wrong, Verdict::Failed]), 2);
    }

    #[test]
    fn a_line_has_verdict_time_and_advice_and_no_colours_unless_asked_for() {
        let text = |colours| {
            let kept = Kept::default();
            let mut report = Report::new(kept.clone(), colours);
            report.heading("Here");
            report.timing("DNS").ok("fine");
            report.trying("TCP").failed("no", "do so");
            assert_eq!(report.end(), 1);
            String::from_utf8(kept.0.borrow().clone()).unwrap()
        };
        let plain = text(false);
        let lines: Vec<_> = plain.lines().collect();
        assert_eq!(lines[0], "Here");
        assert!(
            lines[1].starts_with("  ok       DNS ") && lines[1].ends_with(" ms  fine"),
            "{plain}"
        );
        assert!(
            lines[2].starts_with("  failed   TCP ") && lines[2].ends_with("  no"),
            "{plain}"
        );
        assert!(lines[3].trim() == "-> do so", "{plain}");
        assert_eq!(lines[5], "1 failed, 0 warnings, 1 ok");
        assert!(!plain.contains('\x1b'));
        assert!(text(true).contains("\x1b[31mfailed \x1b[0m"));
    }

    #[test]
    fn short_times_have_a_digit_more() {
        assert_eq!(in_ms(Duration::from_micros(340)), "0.3 ms");
        assert_eq!(in_ms(Duration::from_millis(1_234)), "1234 ms");
    }
}
