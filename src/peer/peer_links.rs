//! Connections straight to other peers: dialled through the directory's announcement, accepted when announced, and then
//! served the same way until they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::candidates::{own_candidates, usable_candidates};
use super::context::{Context, unexpected};
use super::failure::{Failure, FailureKind};
use super::links::{InUse, Link};
use super::{contacts, direct, upload};
use crate::storage::shares;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Incoming;
use crate::transport::stream::Stream;
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{DIAL_LIFETIME, REQUEST_DEADLINE};
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{DialAnnounced, DialRequest};
use crate::wire::transfer::PeerRequest;

/// Finds the open link to a person's peer, or dials one, which then lives on. Says whether it is a new one.
///
/// Not for the transfer thread: QUIC's work on a connection is done where it was dialled.
pub(super) async fn open(context: &Context, to: &PeerName, key: PeerKey) -> Result<(InUse, bool), Failure> {
    if let Some(link) = context.links.find(key) {
        return Ok((link, false));
    }
    // Of several who want the same link, one dials, and what comes of it is the others' answer too.
    let dialling = context.links.dialling(key);
    let mut failed = dialling.lock().await;
    if let Some(link) = context.links.find(key) {
        return Ok((link, false));
    }
    if let Some(failure) = &*failed {
        return Err(failure.clone());
    }
    let connection = dial(context, to, key).await.inspect_err(|failure| *failed = Some(failure.clone()))?;
    let Some(link) = context.links.add(to.clone(), key, connection.clone()) else {
        connection.close(CloseCode::Done);
        return Err(Failure::new(FailureKind::Other, "too many people are connected to this peer")
            .hint("try again when a transfer has ended"));
    };
    let in_use = link.in_use();
    if !context.links.hand_over(link) {
        connection.close(CloseCode::ShuttingDown);
        return Err(Failure::new(FailureKind::Other, "the peer has stopped"));
    }
    Ok((in_use, true))
}

/// Connects to a person's peer: to all of its addresses at once, the first that proves the key wins.
async fn dial(context: &Context, to: &PeerName, key: PeerKey) -> Result<Connection, Failure> {
    let request = DialRequest { to: to.clone(), key, candidates: own_candidates(context) };
    let granted = match context.ask_directory(&DirectoryRequest::Dial(request)).await {
        Ok(DirectoryReply::DialGranted(granted)) => granted,
        Ok(other) => return Err(unexpected(&other)),
        Err(failure) => return Err(failure.about(to)),
    };
    let mut attempts = JoinSet::new();
    for address in usable_candidates(context, granted.candidates) {
        let endpoint = context.endpoint.clone();
        attempts.spawn(async move { endpoint.dial(address, granted.dial, key).await });
    }
    let mut last = "it gave no address that this machine can reach".to_owned();
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = error.to_string(),
            Err(error) => last = error.to_string(),
        }
    }
    Err(Failure::new(FailureKind::NoPath, format!("no direct way to {to}: {last}"))
        .hint("both machines must reach each other over UDP"))
}

/// Expects a dial that the directory announces, when there is anything for the dialler to fetch.
pub(super) async fn expect(context: &Context, announced: DialAnnounced) -> PushAnswer {
    match contacts::is_impostor(context, &announced.from, announced.key).await {
        Ok(false) => {}
        Ok(true) => return Err(Refusal::NotAccepted),
        Err(failure) => {
            tracing::error!(%failure, "the profile cannot be read");
            return Err(Refusal::Storage);
        }
    }
    match shares::serves(context.database(), announced.key).await {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::NotAccepted),
        Err(error) => {
            tracing::error!(%error, "the profile cannot be read");
            return Err(Refusal::Storage);
        }
    }
    if context.dials.expect(announced, Instant::now() + DIAL_LIFETIME) {
        Ok(PushReply::Candidates(own_candidates(context)))
    } else {
        Err(Refusal::Busy)
    }
}

/// Accepts announced peers, and serves every link, whichever side dialled it, until the endpoint is closed. A link that
/// nobody uses for `idle` is closed.
pub(super) async fn run(context: Arc<Context>, mut dialled: mpsc::Receiver<Arc<Link>>, idle: Duration) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            incoming = context.endpoint.accept() => match incoming {
                Some(incoming) => { links.spawn(accept(context.clone(), incoming, idle)); }
                None => return,
            },
            Some(link) = dialled.recv() => { links.spawn(serve(context.clone(), link, idle)); }
            Some(_) = links.join_next() => {}
        }
    }
}

async fn accept(context: Arc<Context>, incoming: Incoming, idle: Duration) {
    let (connection, DialAnnounced { from, key, .. }) = match incoming.accept_peer().await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(%error, "a connection was turned away");
            return;
        }
    };
    match context.links.add(from, key, connection.clone()) {
        Some(link) => serve(context, link, idle).await,
        None => connection.close(CloseCode::TooManyConnections),
    }
}

/// Answers what the other side asks over a link, until that ends or is not used any more.
async fn serve(context: Arc<Context>, link: Arc<Link>, idle: Duration) {
    let registered = Registered { context: &context, link: &link };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = link.connection.accept_stream() => match stream {
                // QUIC's stream limit bounds how many run at a time.
                Ok(stream) => { streams.spawn(answer(context.clone(), link.in_use(), stream)); }
                Err(error) => {
                    tracing::debug!(name = %link.name, %error, "a peer link ended");
                    break;
                }
            },
            Some(_) = streams.join_next() => {}
            () = link.unused_for(idle) => if context.links.close_if_unused(&link) { break },
        }
    }
    drop(registered);
    // What is being taken is taken to its end: a message that is on disk must come to the screen. Nobody waits long,
    // since the streams of a connection that has ended fail at once.
    while streams.join_next().await.is_some() {}
}

/// Takes a link out of the registry when it ends, also when the task that serves it is stopped.
struct Registered<'a> {
    context: &'a Context,
    link: &'a Arc<Link>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.context.links.remove(self.link);
        // Closing again would hide why it ended from whoever asks later.
        if self.link.connection.is_open() {
            self.link.connection.close(CloseCode::Done);
        }
    }
}

/// Answers one stream. File bytes move on the transfer thread, and everything else goes past them.
async fn answer(context: Arc<Context>, link: InUse, mut stream: Stream) {
    let Ok(Ok(request)) = tokio::time::timeout(REQUEST_DEADLINE, read_request(&mut stream)).await else {
        return stream.abort(CloseCode::BadFrame);
    };
    match request {
        PeerRequest::Fetch(fetch) => {
            let work = upload::answer_fetch(context.clone(), link, fetch, stream);
            if let Err(failure) = context.on_transfer_thread(work).await {
                tracing::debug!(%failure, "a file stream was left");
            }
        }
        PeerRequest::Received { digest } => upload::answer_received(&context, &link, digest, stream).await,
        PeerRequest::Message(signed) => direct::answer_message(&context, &link, *signed, stream).await,
        PeerRequest::Receipts(receipts) => direct::answer_receipts(&context, &link, receipts, stream).await,
    }
}

async fn read_request(stream: &mut Stream) -> Result<PeerRequest, TransportError> {
    let request = stream.read_frame().await?;
    match request {
        PeerRequest::Fetch(_) => {}
        PeerRequest::Received { .. } | PeerRequest::Message(_) | PeerRequest::Receipts(_) => {
            stream.expect_end().await?;
        }
    }
    Ok(request)
}
