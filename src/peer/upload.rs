//! Serves files to other peers: what they may have, in 200-byte chunks, many to a write. Hashes nothing: the tree is
//! kept from sharing.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::context::Context;
use super::event::Event;
use super::folders;
use super::links::{InUse, Link};
use super::progress::Progress;
use super::read_ahead::{Batch, ReadAhead, Unreadable};
use super::rows::Activity;
use super::uploads::Serving;
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
use crate::wire::transfer::{Fetch, FetchAnswer, FetchPart, FetchReply, ReceivedAnswer, group_count};

/// Answers a fetch, where QUIC's work on the connection is done; the disk is read on the transfer thread.
pub(super) async fn answer_fetch(context: Arc<Context>, link: InUse, fetch: Fetch, mut stream: Stream) {
    match serve(&context, &link, fetch, &mut stream).await {
        Ok(()) => stream.wait_sent().await,
        Err(TransportError::Reset(CloseCode::Duplicate)) => {
            tracing::debug!(name = %link.name, "the rest of a file goes over another link");
        }
        Err(error) => {
            tracing::debug!(name = %link.name, %error, "a file is not taken any more");
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

async fn serve(context: &Arc<Context>, asker: &Link, fetch: Fetch, stream: &mut Stream) -> Result<(), TransportError> {
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
    let batches = match fetch.part {
        FetchPart::Tree => {
            send_bytes(stream, &share.file.tree).await?;
            None
        }
        FetchPart::Files { first, count } => {
            let Some(folder) = share.folder.clone() else { return refuse(stream, Refusal::BadRange).await };
            Some(ReadAhead::of_folder(context, folder, first..first + count))
        }
        FetchPart::Groups { first, count } => {
            Some(ReadAhead::of_file(context, file, share.file.size.bytes(), first..first.saturating_add(count)))
        }
    };
    if let Some(batches) = batches {
        let sent = send_batches(context, asker, &serving, &share, batches, stream).await;
        sent.inspect_err(|error| tell_of_end(context, asker, &serving, &share, error))?;
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
        let opening = async move { (share.file.open(), share) };
        let (opened, share) = context.on_transfer_thread(opening).await.map_err(|_| Refusal::Storage)?;
        match opened {
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

/// Tells our own person why the rest of something is not taken, unless it only comes over another link.
fn tell_of_end(context: &Context, asker: &Link, serving: &Serving, share: &SharedFile, error: &TransportError) {
    let why = match error {
        TransportError::Reset(CloseCode::Duplicate) => return,
        _ if !serving.break_off() => return,
        TransportError::Reset(CloseCode::Cancelled) => "it was paused or cancelled there".to_owned(),
        TransportError::Closed(CloseCode::Done) => "the program there has ended".to_owned(),
        error => error.to_string(),
    };
    context.tell(Event::Note { text: format!("* {} has stopped taking {}: {why}", asker.name, share.name) });
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

/// Sends what is read, as it is read. A file that is not any more what was shared ends it; both sides are told.
async fn send_batches(
    context: &Context,
    asker: &Link,
    serving: &Serving,
    share: &SharedFile,
    mut batches: ReadAhead,
    stream: &mut Stream,
) -> Result<(), TransportError> {
    let (name, size) = (share.name.as_str(), share.place().1.bytes());
    let mut progress = Progress::new(Activity::Sending, name, Some(&asker.name), size, |event| context.tell(event));
    while let Some(read) = batches.next().await {
        let Batch { encoded, payload } = match read {
            Ok(batch) => batch,
            Err(error) => return break_off(stream, cannot_serve(context, asker, share, &error)).await,
        };
        send_batch(context, asker, encoded, stream).await?;
        let Some(sent) = serving.sent(payload, &asker.path_info()) else {
            return break_off(stream, Refusal::Withdrawn).await;
        };
        progress.reach(sent, || Some(asker.path_info()));
    }
    in_time(stream.write(vec![chunk::END].into())).await
}

async fn send_batch(
    context: &Context,
    asker: &Link,
    mut rest: Bytes,
    stream: &mut Stream,
) -> Result<(), TransportError> {
    while !rest.is_empty() {
        let running = UPLOADS_MAX - context.uploads.available_permits();
        let length = context.limits.upload.piece(running, BATCH_BYTES).min(rest.len());
        wait_for_turn(context, asker, length).await;
        in_time(stream.write(rest.split_to(length))).await?;
    }
    Ok(())
}

/// Tells our own person why no more goes, and gives what is said to the other side.
fn cannot_serve(context: &Context, asker: &Link, share: &SharedFile, error: &Unreadable) -> Refusal {
    match error {
        Unreadable::File(error) => {
            tell_of(context, asker, share, error);
            match error {
                ShareError::Changed(_) => Refusal::FileChanged,
                ShareError::Read { .. } | ShareError::NotAFile(_) | ShareError::TooLarge(..) => Refusal::Storage,
            }
        }
        Unreadable::InFolder(error) => {
            context.tell(Event::Note { text: format!("* {} takes a folder, but {error}: share it again", asker.name) });
            Refusal::FileChanged
        }
        Unreadable::Profile(error) => {
            tracing::error!(%error, "the profile cannot be read");
            Refusal::Storage
        }
    }
}

/// Waits until so many bytes may go to somebody, if there is a limit. Of several streams to them one waits at a time.
async fn wait_for_turn(context: &Context, asker: &Link, bytes: usize) {
    let _turn = asker.turn.lock().await;
    context.limits.upload.take(bytes as u64).await;
}

/// Ends a range early with the reason: where a chunk would begin.
async fn break_off(stream: &mut Stream, refusal: Refusal) -> Result<(), TransportError> {
    let mut end = vec![chunk::REFUSAL];
    end.extend(codec::encode_frame(&refusal)?);
    in_time(stream.write(end.into())).await?;
    stream.finish();
    Ok(())
}

async fn in_time<T>(write: impl Future<Output = Result<T, TransportError>>) -> Result<T, TransportError> {
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
    context.traffic.uploads.arrived(&share, asker.key);
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
