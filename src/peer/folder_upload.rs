//! Serves the small files of a shared folder: many on one stream, read beneath the folder and checked to be what was
//! shared.

use std::ops::Range;

use super::context::Context;
use super::event::Event;
use super::links::Link;
use super::progress::Progress;
use super::rows::Activity;
use super::upload::{break_off, in_time, wait_for_turn};
use super::uploads::Serving;
use crate::storage::folder_shares::{self, FolderRoot, SharedFolder};
use crate::storage::shares::{ShareError, SharedFile};
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::chunk::{self, BATCH_BYTES};
use crate::wire::refusal::Refusal;

/// Files that are read from the database at a time.
const PAGE_FILES: usize = 1_024;

/// Sends the small files among a run of the manifest's entries, up to the first that cannot be served.
pub(super) async fn send_files(
    context: &Context,
    asker: &Link,
    serving: &Serving,
    share: &SharedFile,
    folder: &SharedFolder,
    mut entries: Range<u64>,
    stream: &mut Stream,
) -> Result<(), TransportError> {
    let root = match FolderRoot::open(&folder.root) {
        Ok(root) => root,
        Err(error) => return cannot_serve(context, asker, &error, Vec::new(), stream).await,
    };
    let (name, size) = (share.name.as_str(), folder.bytes.bytes());
    let mut progress = Progress::new(Activity::Sending, name, Some(&asker.name), size, |event| context.tell(event));
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    // Of the files in the batch.
    let mut payload = 0;
    loop {
        let page = folder_shares::small_files(context.database(), folder, entries.clone(), PAGE_FILES).await;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "the profile cannot be read");
                return break_off(stream, batch, Refusal::Storage).await;
            }
        };
        for (_, member) in &page {
            // Blocking: this runs on the transfer thread, where it costs less than a hand-over to another one.
            if let Err(error) = root.read(member, &mut bytes) {
                return cannot_serve(context, asker, &error, batch, stream).await;
            }
            chunk::encode(&bytes, &mut batch);
            payload += member.size();
            if batch.len() >= BATCH_BYTES {
                let Some(sent) = serving.sent(std::mem::take(&mut payload), &asker.path_info()) else {
                    return break_off(stream, batch, Refusal::Withdrawn).await;
                };
                wait_for_turn(context, asker, batch.len()).await;
                in_time(stream.write(std::mem::take(&mut batch).into())).await?;
                progress.reach(sent, || Some(asker.path_info()));
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE_FILES => entries.start = last + 1,
            Some(_) | None => break,
        }
    }
    batch.push(chunk::END);
    wait_for_turn(context, asker, batch.len()).await;
    in_time(stream.write(batch.into())).await
}

/// Says that a file is not what was shared, on both sides. What was read before it goes first.
async fn cannot_serve(
    context: &Context,
    asker: &Link,
    error: &ShareError,
    batch: Vec<u8>,
    stream: &mut Stream,
) -> Result<(), TransportError> {
    context.tell(Event::Note { text: format!("* {} takes a folder, but {error}: share it again", asker.name) });
    break_off(stream, batch, Refusal::FileChanged).await
}
