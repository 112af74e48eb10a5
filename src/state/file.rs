//! The file itself: replaced as a whole or not at all, and readable to its owner alone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::limit::snapshot::BYTES_MAX;

/// A file of which there is always one whole version.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file at `path`, whose folder must take new files. It need not exist itself, and who writes it
    /// meanwhile is not disturbed.
    ///
    /// # Errors
    /// The folder is not there, or no file can be made in it.
    pub fn at(path: &Path) -> io::Result<Self> {
        let file = Self {
            path: path.to_owned(),
        };
        if path.file_name().is_none() || path.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "it names a folder",
            ));
        }
        let beside = file.beside("check");
        drop(create(&beside)?);
        fs::remove_file(beside)?;
        Ok(file)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the lock lies that says whose it is.
    pub(super) fn lock(&self) -> PathBuf {
        self.beside("lock")
    }

    /// What is in it; `None` if there is no such file. One that is larger than any of ours is cut off.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Renames it to `<name>.broken`, where the next one that is set aside replaces it.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.beside("broken");
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Replaces it by what `write` writes: a reader finds the old one or the new one whole, whenever
    /// the machine stops.
    ///
    /// # Errors
    /// It cannot be written; the old one stays.
    pub fn replace(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let beside = self.beside("tmp");
        let mut file = create(&beside)?;
        let written = write(&mut file)
            .and_then(|()| file.flush())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&beside, &self.path));
        if let Err(error) = written {
            // Whatever it holds is of no use; if it stays, the next one replaces it.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        // The rename itself lasts only once the folder does.
        File::open(self.folder())?.sync_all()
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name: OsString = self.path.file_name().unwrap_or(OsStr::new("state")).into();
        name.push(".");
        name.push(extension);
        self.path.with_file_name(name)
    }
}

/// Makes a file for its owner alone. What is there is removed and not opened, since it may be a link
/// that somebody else put there.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("weir-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn it_is_replaced_as_a_whole_and_for_its_owner_alone() {
        let folder = folder("replaced");
        let file = StateFile::at(&folder.join("state")).unwrap();
        assert_eq!(file.read().unwrap(), None);
        for text in ["one", "another"] {
            file.replace(|to| to.write_all(text.as_bytes())).unwrap();
            assert_eq!(file.read().unwrap().unwrap(), text.as_bytes());
            let mode = fs::metadata(file.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let failed = file.replace(|to| {
            to.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(file.read().unwrap().unwrap(), b"another");
        let names: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
    }

    #[test]
    fn a_link_that_somebody_put_beside_it_is_not_followed() {
        let folder = folder("link");
        let (victim, state) = (folder.join("victim"), folder.join("state"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.join("state.tmp")).unwrap();
        let file = StateFile::at(&state).unwrap();
        file.replace(|to| to.write_all(b"state")).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn what_is_set_aside_is_gone_from_its_place() {
        let folder = folder("aside");
        let file = StateFile::at(&folder.join("state")).unwrap();
        for text in ["one", "another"] {
            fs::write(file.path(), text).unwrap();
            let aside = file.set_aside().unwrap();
            assert_eq!(aside, folder.join("state.broken"));
            assert_eq!(fs::read(aside).unwrap(), text.as_bytes());
            assert_eq!(file.read().unwrap(), None);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_at_once() {
        assert!(StateFile::at(Path::new("/nowhere/state")).is_err());
        assert!(StateFile::at(&std::env::temp_dir()).is_err());
    }
}
