//! Whose the state file is: the process that holds the lock on `<name>.lock` beside it writes it, nobody
//! else.
//!
//! The lock is flock(2)'s, which the kernel takes back from a process that ends, however it ends; it lies
//! on a file of its own, since the state file itself is replaced by each write. Whoever finds it held
//! reads what is there, says who holds it, and writes nothing until it is free: a successor that starts
//! before the end of its predecessor (on inherited sockets, or while that drains) so leaves it its last
//! word and follows it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Digits of the largest number of a process, and more than that.
const NUMBER_BYTES_MAX: u64 = 20;

/// Who may write.
pub(super) enum Claim {
    /// This process, as long as the file is open.
    Ours { _lock: File },
    /// Another one.
    Theirs { at: PathBuf, holder: Holder },
    /// Whoever likes: there are no locks in this folder.
    Nobodys,
}

/// The process that holds the lock, if it has said.
#[derive(Clone, Copy)]
pub(super) struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("another process"),
        }
    }
}

impl Claim {
    /// Takes the lock at `at`, if it is free.
    pub(super) fn lay(at: &Path) -> Self {
        match lock(at) {
            Ok(Ok(file)) => Self::Ours { _lock: file },
            Ok(Err(holder)) => Self::Theirs {
                at: at.to_owned(),
                holder,
            },
            Err(error) => {
                tracing::warn!(
                    lock = ?at,
                    %error,
                    "STATE_FILE cannot be locked: should another weir be given it, they overwrite each other's"
                );
                Self::Nobodys
            }
        }
    }

    /// Who is in the way of writing; looks once more.
    pub(super) fn obstacle(&mut self) -> Option<Holder> {
        if let Self::Theirs { at, .. } = self {
            *self = Self::lay(&at.clone());
            if let Self::Ours { .. } = self {
                tracing::info!("STATE_FILE is free, and written from here from now on");
            }
        }
        self.holder()
    }

    /// Who held it when it was looked at last.
    pub(super) const fn holder(&self) -> Option<Holder> {
        match self {
            Self::Theirs { holder, .. } => Some(*holder),
            Self::Ours { .. } | Self::Nobodys => None,
        }
    }
}

/// The lock, or who holds it.
fn lock(at: &Path) -> io::Result<Result<File, Holder>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A link that somebody put there is not followed.
        .custom_flags(libc::O_NOFOLLOW)
        .open(at)?;
    if !try_lock(&file)? {
        let mut text = String::new();
        let read = file.take(NUMBER_BYTES_MAX).read_to_string(&mut text);
        let process = read.ok().and_then(|_| text.trim().parse().ok());
        return Ok(Err(Holder(process)));
    }
    // For people; what holds is the lock.
    let said = file.set_len(0);
    let said = said.and_then(|()| file.rewind());
    let _ = said.and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Ok(file))
}

/// Whether nobody else has it; `File::try_lock` is of Rust 1.89.
fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is that of `file`, which outlives the call.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_is_dropped_and_says_who_it_is() {
        let at = std::env::temp_dir().join(format!("weir-claim-{}.lock", std::process::id()));
        let first = Claim::lay(&at);
        assert!(first.holder().is_none());
        let mut second = Claim::lay(&at);
        let holder = second.obstacle().map(|holder| holder.to_string());
        assert_eq!(holder, Some(format!("process {}", std::process::id())));
        drop(first);
        assert!(second.holder().is_some(), "as it was looked at last");
        assert!(second.obstacle().is_none());
        assert!(Claim::lay(&at).holder().is_some(), "it is the second's");
        std::fs::remove_file(&at).unwrap();
    }

    #[test]
    fn where_no_lock_can_be_everybody_writes_and_no_link_is_followed() {
        let nowhere = Claim::lay(Path::new("/nowhere/state.lock"));
        assert!(matches!(nowhere, Claim::Nobodys));
        let at = std::env::temp_dir().join(format!("weir-claim-{}.link", std::process::id()));
        std::os::unix::fs::symlink("/nowhere/else", &at).unwrap();
        assert!(matches!(Claim::lay(&at), Claim::Nobodys));
        std::fs::remove_file(&at).unwrap();
    }
}
