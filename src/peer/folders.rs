//! Makes what is shared of a path: a file's digest, or a folder's manifest. Nothing is hashed that was hashed before and has
//! not changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commands::Rows;
use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::progress::Progress;
use super::rows::Activity;
use crate::storage::digest_cache::DigestCache;
use crate::storage::folder_shares::{self, FolderBuilder, FolderError, SharedFolder};
use crate::storage::shares::{HashedFile, ShareError};
use crate::storage::walk::{self, Filter, Skipped, Walked};

/// Reads a file or folder that is to be shared. A folder's share is what the manifest's file is.
pub(super) async fn read(
    context: &Arc<Context>,
    path: PathBuf,
    filter: Filter,
    rows: &Rows,
) -> Result<(HashedFile, Option<SharedFolder>), Failure> {
    if path.is_dir() {
        let (manifest, folder) = read_folder(context, path, filter, rows).await?;
        return Ok((manifest, Some(folder)));
    }
    let mut cache = DigestCache::below(context.database(), &path).await?;
    let told = rows.clone();
    let (hashed, mut cache) = context
        .beside_transfers(move || {
            let total = path.metadata().map_or(0, |metadata| metadata.len());
            let mut progress = Progress::new(Activity::Hashing, &name_of(&path), None, total, |event| told.hint(event));
            let hashed = cache.hash(&path, &mut |done| progress.reach(done, || None));
            (hashed, cache)
        })
        .await?;
    let hashed = hashed.map_err(|error| match error {
        ShareError::NotAFile(path) => {
            Failure::new(FailureKind::Usage, format!("{} is neither a file nor a folder", path.display()))
        }
        error => error.into(),
    })?;
    cache.keep(context.database()).await?;
    Ok((hashed, None))
}

async fn read_folder(
    context: &Arc<Context>,
    root: PathBuf,
    filter: Filter,
    rows: &Rows,
) -> Result<(HashedFile, SharedFolder), Failure> {
    // One after the other: what is begun and not finished yet must not be taken for what was cut short.
    let _turn = context.sharing.lock().await;
    let mut cache = DigestCache::below(context.database(), &root).await?;
    let told = rows.clone();
    let name = name_of(&root);
    let (built, mut cache) = context
        .beside_transfers(move || {
            let built = build(&root, &filter, &mut cache, &told);
            (built, cache)
        })
        .await?;
    // Also when the folder cannot be shared: whoever tries again need not wait again.
    cache.keep(context.database()).await?;
    let (builder, skipped) = built?;
    tell_skipped(&skipped, rows).await;
    tell_skipped(&builder.skipped, rows).await;
    let has_skipped = !skipped.named().is_empty() || !builder.skipped.named().is_empty();
    let (manifest, folder) = builder.keep(context.database(), context.profile.folder()).await?;
    if folder.files == 0 && (has_skipped || has_files(context, folder.root.clone()).await?) {
        let text = format!("* warning: no file of {name} is shared: all are left out or were skipped");
        rows.row(Event::Note { text }).await;
    }
    Ok((manifest, folder))
}

/// Whether there is any file in a folder, were nothing left out.
async fn has_files(context: &Context, root: PathBuf) -> Result<bool, Failure> {
    let walked = context.beside_transfers(move || walk::walk(&root, &Filter::default())).await?;
    let Walked { entries, skipped } = walked.map_err(FolderError::from)?;
    Ok(!skipped.named().is_empty() || entries.iter().any(|(_, kind)| *kind == walk::Kind::File))
}

/// Walks the folder and hashes what is in it.
fn build(
    root: &Path,
    filter: &Filter,
    cache: &mut DigestCache,
    rows: &Rows,
) -> Result<(FolderBuilder, Skipped), FolderError> {
    let Walked { entries, skipped } = walk::walk(root, filter)?;
    let mut builder = FolderBuilder::new(root)?;
    let bytes = |path: &str| root.join(path).symlink_metadata().map_or(0, |metadata| metadata.len());
    let total =
        entries.iter().filter(|(_, kind)| *kind == walk::Kind::File).map(|(path, _)| bytes(path.as_str())).sum();
    let mut progress = Progress::new(Activity::Hashing, &name_of(root), None, total, |event| rows.hint(event));
    let mut before = 0;
    for (path, kind) in entries {
        let mut read = 0;
        builder.add(path, kind, cache, &mut |done| {
            read = done;
            progress.reach((before + done).min(total), || None);
        })?;
        before += read;
    }
    Ok((builder, skipped))
}

async fn tell_skipped(skipped: &Skipped, rows: &Rows) {
    let named = skipped.named();
    for (index, (path, why)) in named.iter().enumerate() {
        let others = Some(skipped.others()).filter(|others| index + 1 == named.len() && *others > 0);
        rows.row(Event::Skipped { path: path.display().to_string(), why: why.clone(), others }).await;
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Removes the manifests of folders that are not shared any more. It is no failure of what was done when that fails.
pub(super) async fn tidy(context: &Context) {
    if let Err(error) = folder_shares::remove_old_manifests(context.database(), context.profile.folder()).await {
        tracing::warn!(%error, "the manifest of a folder that is not shared any more could not be removed");
    }
}
