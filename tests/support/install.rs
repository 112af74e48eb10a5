//! The libraries under test, from their registries into a directory beside the build's output.
//!
//! A set is installed once for each content of its lists of versions: the directory's name carries
//! their hash. It is made under another name and renamed when it is whole, so an interrupted or
//! concurrent installation is never taken for a finished one.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

/// An interpreter with a set of libraries.
pub struct Interpreter {
    program: PathBuf,
    scripts: PathBuf,
}

impl Interpreter {
    /// The command that runs `name`.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(self.scripts.join(name))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// Python with discord.py, hikari and requests.
pub fn python() -> &'static Interpreter {
    static PYTHON: OnceLock<Interpreter> = OnceLock::new();
    PYTHON.get_or_init(|| of_python("python"))
}

/// Python with Playwright, which needs a browser beside: Debian's `chromium`.
pub fn browser() -> &'static Interpreter {
    static BROWSER: OnceLock<Interpreter> = OnceLock::new();
    BROWSER.get_or_init(|| of_python("browser"))
}

/// Python with the libraries that this folder of the clients asks for.
fn of_python(name: &str) -> Interpreter {
    let scripts = clients().join(name);
    let requirements = scripts.join("requirements.txt");
    let home = installed(name, &[&requirements], |home| {
        run(
            Command::new("python3").args(["-m", "venv"]).arg(home),
            "python3 and python3-venv",
        );
        run(
            Command::new(home.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .args([OsStr::new("--no-deps"), OsStr::new("--requirement")])
                .arg(&requirements),
            "a registry of Python packages",
        );
    });
    Interpreter {
        program: home.join("bin/python"),
        scripts,
    }
}

/// Node with @discordjs/rest, Eris, and undici, which the first brings along.
pub fn node() -> &'static Interpreter {
    static NODE: OnceLock<Interpreter> = OnceLock::new();
    NODE.get_or_init(|| {
        let source = clients().join("node");
        let lists = ["package.json", "package-lock.json"].map(|name| source.join(name));
        let home = installed("node", &[&lists[0], &lists[1]], |home| {
            fs::create_dir_all(home).unwrap();
            for list in &lists {
                fs::copy(list, home.join(list.file_name().unwrap())).unwrap();
            }
            run(
                Command::new("npm")
                    .args(["ci", "--omit=optional", "--no-audit", "--no-fund"])
                    .current_dir(home),
                "node, npm and a registry of Node packages",
            );
        });
        // A script finds its libraries beside itself.
        for entry in fs::read_dir(&source).unwrap() {
            let script = entry.unwrap().path();
            if script.extension().is_some_and(|e| e == "mjs") {
                fs::copy(&script, home.join(script.file_name().unwrap())).unwrap();
            }
        }
        Interpreter {
            program: "node".into(),
            scripts: home,
        }
    })
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The directory of the set `name` in the versions that `lists` name, made by `make` if missing.
fn installed(name: &str, lists: &[&Path], make: impl FnOnce(&Path)) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    for list in lists {
        fs::read(list).unwrap().hash(&mut hasher);
    }
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = base.join(format!("clients-{name}-{:016x}", hasher.finish()));
    if !home.exists() {
        let partial = base.join(format!("clients-{name}-partial-{}", process::id()));
        let _ = fs::remove_dir_all(&partial);
        make(&partial);
        if let Err(error) = fs::rename(&partial, &home) {
            // Another run was faster: its set is the same.
            assert!(
                home.exists(),
                "cannot move {} to {}: {error}",
                partial.display(),
                home.display()
            );
            let _ = fs::remove_dir_all(&partial);
        }
    }
    home
}

fn run(command: &mut Command, needs: &str) {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            panic!("{command:?} cannot be run: {error}. The real-client tests need {needs}.")
        }
    };
    assert!(
        output.status.success(),
        "{command:?} failed. The real-client tests need {needs}.\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
