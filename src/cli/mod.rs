//! FACE: the command line. Arguments in, exit code out; everything that is printed goes through `output.rs`.

mod args;
mod operator_args;
mod settings;
mod sizes;

mod commands;
mod editor;
mod entrance;
mod face;
mod flags;
mod local_socket;
mod old_words;
mod windows;
mod words;

mod activity_log;
mod legacy;
mod look_back;
mod notices;
mod people;
mod times;
mod transfers;

mod exit;
mod output;
mod paths;
mod profiles;
mod progress;
mod prompt;
mod qr_code;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::peer::failure::FailureKind;

/// Runs the program with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    match args::Args::try_parse() {
        Ok(args) => commands::run(args),
        Err(error) => {
            output::usage(&error);
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => exit::code(FailureKind::Usage),
            }
        }
    }
}
