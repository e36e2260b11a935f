//! Serves files to other peers: what they may have, in 200-byte chunks, many to a write. Hashes nothing: the tree is
//! kept from sharing.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use super::context::Context;
use super::event::Event;
use super::links::{InUse, Link};
use super::progress::Progress;
use super::rows::Activity;
use super::uploads::Serving;
use super::{folder_upload, folders};
use crate::database::DatabaseError;
use crate::storage::folder_shares;
use crate::storage::shares::{self, Audience, ServedFile, ShareError, SharedFile};
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::chunk::{self, BATCH_BYTES};
use crate::wire::codec;
use crate::wire::ids::{FileDigest, MessageId};
use crate::wire::limits::{READER_DEADLINE, UPLOADS_MAX};
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
pub(super) async fn answer_received(
    context: &Context,
    link: &Link,
    what: (FileDigest, Option<MessageId>),
    stream: Stream,
) {
    let answer: ReceivedAnswer = fulfil(context, link, what).await;
    stream.answer(&answer).await;
}

async fn serve(context: &Context, asker: &Link, fetch: Fetch, stream: &mut Stream) -> Result<(), TransportError> {
    let Ok(_permit) = context.uploads.try_acquire() else {
        return refuse(stream, Refusal::TooManyTransfers).await;
    };
    let (share, file) = match find(context, asker, fetch).await {
        Ok(found) => found,
        Err(Refusal::UnknownFile) if context.traffic.uploads.was_taken_back(fetch.digest, asker.key) => {
            return refuse(stream, Refusal::Withdrawn).await;
        }
        Err(refusal) => return refuse(stream, refusal).await,
    };
    let Some(serving) = context.traffic.uploads.begin(asker, &share) else {
        return refuse(stream, Refusal::Withdrawn).await;
    };
    let answer: FetchAnswer = Ok(FetchReply { size: share.file.size });
    stream.write_frame(&answer).await?;
    stream.yield_to_control();
    match fetch.part {
        FetchPart::Tree => send_bytes(stream, &share.file.tree).await?,
        FetchPart::Files { first, count } => {
            let Some(folder) = &share.folder else { return refuse(stream, Refusal::BadRange).await };
            folder_upload::send_files(context, asker, &serving, &share, folder, first..first + count, stream).await?;
        }
        FetchPart::Groups { first, count } => {
            let groups = first..first.saturating_add(count);
            send_groups(context, asker, &serving, &share, &file, groups, stream).await?;
        }
    }
    serving.finish();
    stream.finish();
    Ok(())
}

/// The file that a fetch may have, open and unchanged.
async fn find(context: &Context, asker: &Link, fetch: Fetch) -> Result<(SharedFile, ServedFile), Refusal> {
    let unreadable = |error: DatabaseError| {
        tracing::error!(%error, "the profile cannot be read");
        Refusal::Storage
    };
    let mut shares = shares::fetchable(context.database(), fetch.digest, asker.key).await.map_err(unreadable)?;
    if shares.is_empty() {
        let members = folder_shares::members(context.database(), fetch.digest, asker.key);
        shares = members.await.map_err(unreadable)?;
    }
    let mut refusal = Refusal::UnknownFile;
    for share in shares {
        let in_file = match fetch.part {
            FetchPart::Tree => true,
            FetchPart::Files { first, count } => {
                let entries = share.folder.as_ref().map_or(0, |folder| folder.entries);
                count > 0 && first.checked_add(count).is_some_and(|end| end <= entries)
            }
            FetchPart::Groups { first, count } => {
                count > 0 && first.checked_add(count).is_some_and(|end| end <= group_count(share.file.size.bytes()))
            }
        };
        match share.file.open() {
            Ok(file) if in_file => return Ok((share, file)),
            Ok(_) => refusal = Refusal::BadRange,
            Err(error) => {
                tell_of(context, asker, &share, &error);
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

/// Tells our own person why somebody does not get what they share.
fn tell_of(context: &Context, asker: &Link, share: &SharedFile, error: &ShareError) {
    let text = format!("* {} asked for {}, but {error}: share it again, or take it back", asker.name, share.name);
    context.tell(Event::Note { text });
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
    serving: &Serving,
    share: &SharedFile,
    file: &ServedFile,
    groups: Range<u64>,
    stream: &mut Stream,
) -> Result<(), TransportError> {
    let size = share.file.size.bytes();
    let name = share.name.as_str();
    let mut progress = Progress::new(Activity::Sending, name, Some(&asker.name), size, |event| context.tell(event));
    let mut piece = vec![0; BATCH_BYTES];
    for group in groups {
        match send_group(context, asker, file, group * GROUP_BYTES, group_bytes(size, group), &mut piece, stream).await
        {
            Ok(()) => {}
            Err(Interrupted::Stream(error)) => return Err(error),
            Err(Interrupted::File(error)) => {
                tell_of(context, asker, share, &error);
                let refusal = match error {
                    ShareError::Changed(_) => Refusal::FileChanged,
                    ShareError::Read { .. } | ShareError::NotAFile(_) | ShareError::TooLarge(..) => Refusal::Storage,
                };
                return break_off(stream, Vec::new(), refusal).await;
            }
        }
        let Some(sent) = serving.sent(group_bytes(size, group), &asker.path_info()) else {
            return break_off(stream, Vec::new(), Refusal::Withdrawn).await;
        };
        progress.reach(sent, || Some(asker.path_info()));
    }
    in_time(stream.write(vec![chunk::END].into())).await
}

enum Interrupted {
    Stream(TransportError),
    File(ShareError),
}

async fn send_group(
    context: &Context,
    asker: &Link,
    file: &ServedFile,
    offset: u64,
    bytes: u64,
    piece: &mut [u8],
    stream: &mut Stream,
) -> Result<(), Interrupted> {
    let mut done = 0;
    while done < bytes {
        let running = UPLOADS_MAX - context.uploads.available_permits();
        let at_most = context.limits.upload.piece(running, piece.len());
        let length = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(at_most);
        wait_for_turn(context, asker, length).await;
        let piece = &mut piece[..length];
        // Blocking: this runs on the transfer thread, where it costs less than a hand-over to another one.
        file.read_at(piece, offset + done).map_err(Interrupted::File)?;
        if done + length as u64 == bytes {
            // Before the group is whole over there: what was read of another file is never served as this one.
            file.check_unchanged().map_err(Interrupted::File)?;
        }
        let mut batch = Vec::with_capacity(chunk::encoded_bytes(length));
        chunk::encode(piece, &mut batch);
        in_time(stream.write(batch.into())).await.map_err(Interrupted::Stream)?;
        done += length as u64;
    }
    Ok(())
}

/// Waits until so many bytes may go to somebody, if there is a limit. Of several streams to them one waits at a time.
pub(super) async fn wait_for_turn(context: &Context, asker: &Link, bytes: usize) {
    let _turn = asker.turn.lock().await;
    context.limits.upload.take(bytes as u64).await;
}

/// Ends a range early with the reason, after the batch that is ready: it ends with a chunk, so a length byte is due.
pub(super) async fn break_off(stream: &mut Stream, mut batch: Vec<u8>, refusal: Refusal) -> Result<(), TransportError> {
    batch.push(chunk::REFUSAL);
    batch.extend(codec::encode_frame(&refusal)?);
    in_time(stream.write(batch.into())).await?;
    stream.finish();
    Ok(())
}

pub(super) async fn in_time<T>(write: impl Future<Output = Result<T, TransportError>>) -> Result<T, TransportError> {
    tokio::time::timeout(READER_DEADLINE, write).await.unwrap_or(Err(TransportError::NoAnswer(READER_DEADLINE)))
}

async fn fulfil(context: &Context, asker: &Link, (digest, of): (FileDigest, Option<MessageId>)) -> Result<(), Refusal> {
    let storage = |error: DatabaseError| {
        tracing::error!(%error, "the profile cannot be used");
        Refusal::Storage
    };
    let shares = shares::fetchable(context.database(), digest, asker.key).await.map_err(storage)?;
    let is_it = |share: &SharedFile| match (share.audience, of) {
        (Audience::One { offer, .. }, Some(of)) => offer == of,
        (Audience::Everyone { .. }, Some(_)) => false,
        (_, None) => true,
    };
    let share = shares.into_iter().find(is_it).ok_or(Refusal::UnknownFile)?;
    let offer = match share.audience {
        Audience::Everyone { .. } => None,
        Audience::One { recipient, offer } => {
            shares::remove_offered(context.database(), offer, recipient).await.map_err(storage)?;
            folders::tidy(context).await;
            Some(offer)
        }
    };
    let (to, size, files) = (asker.name.clone(), share.place().1.bytes(), share.kind().files());
    context.tell(Event::Sent { to, name: share.name, size, digest, files, offer });
    Ok(())
}
