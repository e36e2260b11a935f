//! `qchat export-identity` and `import-identity`: a person moves to another machine and stays the same.

use std::io;
use std::path::Path;

use crate::cli::args::{self, ExportIdentity, ImportIdentity};
use crate::cli::entrance;
use crate::cli::output::Output;
use crate::cli::prompt;
use crate::cli::settings::Settings;
use crate::peer::failure::{Failure, FailureKind};
use crate::seal::random::OsRandom;
use crate::seal::sealed_file::{self, SealedFileError};
use crate::storage::moving::{self, Whose};
use crate::storage::profile::{Home, Profile, ProfileError};
use crate::wire::ids::Password;

/// A person mistypes a passphrase this often before they should think again.
const ATTEMPTS_MAX: usize = 3;

/// Writes everything that makes this person who they are to one sealed file.
pub(super) fn export(args: ExportIdentity, output: &Output) -> Result<(), Failure> {
    let (file, settings) = (args.file, Settings::from_login(args.whose.into())?);
    let whose = whose(&settings)?;
    match file.symlink_metadata() {
        Ok(_) if !args.overwrite => return Err(exists(&file)),
        Ok(there) if !there.is_file() => {
            return Err(Failure::new(FailureKind::Usage, format!("{} is not a file", file.display()))
                .hint("only a file is overwritten: name another path"));
        }
        Ok(_) | Err(_) => {}
    }
    let profile = Profile::open(&settings.home, whose.fingerprint, &whose.name, &mut OsRandom).map_err(in_use)?;
    let passphrase = match &args.passphrase_file {
        Some(path) => prompt::password_from(path)?,
        None => new_passphrase()?,
    };
    let packed = moving::pack(&profile, &whose)?;
    let sealed = sealed_file::seal(&passphrase, &packed);
    moving::write_private(&file, &sealed, args.overwrite).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(&file),
        _ => Failure::new(FailureKind::Disk, format!("cannot write {}: {error}", file.display())),
    })?;
    let Whose { name, directory, .. } = whose;
    output.talk(&format!("* {} holds the key, history and contacts of {name} at {directory}", file.display()));
    output.talk("* import it on the new machine, and use qchat as this person there only: two machines with one key");
    output.talk("  would take each other's session and messages");
    Ok(())
}

/// Makes this machine the one of the person in a sealed file.
pub(super) fn import(args: ImportIdentity, output: &Output) -> Result<(), Failure> {
    let file = args.file;
    let cannot = |error: &dyn std::fmt::Display| format!("cannot import {}: {error}", file.display());
    if file.metadata().is_ok_and(|there| !there.is_file()) {
        return Err(Failure::new(FailureKind::Usage, cannot(&"it is not a file")));
    }
    let sealed = std::fs::read(&file).map_err(|error| Failure::new(FailureKind::Other, cannot(&error)))?;
    let passphrase = match &args.passphrase_file {
        Some(path) => prompt::password_from(path)?,
        None => prompt::password("Passphrase of the file: ")?,
    };
    let packed =
        sealed_file::open(&passphrase, &sealed).map_err(|error| Failure::new(kind_of(error), cannot(&error)))?;
    let moved = moving::unpack(&packed).map_err(|error| Failure::new(FailureKind::Integrity, cannot(&error)))?;
    let home = Settings::home(args.whose.home.clone())?;
    check_asked(&args.whose, &moved.whose)?;
    check_pin(&home, &moved.whose)?;
    let folder = moving::install(&home, &moved, args.overwrite).map_err(|error| match error {
        ProfileError::Exists { .. } => Failure::from(error).hint("--overwrite replaces it; what it holds is gone then"),
        error => in_use(error),
    })?;
    let Whose { name, directory, fingerprint } = &moved.whose;
    if home.pinned(directory)?.is_none() {
        home.pin(directory, *fingerprint)?;
    }
    output.talk(&format!("* this machine is {name} at {directory} now, in {}", folder.display()));
    output.talk("* stop using the old machine as this person: delete its profile, or it takes session and messages");
    Ok(())
}

/// The account that is exported: it must have a key here.
fn whose(settings: &Settings) -> Result<Whose, Failure> {
    let fingerprint = entrance::known_fingerprint(settings)?;
    Ok(Whose { name: settings.user.clone(), directory: settings.server.directory.to_string(), fingerprint })
}

/// What was asked for on the command line must be what is in the file.
fn check_asked(asked: &args::Whose, found: &Whose) -> Result<(), Failure> {
    let server = asked.server.as_ref().map(|server| server.directory.to_string());
    let fits = asked.user.as_ref().is_none_or(|user| *user == found.name)
        && server.as_ref().is_none_or(|server| *server == found.directory);
    if fits {
        return Ok(());
    }
    let Whose { name, directory, .. } = found;
    Err(Failure::new(FailureKind::Usage, format!("the file holds {name} at {directory}, not who was asked for"))
        .hint("leave --user and --server out: the file says who it is"))
}

/// A directory that this machine knows with another key is not replaced in passing.
fn check_pin(home: &Home, Whose { directory, fingerprint, .. }: &Whose) -> Result<(), Failure> {
    match home.pinned(directory)? {
        Some(pinned) if pinned != *fingerprint => Err(Failure::new(
            FailureKind::Authentication,
            format!("the file trusts another key for {directory}:\n  here {pinned}\n  file {fingerprint}"),
        )
        .hint("if its operator confirms the key of the file, remove the old line from known_servers")),
        Some(_) | None => Ok(()),
    }
}

fn new_passphrase() -> Result<Password, Failure> {
    for _ in 0..ATTEMPTS_MAX {
        let first = prompt::password("Passphrase for the file (whoever has both is you): ")?;
        if prompt::password("The same again: ")? == first {
            return Ok(first);
        }
        crate::cli::output::to_stderr("These were two different passphrases.");
    }
    Err(Failure::new(FailureKind::Usage, "no passphrase was given"))
}

fn kind_of(error: SealedFileError) -> FailureKind {
    match error {
        SealedFileError::WrongPassphrase => FailureKind::Authentication,
        SealedFileError::Damaged => FailureKind::Integrity,
        SealedFileError::Foreign | SealedFileError::Newer => FailureKind::Other,
    }
}

fn exists(file: &Path) -> Failure {
    Failure::new(FailureKind::Other, format!("{} exists already", file.display()))
        .hint("--overwrite replaces it, or name another file")
}

fn in_use(error: ProfileError) -> Failure {
    match error {
        ProfileError::InUse(_) => Failure::from(error).hint("leave the running `qchat peer` of this account first"),
        error => error.into(),
    }
}
