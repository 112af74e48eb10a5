//! The terminal: how large it is, and its other screen, which is left again whatever ends the program.

use std::io::{self, IsTerminal, Write};

/// Columns and rows of the terminal on stdout; `None` if that is none, or has no size.
pub(super) fn size() -> Option<(usize, usize)> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}

/// The other screen (xterm's), without a cursor; dropping it goes back to the first, as it was.
pub(super) struct OtherScreen;

impl OtherScreen {
    /// Goes there.
    pub(super) fn enter() -> io::Result<Self> {
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        Ok(Self)
    }

    /// Draws these lines over whatever is there.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        // From the corner, each line to its end, and all below: nothing flickers.
        let mut frame = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                frame += "\r\n";
            }
            frame += line;
            frame += "\x1b[K";
        }
        frame += "\x1b[J";
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for OtherScreen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        drop(out.write_all(b"\x1b[?25h\x1b[?1049l"));
        drop(out.flush());
    }
}
