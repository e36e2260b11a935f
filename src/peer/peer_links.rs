//! Connections straight to other peers: dialled through the directory's announcement, accepted when announced.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::candidates::{own_candidates, usable_candidates};
use super::contacts;
use super::context::{Context, unexpected};
use super::failure::{Failure, FailureKind};
use super::upload;
use crate::storage::shares;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Incoming;
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::DIAL_LIFETIME;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{DialAnnounced, DialRequest};

/// Connects to a person's peer: to all of its addresses at once, the first that proves the key wins.
pub(super) async fn dial(context: &Context, to: &PeerName, key: PeerKey) -> Result<Connection, Failure> {
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

/// Accepts announced peers until the endpoint is closed.
pub(super) async fn accept_all(context: Arc<Context>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            incoming = context.endpoint.accept() => match incoming {
                Some(incoming) => { links.spawn(serve(context.clone(), incoming)); }
                None => return,
            },
            Some(_) = links.join_next() => {}
        }
    }
}

async fn serve(context: Arc<Context>, incoming: Incoming) {
    let (connection, announced) = match incoming.accept_peer().await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(%error, "a connection was turned away");
            return;
        }
    };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_stream() => match stream {
                Ok(stream) => {
                    let upload = upload::answer(context.clone(), announced.clone(), stream);
                    streams.spawn_on(upload, &context.transfers);
                }
                Err(TransportError::Closed(CloseCode::Done)) => break,
                Err(error) => {
                    tracing::debug!(from = %announced.from, %error, "a peer link ended");
                    break;
                }
            },
            Some(_) = streams.join_next() => {}
        }
    }
}
