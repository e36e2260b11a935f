//! Questions to a person at a terminal. Where there is none, the answer must come by a flag.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;

use super::output;
use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::Password;

/// Who types two different passwords this often should think of one first.
const NEW_PASSWORD_ATTEMPTS: usize = 3;

/// Whether somebody can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks a yes-or-no question until the answer is clear; an empty one, and the end of the input, are no.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    loop {
        output::question(&format!("{question} [y/N]"));
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(cannot_read)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "" | "n" | "no" => return Ok(false),
            _ => output::to_stderr("Please answer y or n."),
        }
    }
}

/// Asks for a password without showing it, until it is one.
pub(super) fn password(question: &str) -> Result<Password, Failure> {
    loop {
        let text = zeroize::Zeroizing::new(rpassword::prompt_password(question).map_err(cannot_read)?);
        match parse_password(&text) {
            Ok(password) => return Ok(password),
            Err(failure) => output::to_stderr(&format!("{failure}. Ctrl-C stops.")),
        }
    }
}

/// Asks for a new password until it was typed the same twice.
pub(super) fn new_password(question: &str) -> Result<Password, Failure> {
    for _ in 0..NEW_PASSWORD_ATTEMPTS {
        let first = password(question)?;
        if password("The same again: ")? == first {
            return Ok(first);
        }
        output::to_stderr("These were two different passwords.");
    }
    Err(Failure::new(FailureKind::Usage, "no password was given"))
}

/// Reads a password from the first line of a file; `-` is standard input.
pub(super) fn password_from(file: &Path) -> Result<Password, Failure> {
    let mut line = zeroize::Zeroizing::new(String::new());
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().read_line(&mut line)
    } else {
        File::open(file).and_then(|file| BufReader::new(file).read_line(&mut line))
    };
    read.map_err(|error| {
        Failure::new(FailureKind::Usage, format!("cannot read the password file {}: {error}", file.display()))
    })?;
    parse_password(line.trim_end_matches(['\r', '\n']))
}

fn parse_password(text: &str) -> Result<Password, Failure> {
    Password::parse(text).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))
}

fn cannot_read(error: io::Error) -> Failure {
    Failure::new(FailureKind::Other, format!("cannot read from the terminal: {error}"))
}
