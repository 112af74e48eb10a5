//! `loadtest pictures`: a run as pictures.

use std::io;
use std::path::{Path, PathBuf};

use loadtest::pictures;

/// Draws the pictures of a run from its scale.json and handoff.json, one SVG file each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The run's folder, such as benches/runs/2026-11-22-two-cores.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// Where the pictures go, instead of benches/pictures.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/pictures");
    let out = args.out.clone().unwrap_or_else(usual);
    for file in pictures::draw(&args.from, &out)? {
        super::say(&file.display().to_string())?;
    }
    Ok(())
}
