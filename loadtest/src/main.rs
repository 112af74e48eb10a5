//! The `loadtest` program: a mock Discord, a load generator, a demonstration.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a program says on stderr why it fails")]
            {
                eprintln!("loadtest: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
