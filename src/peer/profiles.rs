//! What people say about themselves: our own profile, and others', asked of their owners or of a friend of both. Whoever
//! hands one on cannot change it, because its owner has signed it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commands::Rows;
use super::context::Context;
use super::download::failures::is_gone;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::handle::ProfileEdit;
use super::links::Link;
use super::rows::{PictureRow, ProfileRow, ProfileSource};
use super::{blocks, contacts, peer_links};
use crate::clock::now_millis;
use crate::protocol::profile::{Unfit, Verdict, is_news, known};
use crate::seal::profile::{self, ProfileFault};
use crate::storage::profiles::{Checked, PictureError};
use crate::storage::{self, people, profiles};
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::PROFILE_VERSION_MAX;
use crate::wire::profile::{PartError, Picture, Profile, ProfileReply, ProfileRequest};
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{PeerRequest, ProfileAnswer};

/// Whom to ask for a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// Its owner.
    Owner,
    /// Somebody who may have it.
    Friend(PeerName),
}

/// A profile that was found.
struct Found {
    profile: Profile,
    source: ProfileSource,
    /// Whether it was not here before.
    is_new: bool,
}

/// Shows a profile: our own from this disk, somebody else's after asking whether there is a newer one.
pub(super) async fn show(
    context: &Arc<Context>,
    name: Option<PeerName>,
    via: Option<PeerName>,
    picture_to: Option<PathBuf>,
    rows: &Rows,
) -> Result<(), Failure> {
    let own = &context.account.name;
    let of = name.unwrap_or_else(|| own.clone());
    let found = match &via {
        Some(friend) if friend == own => {
            return Err(Failure::new(FailureKind::Usage, "this is yourself: name a friend who may have it"));
        }
        Some(friend) => ask(context, &of, Asked::Friend(friend.clone())).await?,
        None if of == *own => of_own(context).await?,
        None => of_owner(context, &of, rows).await?,
    };
    profiles::note_asked(context.database(), &of, now_millis()).await?;
    let mut row = row(&found, via);
    let saved = save_picture(context, found.profile, picture_to).await;
    if let (Some(picture), Ok(path)) = (&mut row.picture, &saved) {
        picture.path.clone_from(path);
    }
    rows.row(Event::Profile(Box::new(row))).await;
    saved.map(drop)
}

fn row(Found { profile, source, is_new }: &Found, via: Option<PeerName>) -> ProfileRow {
    let text = |text: &str| text.to_owned();
    ProfileRow {
        name: profile.name.clone(),
        key: profile.key,
        version: profile.version,
        display_name: profile.display_name.as_ref().map(|name| text(name.as_str())),
        info: profile.info.as_ref().map(|info| text(info.as_str())),
        fields: profile.fields.iter().map(|(label, value)| (text(label.as_str()), text(value.as_str()))).collect(),
        picture: profile.picture.as_ref().map(|picture| PictureRow {
            kind: picture.kind(),
            size: u64::try_from(picture.bytes().len()).unwrap_or(u64::MAX),
            path: None,
        }),
        source: *source,
        via,
        news: *is_new,
    }
}

async fn of_own(context: &Context) -> Result<Found, Failure> {
    match held(context, &context.account.name).await? {
        Some(own) => Ok(Found { profile: own.profile().clone(), source: ProfileSource::Own, is_new: false }),
        None => Err(no_own_profile()),
    }
}

fn no_own_profile() -> Failure {
    Failure { message: "you have no profile yet".to_owned(), ..Failure::from(Refusal::NoProfile) }
        .hint("`profile edit name NAME` begins one: whoever may write to you may read it")
}

/// Asks the owner; when that does not work the copy that lies here is shown, with a word.
async fn of_owner(context: &Arc<Context>, of: &PeerName, rows: &Rows) -> Result<Found, Failure> {
    match ask(context, of, Asked::Owner).await {
        Err(failure) if is_out_of_reach(failure.kind) => {
            let Some(stored) = held(context, of).await? else { return Err(failure) };
            rows.row(Event::Note { text: format!("* {failure}: this is the copy that lies here") }).await;
            Ok(Found { profile: stored.profile().clone(), source: ProfileSource::Stored, is_new: false })
        }
        answer => answer,
    }
}

/// Whether somebody could not be asked, rather than gave a wrong answer.
fn is_out_of_reach(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Offline
        | FailureKind::NotAccepted
        | FailureKind::Quota
        | FailureKind::DirectoryUnreachable
        | FailureKind::NoPath
        | FailureKind::TimedOut => true,
        FailureKind::Other
        | FailureKind::Usage
        | FailureKind::Declined
        | FailureKind::Partial
        | FailureKind::Integrity
        | FailureKind::Authentication
        | FailureKind::Disk
        | FailureKind::LoggedInElsewhere
        | FailureKind::Interrupted => false,
    }
}

/// Asks for a profile, and keeps what comes when it is newer than what lies here.
async fn ask(context: &Arc<Context>, of: &PeerName, asked: Asked) -> Result<Found, Failure> {
    let (by, source) = match &asked {
        Asked::Owner => (of, ProfileSource::Owner),
        Asked::Friend(friend) => (friend, ProfileSource::Friend),
    };
    let by_key = contacts::identify(context, by).await?.key;
    blocks::check(context, by, Some(by_key))?;
    let key = owner_key(context, of).await?;
    let held = profiles::held(context.database(), of, key).await?;
    let known = known(key, held.as_ref().map(Checked::profile));
    let request = PeerRequest::Profile(ProfileRequest { of: of.clone(), known });
    match (answer_of(context, by, by_key, &request).await?, held) {
        (Ok(ProfileReply::New(signed)), _) => {
            let found = Checked::open(*signed).map_err(|fault| not_signed(by, of, &fault))?;
            let profile = found.profile().clone();
            let (database, own) = (context.database(), &context.account.name);
            let taken = profiles::take(database, own, (of, key), found, now_millis()).await?;
            let is_new = taken.map_err(|unfit| not_fit(by, of, &unfit))? == Verdict::New;
            Ok(Found { profile, source, is_new })
        }
        (Ok(ProfileReply::NothingNew), Some(held)) => {
            Ok(Found { profile: held.profile().clone(), source, is_new: false })
        }
        (Ok(ProfileReply::NothingNew) | Err(Refusal::NoProfile), _) => Err(no_profile(context, of, &asked).await?),
        (Err(refusal), _) => Err(Failure::from(refusal).about(by)),
    }
}

/// The key that has to have signed a person's profile: the one that is talked to.
async fn owner_key(context: &Context, of: &PeerName) -> Result<PeerKey, Failure> {
    if *of == context.account.name { Ok(context.key()) } else { contacts::pinned_key(context, of).await }
}

/// Asks over a link, or over another one when that had ended before it was asked.
async fn answer_of(
    context: &Context,
    by: &PeerName,
    key: PeerKey,
    request: &PeerRequest,
) -> Result<ProfileAnswer, Failure> {
    let mut may_ask_again = true;
    loop {
        let (link, is_new) = peer_links::open(context, by, key, Purpose::Talk).await?;
        match link.connection.request(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) if may_ask_again && is_gone(&error, is_new) => {
                may_ask_again = false;
                link.replace();
            }
            Err(error) => return Err(broken(by, &error)),
        }
    }
}

fn broken(by: &PeerName, error: &TransportError) -> Failure {
    let (kind, what) = match error {
        TransportError::BadFrame(_) | TransportError::Truncated => {
            (FailureKind::Integrity, format!("{by} broke the protocol: {error}"))
        }
        TransportError::TimedOut | TransportError::NoAnswer(_) => {
            (FailureKind::TimedOut, format!("{by} is not responding"))
        }
        TransportError::Closed(_)
        | TransportError::ClosedHere
        | TransportError::Restarted
        | TransportError::Reset(CloseCode::ShuttingDown) => {
            (FailureKind::Offline, format!("the connection to {by} ended ({error})"))
        }
        TransportError::Bind { .. }
        | TransportError::IdentityMismatch { .. }
        | TransportError::NotAnnounced
        | TransportError::OtherVersion
        | TransportError::Handshake(_)
        | TransportError::Tls(_)
        | TransportError::Refused
        | TransportError::Reset(_) => (FailureKind::Other, format!("{by} does not answer ({error})")),
    };
    Failure::new(kind, what)
}

/// Of somebody who handed on what nobody has signed, or what is no profile.
fn not_signed(by: &PeerName, of: &PeerName, fault: &ProfileFault) -> Failure {
    let kind = match fault {
        ProfileFault::Forged => FailureKind::Authentication,
        ProfileFault::TooLong(_) | ProfileFault::Malformed(_) | ProfileFault::BadVersion(_) => FailureKind::Integrity,
    };
    not_taken(kind, by, of, fault)
}

/// Of somebody who handed on what somebody has signed, and is not what was asked for.
fn not_fit(by: &PeerName, of: &PeerName, unfit: &Unfit) -> Failure {
    let kind = match unfit {
        Unfit::OtherKey(_) => FailureKind::Authentication,
        Unfit::OtherName(_) | Unfit::Older { .. } | Unfit::SameVersion(_) => FailureKind::Integrity,
    };
    not_taken(kind, by, of, unfit)
}

fn not_taken(kind: FailureKind, by: &PeerName, of: &PeerName, why: &dyn std::fmt::Display) -> Failure {
    let what = if by == of { format!("{by} sent a profile") } else { format!("{by} handed on a profile of {of}") };
    Failure::new(kind, format!("{what} that is not taken: {why}")).hint("what lies here of it is as it was")
}

/// Of somebody who has no such profile for us.
async fn no_profile(context: &Context, of: &PeerName, asked: &Asked) -> Result<Failure, Failure> {
    let failure = Failure::from(Refusal::NoProfile);
    Ok(match asked {
        Asked::Owner => Failure { message: format!("{of} has no profile yet"), hint: None, ..failure },
        Asked::Friend(friend) => {
            let failure = Failure { message: format!("{friend} has no profile of {of} for you"), ..failure };
            if people::is_friend(context.database(), friend).await? {
                failure.hint(format!("they hand on what they have seen themselves: `profile {of}`"))
            } else {
                failure.hint(format!("only friends hand on what they have seen, and {friend} is none of yours"))
            }
        }
    })
}

/// Saves the picture of a profile, when that is asked for, and says where.
async fn save_picture(context: &Context, of: Profile, to: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = to else { return Ok(None) };
    let Some(picture) = of.picture else {
        return Err(Failure::new(FailureKind::Other, format!("the profile of {} has no picture", of.name)));
    };
    let place = path.clone();
    let saved = context.on_transfer_thread(async move { profiles::save_picture(&path, &picture) }).await?;
    saved.map_err(|error| not_saved(&place, &error))?;
    Ok(Some(place))
}

fn not_saved(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::new(FailureKind::Other, format!("{path} exists already")).hint("name another file, or move it")
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Failure::new(FailureKind::Usage, format!("there is no folder for {path}")).hint("make it first")
        }
        _ => Failure::new(FailureKind::Disk, format!("cannot write {path}: {error}")),
    }
}

/// Changes our own profile and signs it as the next version; what changes nothing makes none. Waits for no other edit: one
/// begins when the one before has ended.
pub(super) async fn edit(context: &Context, edit: ProfileEdit) -> Result<Event, Failure> {
    let (name, key) = (&context.account.name, context.key());
    let before = held(context, name).await?.map(|held| held.profile().clone());
    let before = before.unwrap_or_else(|| Profile::empty(name.clone(), key));
    let mut profile = before.clone();
    apply(context, &mut profile, edit).await?;
    let is_new = profile != before;
    if !is_new && before.version == 0 {
        return Err(no_own_profile());
    }
    if is_new {
        if before.version >= PROFILE_VERSION_MAX {
            return Err(Failure::new(
                FailureKind::Quota,
                "this profile has been changed as often as there are numbers",
            ));
        }
        profile.version = before.version + 1;
        let signed = Checked::open(profile::sign(context.identity(), &profile))
            .map_err(|fault| not_signed(name, name, &fault))?;
        let taken = profiles::take(context.database(), name, (name, key), signed, now_millis()).await?;
        taken.map_err(|unfit| not_fit(name, name, &unfit))?;
    }
    Ok(Event::Profile(Box::new(row(&Found { profile, source: ProfileSource::Own, is_new }, None))))
}

async fn apply(context: &Context, profile: &mut Profile, edit: ProfileEdit) -> Result<(), Failure> {
    match edit {
        ProfileEdit::DisplayName { name } => profile.display_name = name,
        ProfileEdit::Info { text } => profile.info = text,
        ProfileEdit::Picture { path: None } => profile.picture = None,
        ProfileEdit::Picture { path: Some(path) } => profile.picture = Some(picture_in(context, path).await?),
        ProfileEdit::Field { label, value: Some(value) } => profile.fields.set(label, value).map_err(|error| {
            Failure::new(FailureKind::Quota, error.to_string()).hint("`profile edit FIELD` without a value removes one")
        })?,
        ProfileEdit::Field { label, value: None } => {
            if !profile.fields.remove(&label) {
                return Err(Failure::new(FailureKind::Other, format!("your profile has no field {}", label.as_str()))
                    .hint("`profile` shows what it has"));
            }
        }
    }
    Ok(())
}

async fn picture_in(context: &Context, path: PathBuf) -> Result<Picture, Failure> {
    let read = context.on_transfer_thread(async move { profiles::read_picture(&path) }).await?;
    read.map_err(|error| match error {
        PictureError::File(error) => error.into(),
        PictureError::Part { why: PartError::PictureBytes(_), .. } => {
            Failure::new(FailureKind::Quota, error.to_string()).hint("make it smaller: 256 pixels wide are enough")
        }
        error => Failure::new(FailureKind::Usage, error.to_string()),
    })
}

/// The profile that lies here of somebody, signed by the key that is theirs now.
async fn held(context: &Context, of: &PeerName) -> Result<Option<Checked>, Failure> {
    let key = if *of == context.account.name {
        Some(context.key())
    } else {
        storage::contacts::known(context.database(), of).await?.map(|trust| trust.key)
    };
    match key {
        Some(key) => Ok(profiles::held(context.database(), of, key).await?),
        None => Ok(None),
    }
}

/// Answers a question for a profile over a link.
pub(super) async fn answer(context: &Context, link: &Link, request: &ProfileRequest, stream: Stream) {
    let answer: ProfileAnswer = match handed_on(context, link, &request.of).await {
        Ok(Some(held)) if is_news(held.profile(), request.known) => Ok(ProfileReply::New(Box::new(held.into_signed()))),
        Ok(Some(_)) => Ok(ProfileReply::NothingNew),
        Ok(None) => Err(Refusal::NoProfile),
        Err(failure) => {
            tracing::error!(%failure, "the profile cannot be read");
            Err(Refusal::Storage)
        }
    };
    stream.answer(&answer).await;
}

/// What is handed on to whoever is at the other end of a link: our own to everybody, others' to our friends.
async fn handed_on(context: &Context, link: &Link, of: &PeerName) -> Result<Option<Checked>, Failure> {
    let may_have =
        *of == context.account.name || people::is_friend_with_key(context.database(), &link.name, link.key).await?;
    if may_have { held(context, of).await } else { Ok(None) }
}
