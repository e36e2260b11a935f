//! Who is online and who shares what: questions to the directory, and the files this peer publishes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commands::Rows;
use super::contacts;
use super::context::{Context, unexpected};
use super::download::{self, Wanted};
use super::event::{Activity, Event};
use super::failure::{Failure, FailureKind};
use super::handle::Source;
use super::progress::Progress;
use crate::storage::partial_file::Collision;
use crate::storage::shares::{self, Audience, HashedFile, ShareError, SharedFile};
use crate::wire::account::LoginKind;
use crate::wire::catalog::{Cursor, Entry, EntryKind, Found, Query, Scope};
use crate::wire::directory::{DirectoryReply, DirectoryRequest};
use crate::wire::ids::{FileName, Pattern};
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
            let Entry { name, size, digest, .. } = entry;
            rows.row(Event::Found { owner, online, name, size: size.bytes(), digest, legacy }).await;
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

/// Hashes a file and publishes it.
pub(super) async fn share(
    context: &Arc<Context>,
    path: PathBuf,
    hides_address: bool,
    rows: &Rows,
) -> Result<(), Failure> {
    let name = file_name(&path)?;
    let file = hash(context, path, rows).await?;
    let (size, digest, path) = (file.size, file.digest, file.path.clone());
    let share = SharedFile { name: name.clone(), audience: Audience::Everyone { hides_address }, file };
    let entry = entry(&share);
    // Here first: whoever finds the entry can fetch the file.
    shares::put(context.database(), share).await?;
    context.tell_directory(&DirectoryRequest::Publish(entry)).await?;
    rows.row(Event::Shared { name, path, size: size.bytes(), digest, hides_address }).await;
    Ok(())
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
        size: share.file.size,
        digest: share.file.digest,
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: share.audience == Audience::Everyone { hides_address: true },
    }
}

/// Reads and hashes a file on the transfer thread.
pub(super) async fn hash(context: &Arc<Context>, path: PathBuf, rows: &Rows) -> Result<HashedFile, Failure> {
    let rows = rows.clone();
    context
        .on_transfer_thread(async move {
            let total = path.metadata().map_or(0, |metadata| metadata.len());
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let mut progress = Progress::new(Activity::Hashing, &name, None, total, |event| rows.hint(event));
            HashedFile::hash(&path, &mut |done| progress.reach(done, || None))
        })
        .await?
        .map_err(|error| match error {
            ShareError::NotAFile(path) => Failure::new(FailureKind::Usage, format!("{} is not a file", path.display()))
                .hint("name the files in it one by one"),
            error => error.into(),
        })
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
    if at_directory.is_err() && !was_here {
        return Err(Failure::new(FailureKind::Other, format!("you share no file named {name}"))
            .hint("`shared` lists what you share"));
    }
    rows.row(Event::Unshared { name }).await;
    Ok(())
}

/// Lists what this account publishes.
pub(super) async fn shared(context: &Context, rows: &Rows) -> Result<(), Failure> {
    for SharedFile { name, file, audience } in shares::published(context.database()).await? {
        let hides_address = audience == Audience::Everyone { hides_address: true };
        let HashedFile { path, size, digest, .. } = file;
        rows.row(Event::Shared { name, path, size: size.bytes(), digest, hides_address }).await;
    }
    Ok(())
}

/// Fetches a published file.
pub(super) async fn get(
    context: &Arc<Context>,
    source: Source,
    folder: PathBuf,
    collision: Collision,
    rows: &Rows,
) -> Result<(), Failure> {
    let Found { owner, entry, .. } = locate(context, source).await?;
    let key = contacts::identify(context, &owner).await?.key;
    let wanted = Wanted {
        from: owner,
        key,
        name: entry.name,
        size: entry.size.bytes(),
        digest: entry.digest,
        folder,
        collision,
    };
    let received = download::fetch(context, wanted, rows.sender()).await?;
    rows.row(received).await;
    Ok(())
}

/// Finds a source that is online.
async fn locate(context: &Context, source: Source) -> Result<Found, Failure> {
    let (query, what) = match source {
        Source::Named { owner, name } => {
            let what = format!("{owner}:{name}");
            if owner == context.account.name {
                return Err(Failure::new(FailureKind::Usage, format!("{what} is your own file")));
            }
            (Query::Exact { owner, name }, what)
        }
        Source::Digest { digest } => (Query::Digest(digest), digest.to_string()),
    };
    let (found, _) = page(context, query, None).await?;
    let mut others = found.into_iter().filter(|found| found.owner != context.account.name).collect::<Vec<_>>();
    others.sort_by_key(|found| !found.online);
    match others.into_iter().next() {
        Some(found) if found.online => Ok(found),
        Some(found) => Err(Failure::new(
            FailureKind::Offline,
            format!("{} is not online, so {what} cannot be fetched now", found.owner),
        )
        .hint("try again when they are online: `qchat who` shows who is")),
        None => Err(Failure::from(Refusal::UnknownFile).about(what)),
    }
}
