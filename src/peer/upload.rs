//! Serves files to other peers: what they may have, in 200-byte chunks, many to a write. Hashes nothing: the tree is
//! kept from sharing.

use std::future::Future;
use std::sync::Arc;

use super::context::Context;
use super::event::{Activity, Event};
use super::links::{InUse, Link};
use super::progress::Progress;
use crate::storage::shares::{self, Audience, ServedFile, ShareError, SharedFile};
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::chunk::{self, BATCH_BYTES};
use crate::wire::codec;
use crate::wire::ids::FileDigest;
use crate::wire::limits::PROGRESS_DEADLINE;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::transfer::{
    Fetch, FetchAnswer, FetchPart, FetchReply, GROUP_BYTES, ReceivedAnswer, group_bytes, group_count,
};

/// Answers a fetch: on the transfer thread.
pub(super) async fn answer_fetch(context: Arc<Context>, link: InUse, fetch: Fetch, mut stream: Stream) {
    match serve(&context, &link, fetch, &mut stream).await {
        Ok(()) => stream.wait_sent().await,
        Err(TransportError::Reset(CloseCode::Duplicate)) => {
            tracing::debug!(name = %link.name, "the rest of a file goes over another link");
        }
        Err(error) => {
            context.tell(Event::Note { text: format!("* {} has stopped taking a file: {error}", link.name) });
            stream.abort(CloseCode::NoProgress);
        }
    }
}

/// Answers somebody who has the whole file on disk: an offer to them is fulfilled.
pub(super) async fn answer_received(context: &Context, link: &Link, digest: FileDigest, stream: Stream) {
    let answer: ReceivedAnswer = fulfil(context, link, digest).await;
    stream.answer(&answer).await;
}

async fn serve(context: &Context, asker: &Link, fetch: Fetch, stream: &mut Stream) -> Result<(), TransportError> {
    let Ok(_permit) = context.uploads.try_acquire() else {
        return refuse(stream, Refusal::TooManyTransfers).await;
    };
    let (share, file) = match find(context, asker, fetch).await {
        Ok(found) => found,
        Err(refusal) => return refuse(stream, refusal).await,
    };
    let answer: FetchAnswer = Ok(FetchReply { size: share.file.size });
    stream.write_frame(&answer).await?;
    stream.yield_to_control();
    match fetch.part {
        FetchPart::Tree => send_bytes(stream, &share.file.tree).await?,
        FetchPart::Groups { first, count } => send_groups(context, asker, &share, &file, first, count, stream).await?,
    }
    stream.finish();
    Ok(())
}

/// The file that a fetch may have, open and unchanged.
async fn find(context: &Context, asker: &Link, fetch: Fetch) -> Result<(SharedFile, ServedFile), Refusal> {
    let shares = shares::fetchable(context.database(), fetch.digest, asker.key).await.map_err(|error| {
        tracing::error!(%error, "the profile cannot be read");
        Refusal::Storage
    })?;
    let mut refusal = Refusal::UnknownFile;
    for share in shares {
        let in_file = match fetch.part {
            FetchPart::Tree => true,
            FetchPart::Groups { first, count } => {
                count > 0 && first.checked_add(count).is_some_and(|end| end <= group_count(share.file.size.bytes()))
            }
        };
        match share.file.open() {
            Ok(file) if in_file => return Ok((share, file)),
            Ok(_) => refusal = Refusal::BadRange,
            Err(error) => {
                context.tell(Event::Note {
                    text: format!(
                        "* {} asked for {}, but {error}: share it again, or take it back",
                        asker.name, share.name
                    ),
                });
                refusal = match error {
                    ShareError::Changed(_) => Refusal::FileChanged,
                    ShareError::Read { .. } | ShareError::NotAFile(_) | ShareError::TooLarge(..) => {
                        Refusal::UnknownFile
                    }
                };
            }
        }
    }
    Err(refusal)
}

async fn refuse(stream: &mut Stream, refusal: Refusal) -> Result<(), TransportError> {
    let answer: FetchAnswer = Err(refusal);
    stream.write_frame(&answer).await?;
    stream.finish();
    Ok(())
}

/// Sends the hash tree: chunks as if it were one group.
async fn send_bytes(stream: &mut Stream, bytes: &[u8]) -> Result<(), TransportError> {
    for piece in bytes.chunks(BATCH_BYTES) {
        let mut batch = Vec::with_capacity(chunk::encoded_bytes(piece.len()));
        chunk::encode(piece, &mut batch);
        in_time(stream.write(batch.into())).await?;
    }
    in_time(stream.write(vec![chunk::END].into())).await
}

async fn send_groups(
    context: &Context,
    asker: &Link,
    share: &SharedFile,
    file: &ServedFile,
    first: u64,
    count: u64,
    stream: &mut Stream,
) -> Result<(), TransportError> {
    let size = share.file.size.bytes();
    let name = share.name.as_str();
    let mut progress = Progress::new(Activity::Sending, name, Some(&asker.name), size, |event| context.tell(event));
    let mut piece = vec![0; BATCH_BYTES];
    for group in first..first + count {
        match send_group(file, group * GROUP_BYTES, group_bytes(size, group), &mut piece, stream).await {
            Ok(()) => progress.reach(group * GROUP_BYTES + group_bytes(size, group), || Some(asker.path_info())),
            Err(Interrupted::Stream(error)) => return Err(error),
            Err(Interrupted::File(error)) => {
                tracing::warn!(%error, "a shared file cannot be served");
                return break_off(stream, Refusal::FileChanged).await;
            }
        }
    }
    in_time(stream.write(vec![chunk::END].into())).await
}

enum Interrupted {
    Stream(TransportError),
    File(ShareError),
}

async fn send_group(
    file: &ServedFile,
    offset: u64,
    bytes: u64,
    piece: &mut [u8],
    stream: &mut Stream,
) -> Result<(), Interrupted> {
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(piece.len());
        let piece = &mut piece[..length];
        // Blocking: this runs on the transfer thread, where it costs less than a hand-over to another one.
        file.read_at(piece, offset + done).map_err(Interrupted::File)?;
        let mut batch = Vec::with_capacity(chunk::encoded_bytes(length));
        chunk::encode(piece, &mut batch);
        in_time(stream.write(batch.into())).await.map_err(Interrupted::Stream)?;
        done += length as u64;
    }
    Ok(())
}

/// Ends a range early with the reason: batches end with a chunk, so a length byte is due.
async fn break_off(stream: &mut Stream, refusal: Refusal) -> Result<(), TransportError> {
    let mut batch = vec![chunk::REFUSAL];
    batch.extend(codec::encode_frame(&refusal)?);
    in_time(stream.write(batch.into())).await?;
    stream.finish();
    Ok(())
}

async fn in_time<T>(write: impl Future<Output = Result<T, TransportError>>) -> Result<T, TransportError> {
    tokio::time::timeout(PROGRESS_DEADLINE, write).await.unwrap_or(Err(TransportError::NoAnswer(PROGRESS_DEADLINE)))
}

async fn fulfil(context: &Context, asker: &Link, digest: FileDigest) -> Result<(), Refusal> {
    let storage = |error: crate::database::DatabaseError| {
        tracing::error!(%error, "the profile cannot be used");
        Refusal::Storage
    };
    let shares = shares::fetchable(context.database(), digest, asker.key).await.map_err(storage)?;
    let share = shares.into_iter().next().ok_or(Refusal::UnknownFile)?;
    let offer = match share.audience {
        Audience::Everyone { .. } => None,
        Audience::One { recipient, offer } => {
            shares::remove_offered(context.database(), offer, recipient).await.map_err(storage)?;
            Some(offer)
        }
    };
    let (to, name, size) = (asker.name.clone(), share.name, share.file.size.bytes());
    context.tell(Event::Sent { to, name, size, digest, offer });
    Ok(())
}
