//! Names and passwords of those who log in with one, from the operator's file: `name password` in each line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::resident::LegacyName;
use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::{Password, PeerName};
use crate::wire::limits::LEGACY_NAMES_KNOWN_MAX;

/// The file is read no further than this.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Who may log in, and with what.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    people: BTreeMap<PeerName, (LegacyName, Password)>,
}

impl Credentials {
    /// Reads the file; without one nobody may.
    ///
    /// # Errors
    /// A [`Failure`] that names the line.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |error| Failure::new(FailureKind::Usage, format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let mut people = BTreeMap::new();
        for (index, line) in BufReader::new(file.take(FILE_BYTES_MAX)).lines().enumerate() {
            let line = line.map_err(failed)?;
            if line.trim().is_empty() {
                continue;
            }
            let (name, password) = read_line(&line).map_err(|fault| {
                let place = format!("line {} of {}", index + 1, path.display());
                Failure::new(FailureKind::Usage, format!("{place}: {fault}")).hint("each line is `name password`")
            })?;
            if let Some((again, _)) = people.insert(name.name.clone(), (name, password)) {
                let text = format!("line {} of {}: {} is there twice", index + 1, path.display(), again.spelled);
                return Err(Failure::new(FailureKind::Usage, text));
            }
            if people.len() > LEGACY_NAMES_KNOWN_MAX {
                let text = format!("{} has more than {LEGACY_NAMES_KNOWN_MAX} names", path.display());
                return Err(Failure::new(FailureKind::Usage, text));
            }
        }
        Ok(Self { people })
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &LegacyName> {
        self.people.values().map(|(name, _)| name)
    }

    /// A name as the file writes it, if it may log in.
    pub(super) fn name(&self, name: &PeerName) -> Option<&LegacyName> {
        self.people.get(name).map(|(name, _)| name)
    }

    /// Whether this is the name's password.
    pub(super) fn opens(&self, name: &PeerName, password: &str) -> bool {
        self.people.get(name).is_some_and(|(_, right)| right.expose() == password.as_bytes())
    }
}

fn read_line(line: &str) -> Result<(LegacyName, Password), String> {
    let (name, password) = line.trim().split_once(char::is_whitespace).ok_or("there is no password")?;
    let name = LegacyName::parse(name).map_err(|failure| failure.message)?;
    let password = Password::parse(password.trim()).map_err(|error| error.to_string())?;
    Ok((name, password))
}
