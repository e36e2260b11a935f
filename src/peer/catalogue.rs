//! Who is online and who shares what: questions to the directory, and the files this peer publishes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commands::Rows;
use super::contacts;
use super::context::{Context, unexpected};
use super::download::Destination;
use super::download::{Others, Provider, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::folders;
use super::handle::Source;
use super::transfer_steps::Keep;
use super::transfers;
use crate::storage::shares::{self, Audience, SharedFile};
use crate::storage::walk::Filter;
use crate::wire::account::{Identity, LoginKind};
use crate::wire::catalog::{Cursor, Entry, Found, Query, Scope};
use crate::wire::directory::{DirectoryReply, DirectoryRequest};
use crate::wire::ids::{FileDigest, FileName, Pattern, PeerName};
use crate::wire::limits::SOURCES_PER_FILE_MAX;
use crate::wire::people::Person;
use crate::wire::refusal::Refusal;

/// Pages of a listing that one command reads: more would not be read by anyone.
const PAGES_MAX: usize = 1_000;

/// Lists who is online, or was in the last hour, by a part of the name.
pub(super) async fn who(context: &Context, recent: bool, pattern: &str, rows: &Rows) -> Result<(), Failure> {
    let pattern = Pattern::parse(pattern).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let pattern = Some(pattern).filter(|pattern| !pattern.as_str().is_empty());
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let request = DirectoryRequest::Who { recent, pattern: pattern.clone(), after };
        match context.ask_directory(&request).await? {
            DirectoryReply::People { people, more } => {
                after = people.last().map(|last| last.name.clone());
                for Person { name, presence, last_seen, legacy } in people {
                    rows.row(Event::Person { name, presence, last_seen, legacy }).await;
                }
                if !more || after.is_none() {
                    return Ok(());
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(())
}

/// Searches the catalogue by a part of the name.
pub(super) async fn find(context: &Context, pattern: &str, rows: &Rows) -> Result<(), Failure> {
    let pattern = Pattern::parse(pattern).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let (found, more) = page(context, Query::Substring(pattern.clone()), after).await?;
        after = found.last().map(|last| Cursor { name: last.entry.name.clone(), owner: last.owner.clone() });
        for Found { owner, online, entry, legacy } in found {
            let Entry { name, size, digest, kind, .. } = entry;
            let (size, files) = (size.bytes(), kind.files());
            rows.row(Event::Found { owner, online, name, size, digest, files, legacy }).await;
        }
        if !more || after.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

async fn page(context: &Context, query: Query, after: Option<Cursor>) -> Result<(Vec<Found>, bool), Failure> {
    match context.ask_directory(&DirectoryRequest::Find { query, after }).await? {
        DirectoryReply::Entries { found, more } => Ok((found, more)),
        other => Err(unexpected(&other)),
    }
}

/// Hashes a file or folder and publishes it.
pub(super) async fn share(
    context: &Arc<Context>,
    path: PathBuf,
    hides_address: bool,
    filter: Filter,
    rows: &Rows,
) -> Result<(), Failure> {
    let name = file_name(&path)?;
    let (file, folder) = folders::read(context, path, filter, rows).await?;
    let share = SharedFile { name, audience: Audience::Everyone { hides_address }, file, folder };
    let replaces = namesake(context, &share).await?;
    let (entry, row) = (entry(&share), shared_row(&share, replaces));
    context.traffic.uploads.allow_again(share.file.digest);
    // Here first: whoever finds the entry can fetch the file.
    shares::put(context.database(), share).await?;
    context.tell_directory(&DirectoryRequest::Publish(entry)).await?;
    folders::tidy(context).await;
    rows.row(row).await;
    Ok(())
}

/// Where something else lies that was published under the same name.
async fn namesake(context: &Context, share: &SharedFile) -> Result<Option<PathBuf>, Failure> {
    let published = shares::published(context.database()).await?;
    let same_name = published.into_iter().find(|before| before.name == share.name);
    Ok(same_name.map(|before| before.place().0.to_owned()).filter(|path| path != share.place().0))
}

/// Publishes what is shared here and missing at the directory, because an earlier attempt was cut short.
pub(super) async fn reconcile(context: Arc<Context>) {
    if context.account.kind == LoginKind::Resident
        && let Err(failure) = publish_missing(&context).await
    {
        tracing::warn!(%failure, "shared files may be missing in the directory's catalogue");
    }
}

async fn publish_missing(context: &Context) -> Result<(), Failure> {
    let mut missing = shares::published(context.database()).await?;
    let mut after = None;
    for _ in 0..PAGES_MAX {
        if missing.is_empty() {
            return Ok(());
        }
        let (found, more) = page(context, Query::Owner(context.account.name.clone()), after).await?;
        after = found.last().map(|last| Cursor { name: last.entry.name.clone(), owner: last.owner.clone() });
        missing.retain(|share| !found.iter().any(|found| found.entry == entry(share)));
        if !more || after.is_none() {
            break;
        }
    }
    for share in missing {
        context.tell_directory(&DirectoryRequest::Publish(entry(&share))).await?;
    }
    Ok(())
}

/// How the directory lists a published file.
fn entry(share: &SharedFile) -> Entry {
    Entry {
        name: share.name.clone(),
        size: share.place().1,
        digest: share.file.digest,
        kind: share.kind(),
        scope: Scope::Everyone,
        hides_address: share.audience == Audience::Everyone { hides_address: true },
    }
}

/// The name under which others see a local file.
pub(super) fn file_name(path: &Path) -> Result<FileName, Failure> {
    let name = path
        .file_name()
        .ok_or_else(|| Failure::new(FailureKind::Usage, format!("{} does not name a file", path.display())))?;
    let name = name
        .to_str()
        .ok_or_else(|| Failure::new(FailureKind::Usage, format!("the name of {} is not UTF-8", path.display())))?;
    FileName::parse(name).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))
}

/// Takes a published file back: at the directory first, so that nobody finds what is not served.
pub(super) async fn unshare(context: &Context, name: FileName, rows: &Rows) -> Result<(), Failure> {
    let at_directory = context.tell_directory(&DirectoryRequest::Unpublish { name: name.clone() }).await;
    let was_here = match &at_directory {
        Err(failure) if failure.refusal != Some(Refusal::UnknownFile.number()) => return at_directory,
        Ok(()) | Err(_) => shares::remove_published(context.database(), &name).await?,
    };
    folders::tidy(context).await;
    if let Some(digest) = was_here {
        transfers::end_unshared(context, digest).await?;
    }
    if at_directory.is_err() && was_here.is_none() {
        return Err(Failure::new(FailureKind::Other, format!("you share no file named {name}"))
            .hint("`shared` lists what you share"));
    }
    rows.row(Event::Unshared { name }).await;
    Ok(())
}

/// Lists what this account publishes.
pub(super) async fn shared(context: &Context, rows: &Rows) -> Result<(), Failure> {
    for share in shares::published(context.database()).await? {
        rows.row(shared_row(&share, None)).await;
    }
    Ok(())
}

fn shared_row(share: &SharedFile, replaces: Option<PathBuf>) -> Event {
    let (path, size) = share.place();
    Event::Shared {
        name: share.name.clone(),
        path: path.to_owned(),
        size: size.bytes(),
        digest: share.file.digest,
        files: share.kind().files(),
        hides_address: share.audience == Audience::Everyone { hides_address: true },
        replaces,
    }
}

/// Fetches a published file or folder: from whom it was named, and from everybody else who has the same.
pub(super) async fn get(
    context: &Arc<Context>,
    source: Source,
    into: Destination,
    once: bool,
    rows: &Rows,
) -> Result<(), Failure> {
    let Found { owner, entry, online, .. } = locate(context, &source).await?;
    let (sources, others) = if online {
        let key = contacts::identify(context, &owner).await?.key;
        (vec![Provider { name: owner.clone(), key }], Others::Ask)
    } else {
        (owners(context, entry.digest).await, Others::Unasked)
    };
    if sources.is_empty() {
        let message = format!("{owner} is not online, so {} cannot be fetched now", words_of(&source));
        return Err(
            Failure::new(FailureKind::Offline, message).hint("try again when they are online: `who` shows who is")
        );
    }
    let Entry { name, size, digest, kind, .. } = entry;
    let (size, may_be_whole) = (size.bytes(), false);
    let wanted = Wanted { sources, others, name, size, digest, kind, into, offer: None, may_be_whole };
    let keep = if once { Keep::Nothing } else { Keep::by(context) };
    transfers::run(context, wanted, keep, rows).await
}

/// Who else is online and has a file. What the directory does not answer is not known.
pub(super) async fn owners(context: &Context, digest: FileDigest) -> Vec<Provider> {
    let found = page(context, Query::Digest(digest), None).await.unwrap_or_else(|failure| {
        tracing::debug!(%failure, "not known who else has the file");
        (Vec::new(), false)
    });
    let others = found.0.into_iter().filter(|found| found.online && found.owner != context.account.name);
    let mut owners: Vec<Provider> = Vec::new();
    for Found { owner: name, .. } in others.take(SOURCES_PER_FILE_MAX) {
        if owners.iter().any(|known| known.name == name) {
            continue;
        }
        match context.identify(&name).await {
            // Nobody becomes a contact by that; but a key that is held back is not talked to.
            Ok(Identity { key, .. }) if contacts::meet_if_known(context, &name, key).await.is_ok() => {
                owners.push(Provider { name, key });
            }
            Ok(_) => {}
            Err(failure) => tracing::debug!(%name, %failure, "an owner is not asked"),
        }
    }
    owners
}

/// Whether somebody shares something else now under the name of what they shared before.
pub(super) async fn is_another_now(context: &Context, owner: &PeerName, name: &FileName, before: FileDigest) -> bool {
    let query = Query::Exact { owner: owner.clone(), name: name.clone() };
    let found = page(context, query, None).await.map(|(found, _)| found);
    found.is_ok_and(|found| found.iter().any(|found| found.entry.digest != before))
}

/// Finds a source; of several one that is online.
async fn locate(context: &Context, source: &Source) -> Result<Found, Failure> {
    let query = match source {
        Source::Named { owner, .. } if *owner == context.account.name => {
            return Err(Failure::new(FailureKind::Usage, format!("{} is your own file", words_of(source))));
        }
        Source::Named { owner, name } => Query::Exact { owner: owner.clone(), name: name.clone() },
        Source::Digest { digest } => Query::Digest(*digest),
    };
    let (found, _) = page(context, query, None).await?;
    let mut others = found.into_iter().filter(|found| found.owner != context.account.name).collect::<Vec<_>>();
    others.sort_by_key(|found| !found.online);
    others.into_iter().next().ok_or_else(|| Failure::from(Refusal::UnknownFile).about(words_of(source)))
}

/// What people call a source.
fn words_of(source: &Source) -> String {
    match source {
        Source::Named { owner, name } => format!("{owner}:{name}"),
        Source::Digest { digest } => digest.to_string(),
    }
}
