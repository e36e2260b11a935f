//! The way in: find the directory's pin, open the profile, log in, and ask the person where something is missing.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::local_socket::LocalPeer;
use super::output::Output;
use super::prompt;
use super::settings::Settings;
use crate::peer::context::Account;
use crate::peer::directory_link::{Admission, LoginFailure, learn_fingerprint};
use crate::peer::driver::Peer;
use crate::peer::failure::{Failure, FailureKind};
use crate::seal::random::OsRandom;
use crate::storage::profile::{Profile, ProfileError};
use crate::wire::account::LoginKind;
use crate::wire::ids::{DirectoryFingerprint, Password};
use crate::wire::limits::UNDO_DAYS;
use crate::wire::refusal::Refusal;

/// Longer than this without a word looks like a hang.
const MOMENT: Duration = Duration::from_secs(1);

/// How long a command waits for another one of the same account, and how often it looks.
const ERRAND_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// A person mistypes a password this often before they should look it up.
const PASSWORD_ATTEMPTS_MAX: usize = 3;

/// How often a login is tried again while the account's owner is asked.
const OWNER_ASKED_INTERVAL: Duration = Duration::from_secs(2);

/// Whoever replaced the key had the password, and it still is the account's.
const TAKEN_BACK: &str = "* the account is yours again; whoever replaced its key knows the password and can come again: \
                          change it with `qchat account password`";

/// The directory's key that this person trusts: by a link, by an earlier visit, or by their answer now.
pub(super) async fn trusted_fingerprint(settings: &Settings, output: &Output) -> Result<DirectoryFingerprint, Failure> {
    let address = settings.server.directory.to_string();
    match (settings.home.pinned(&address)?, settings.server.fingerprint) {
        (Some(pinned), Some(promised)) if pinned != promised => Err(Failure::new(
            FailureKind::Authentication,
            format!("the link is for another directory than the one known as {address}:\n  trusted {pinned}\n  link    {promised}"),
        )
        .hint("if its operator confirms the new key, remove the old line from known_servers")),
        (Some(pinned), _) => Ok(pinned),
        // Pinned once a directory has proven that it holds this key: a link may be mistyped.
        (None, Some(promised)) => Ok(promised),
        (None, None) => {
            let learning = learn_fingerprint(&settings.server.directory, settings.network);
            let found = patiently(settings, output, learning).await?;
            accept_first_use(settings, output, &address, found)?;
            settings.home.pin(&address, found)?;
            Ok(found)
        }
    }
}

/// Says what it waits for, once that takes longer than a moment.
async fn patiently<T>(settings: &Settings, output: &Output, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = tokio::time::sleep(MOMENT) => {
            output.talk(&format!("* connecting to the directory at {} ...", settings.server.directory));
            work.await
        }
    }
}

fn accept_first_use(
    settings: &Settings,
    output: &Output,
    address: &str,
    found: DirectoryFingerprint,
) -> Result<(), Failure> {
    let refuse = |message: String| Failure::new(FailureKind::Authentication, message);
    if settings.accept_new {
        output.talk(&format!("* first time at {address}: trusting key {found}"));
        return Ok(());
    }
    if !prompt::can_ask() {
        return Err(refuse(format!("the directory at {address} is not known yet; its key is {found}"))
            .hint("--accept-new trusts it, or use the qchat:// link that its operator got from `qchat serve`"));
    }
    output.talk(&format!("The directory at {address} is not known yet. Its key is\n  {found}"));
    if prompt::confirm("Is that what its operator told you? Trust it from now on?")? {
        Ok(())
    } else {
        Err(refuse(format!("the directory at {address} is not trusted")))
    }
}

/// The directory's key as this machine knows it already, for what needs no directory.
pub(super) fn known_fingerprint(settings: &Settings) -> Result<DirectoryFingerprint, Failure> {
    let (name, address) = (&settings.user, settings.server.directory.to_string());
    match settings.home.pinned(&address)?.or(settings.server.fingerprint) {
        Some(fingerprint) if settings.home.has_profile(fingerprint, name) => Ok(fingerprint),
        _ => Err(Failure::new(FailureKind::Other, format!("{name} at {address} has no key on this machine"))
            .hint("--user, --server and --home say whose key; `qchat peer` makes one")),
    }
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To stay.
    Resident,
    /// One command.
    Errand,
    /// A command that waits for an answer from the other side.
    Answer,
    /// To take what waits.
    Mail,
}

impl Purpose {
    fn login_kind(self) -> LoginKind {
        match self {
            Self::Resident => LoginKind::Resident,
            Self::Errand => LoginKind::Errand { collects: false },
            Self::Answer | Self::Mail => LoginKind::Errand { collects: true },
        }
    }
}

/// Opens the profile and logs in.
pub(super) async fn log_in(
    settings: &Settings,
    fingerprint: DirectoryFingerprint,
    purpose: Purpose,
    output: &Output,
) -> Result<Peer, Failure> {
    let kind = purpose.login_kind();
    let profile = Arc::new(open_profile(settings, fingerprint, kind).await?);
    let directory = settings.server.directory.clone();
    let account = Account {
        name: settings.user.clone(),
        directory,
        fingerprint,
        kind,
        collects_mail: matches!(purpose, Purpose::Resident | Purpose::Mail),
        sends_read_receipts: settings.sends_read_receipts,
        paths: settings.paths,
    };
    let mut admission = Admission {
        password: None,
        register: settings.register,
        undo: settings.take_back,
        token: settings.server.token.clone(),
    };
    if let Some(file) = &settings.password_file {
        admission.password = Some(prompt::password_from(file)?);
    }
    let mut attempts = 0;
    let mut owner_asked = false;
    while attempts <= PASSWORD_ATTEMPTS_MAX {
        let starting = Peer::start(account.clone(), profile.clone(), &admission, settings.network);
        match patiently(settings, output, starting).await {
            Ok(peer) => {
                peer.handle().set_limit(settings.limit)?;
                pin_proven(settings, fingerprint)?;
                if admission.undo {
                    output.talk(TAKEN_BACK);
                }
                return Ok(peer);
            }
            Err(LoginFailure::Failed(failure)) => return Err(failure),
            Err(LoginFailure::Refused(Refusal::OwnerAsked { seconds })) => {
                if !std::mem::replace(&mut owner_asked, true) {
                    output.talk(&format!(
                        "* {} is logged in with another key, so its owner is asked there, for {seconds} s at most",
                        settings.user
                    ));
                }
                tokio::time::sleep(OWNER_ASKED_INTERVAL).await;
                continue;
            }
            Err(LoginFailure::Refused(refusal)) => admission = ask(settings, refusal, &admission)?,
        }
        attempts += 1;
    }
    Err(Failure::from(Refusal::WrongPassword { tries_left: 0 }))
}

/// What to do about a profile that is in use.
const IN_USE: &str = "another command or peer of this account is running";

/// Opens the profile; waits a while for another errand to end, but not for a peer.
pub(super) async fn open_profile(
    settings: &Settings,
    fingerprint: DirectoryFingerprint,
    kind: LoginKind,
) -> Result<Profile, Failure> {
    let deadline = Instant::now() + ERRAND_PATIENCE;
    loop {
        match Profile::open(&settings.home, fingerprint, &settings.user, &mut OsRandom) {
            Err(error @ ProfileError::InUse(_)) => {
                let socket = settings.home.local_socket(fingerprint, &settings.user);
                if kind == LoginKind::Resident && LocalPeer::connect(&socket).await?.is_some() {
                    return Err(Failure::from(error).hint(IN_USE));
                }
                if Instant::now() > deadline {
                    return Err(Failure::from(error).hint(IN_USE));
                }
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
            opened => return Ok(opened?),
        }
    }
}

fn pin_proven(settings: &Settings, fingerprint: DirectoryFingerprint) -> Result<(), Failure> {
    let address = settings.server.directory.to_string();
    if settings.home.pinned(&address)?.is_none() {
        settings.home.pin(&address, fingerprint)?;
    }
    Ok(())
}

/// What a person adds after a refusal; a failure when nothing they can say would help.
fn ask(settings: &Settings, refusal: Refusal, before: &Admission) -> Result<Admission, Failure> {
    let name = &settings.user;
    let failure = Failure::from(refusal).about(name);
    let needs_words = !matches!(refusal, Refusal::UnknownName | Refusal::KeyReplaced { .. });
    if !prompt::can_ask() || settings.password_file.is_some() && needs_words {
        return Err(match refusal {
            Refusal::UnknownName => failure.hint("--register makes the account"),
            Refusal::PasswordNeeded => {
                failure.hint("--password-file FILE gives its password, `-` reads it from standard input")
            }
            _ => failure,
        });
    }
    match refusal {
        Refusal::UnknownName => {
            if !prompt::confirm(&format!("{name} is new here: create it?"))? {
                return Err(failure);
            }
            let password = match &before.password {
                Some(password) => password.clone(),
                None => new_password(settings)?,
            };
            Ok(Admission { password: Some(password), register: true, ..before.clone() })
        }
        Refusal::PasswordNeeded if before.register => {
            Ok(Admission { password: Some(new_password(settings)?), register: true, ..before.clone() })
        }
        Refusal::PasswordNeeded => {
            let question = format!("Password of {name} (its key is on another machine): ");
            Ok(Admission { password: Some(prompt::password(&question)?), register: false, ..before.clone() })
        }
        Refusal::WrongPassword { tries_left } => {
            let tries = if tries_left == 1 { "1 more try".to_owned() } else { format!("{tries_left} more tries") };
            let question = format!("Wrong password, {tries}. Password of {name}: ");
            Ok(Admission { password: Some(prompt::password(&question)?), ..before.clone() })
        }
        Refusal::KeyReplaced { hours_left } => {
            let ago = (UNDO_DAYS * 24).saturating_sub(u64::from(hours_left));
            let question =
                format!("The key of {name} was replaced {ago} hours ago from elsewhere: take the account back?");
            if prompt::confirm(&question)? { Ok(Admission { undo: true, ..before.clone() }) } else { Err(failure) }
        }
        _ => Err(failure),
    }
}

fn new_password(settings: &Settings) -> Result<Password, Failure> {
    prompt::new_password(&format!("New password for {} (to move to another machine): ", settings.user))
}
