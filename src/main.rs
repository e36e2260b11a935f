//! The `qchat` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    qchat::cli::run()
}
