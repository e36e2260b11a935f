//! Something small whose size only its owner knows, such as a manifest: fetched into memory.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Provider;
use super::failures::{failure_of, is_gone};
use super::lane::{receive_group, receive_tree};
use crate::peer::context::Context;
use crate::peer::failure::Failure;
use crate::peer::file_stream::{ChunkSource, Source, Stopped};
use crate::peer::peer_links;
use crate::wire::ids::FileDigest;
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{FetchPart, group_count};

/// Fetches something small whose size is not known before, verified by its root: never more than `bytes_max`.
pub(in crate::peer) async fn fetch_blob(
    context: &Arc<Context>,
    from: &Provider,
    digest: FileDigest,
    bytes_max: u64,
) -> Result<Vec<u8>, Failure> {
    let mut may_dial_again = true;
    loop {
        let (link, is_new) = peer_links::open(context, &from.name, from.key, Purpose::Fetch { digest }).await?;
        let shared = context.clone();
        let work = async move {
            let is_cancelled = AtomicBool::new(true);
            let source = Source { context: &shared, link: &link, digest, is_cancelled: &is_cancelled };
            let received = receive_blob(&source, bytes_max).await;
            (link, received)
        };
        let (link, received) = context.on_transfer_thread(work).await?;
        match received {
            Ok(blob) => return Ok(blob),
            Err(Stopped::Moves) => {}
            Err(Stopped::Network(_)) if context.links.has_other(&link) => link.replace(),
            Err(Stopped::Network(error)) if may_dial_again && is_gone(&error, is_new) => {
                may_dial_again = false;
                link.replace();
            }
            Err(stopped) => return Err(failure_of(stopped, &from.name, &format!("{digest}"))),
        }
    }
}

async fn receive_blob(source: &Source<'_>, bytes_max: u64) -> Result<Vec<u8>, Stopped> {
    let _turn = source.link.fetches.acquire().await;
    let (mut stream, size) = ChunkSource::open(*source, FetchPart::Tree).await?;
    if size > bytes_max {
        return Err(Stopped::TooLarge { size, bytes_max });
    }
    let tree = receive_tree(&mut stream, size, &source.digest).await?;
    let mut blob = Vec::new();
    if size > 0 {
        let part = FetchPart::Groups { first: 0, count: group_count(size) };
        let (mut stream, _) = ChunkSource::open(*source, part).await?;
        let mut buffer = Vec::new();
        for group in 0..group_count(size) {
            receive_group(&mut stream, &tree, group, &mut buffer).await?;
            blob.extend_from_slice(&buffer);
        }
        stream.end().await?;
    }
    Ok(blob)
}
