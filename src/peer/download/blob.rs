//! Something small whose size only its owner knows, such as a manifest: fetched into memory.

use std::sync::Arc;

use super::Provider;
use super::failures::{failure_of, is_gone};
use super::lane::{length, prove, receive_tree};
use crate::peer::context::Context;
use crate::peer::failure::Failure;
use crate::peer::file_stream::{ChunkSource, Source, Stopped, cancelled_when_dropped};
use crate::peer::peer_links;
use crate::seal::digest::HashTree;
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
    let mut blob = Blob::default();
    loop {
        let (link, is_new) = peer_links::open(context, &from.name, from.key, Purpose::Fetch { digest }).await?;
        let shared = context.clone();
        let work = async move {
            let is_cancelled = Arc::default();
            let (context, from) = (&*shared, &link);
            let source = Source { context, link: from, digest, announced: digest, is_cancelled: &is_cancelled };
            let received = cancelled_when_dropped(&is_cancelled, blob.receive(&source, bytes_max)).await;
            (link, blob, received)
        };
        let (link, came, received) = context.on_transfer_thread(work).await?;
        blob = came;
        match received {
            Ok(()) => return Ok(blob.bytes),
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

/// What has come of it.
#[derive(Default)]
struct Blob {
    tree: Option<HashTree>,
    /// Whole groups, verified.
    bytes: Vec<u8>,
}

impl Blob {
    /// Receives what is missing, as long as there is no better link.
    async fn receive(&mut self, source: &Source<'_>, bytes_max: u64) -> Result<(), Stopped> {
        let _turn = source.link.fetches.acquire().await;
        let tree = match &mut self.tree {
            Some(tree) => &*tree,
            none => &*none.insert(receive_tree_of(source, bytes_max).await?),
        };
        let (here, all) = (group_count(self.bytes.len() as u64), group_count(tree.size()));
        if here == all {
            return Ok(());
        }
        let part = FetchPart::Groups { first: here, count: all - here };
        let (mut stream, _) = ChunkSource::open(*source, part).await?;
        let mut buffer = Vec::new();
        for group in here..all {
            buffer.clear();
            stream.next_group(length(tree.size(), group), &mut buffer).await?;
            prove(tree, group, &buffer)?;
            self.bytes.extend_from_slice(&buffer);
            if group + 1 < all {
                source.move_if_better()?;
            }
        }
        stream.end().await
    }
}

/// The hash tree, and with it the size.
async fn receive_tree_of(source: &Source<'_>, bytes_max: u64) -> Result<HashTree, Stopped> {
    let (mut stream, size) = ChunkSource::open(*source, FetchPart::Tree).await?;
    if size > bytes_max {
        return Err(Stopped::TooLarge { size, bytes_max });
    }
    receive_tree(&mut stream, size, &source.digest).await
}
