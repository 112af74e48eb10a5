//! `weir top`: a look each second, on the other screen of a terminal, or a line each into anything else.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};

use super::ask::Weir;
use super::screen::{Screen, paint};
use super::terminal::{self, OtherScreen};
use crate::clock;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// How often it is looked whether a signal came: at once, to a person.
const STEP: Duration = Duration::from_millis(50);

/// What came while it waited.
struct Signals {
    end: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let signals = Self {
            end: Arc::default(),
            stop: Arc::default(),
            resized: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, signals.end.clone())?;
        }
        signal_hook::flag::register(SIGTSTP, signals.stop.clone())?;
        signal_hook::flag::register(SIGWINCH, signals.resized.clone())?;
        Ok(signals)
    }

    fn came(flag: &AtomicBool) -> bool {
        flag.swap(false, Ordering::Relaxed)
    }

    /// Waits for a period, or for what cannot wait.
    fn wait(&self) {
        let until = clock::now() + PERIOD;
        let came = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        while clock::now() < until && !came(&self.end) && !came(&self.stop) && !came(&self.resized)
        {
            thread::sleep(STEP);
        }
    }
}

/// Looks `count` times, or until a signal; returns the status to exit with.
pub(super) fn run(weir: &Weir, count: Option<u64>) -> u8 {
    let mut screen = Screen::default();
    // A weir that is not there at all is an error; one that goes is waited for.
    match weir.look() {
        Ok(status) => screen.see(status),
        Err(error) => {
            drop(writeln!(io::stderr(), "weir: {error}"));
            return 1;
        }
    }
    let shown = Signals::watch().and_then(|signals| {
        if io::stdout().is_terminal() {
            on_screen(weir, &mut screen, &signals, count)
        } else {
            in_lines(weir, &mut screen, &signals, count)
        }
    });
    match shown {
        Ok(()) => 0,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            drop(writeln!(
                io::stderr(),
                "weir: cannot show anything; {error}"
            ));
            1
        }
    }
}

fn on_screen(
    weir: &Weir,
    screen: &mut Screen,
    signals: &Signals,
    count: Option<u64>,
) -> io::Result<()> {
    let colours = crate::cli::colours();
    let mut left = count;
    let mut other = Some(OtherScreen::enter()?);
    let mut missing = String::new();
    loop {
        if let Some(other) = &other {
            let (columns, rows) = terminal::size().unwrap_or((80, 24));
            let mut lines: Vec<_> = Vec::new();
            if !missing.is_empty() {
                lines.push(missing.clone());
            }
            lines.extend(
                screen
                    .lines(columns)
                    .iter()
                    .map(|line| paint(line, colours)),
            );
            lines.truncate(rows);
            other.draw(&lines)?;
        }
        signals.wait();
        if Signals::came(&signals.end) {
            return Ok(());
        }
        if Signals::came(&signals.stop) {
            // The shell gets its own screen back for as long as it has the terminal.
            drop(other.take());
            signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
            other = Some(OtherScreen::enter()?);
        }
        if Signals::came(&signals.resized) {
            continue;
        }
        if let Some(left) = &mut left {
            *left -= 1;
            if *left == 0 {
                return Ok(());
            }
        }
        missing = match weir.look() {
            Ok(status) => {
                screen.see(status);
                String::new()
            }
            Err(error) => error.to_string(),
        };
    }
}

fn in_lines(
    weir: &Weir,
    screen: &mut Screen,
    signals: &Signals,
    count: Option<u64>,
) -> io::Result<()> {
    let mut left = count;
    loop {
        signals.wait();
        if Signals::came(&signals.end) {
            return Ok(());
        }
        let line = match weir.look() {
            Ok(status) => {
                screen.see(status);
                screen.line()
            }
            Err(error) => error.to_string(),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        drop(out);
        if let Some(left) = &mut left {
            *left -= 1;
            if *left == 0 {
                return Ok(());
            }
        }
    }
}
