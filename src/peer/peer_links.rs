//! Connections to other peers: found or made, accepted when announced, and then served the same way until they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::candidates::own_candidates;
use super::context::{Context, PathChoice};
use super::failure::{Failure, FailureKind};
use super::links::{InUse, Link, Work};
use super::{consent, contacts, direct, exclusive, friends, profiles, rendezvous, upload};
use crate::protocol::rendezvous::{Path, Side};
use crate::storage::shares;
use crate::transport::connection::TransportError;
use crate::transport::endpoint::Incoming;
use crate::transport::stream::Stream;
use crate::wire::account::LoginKind;
use crate::wire::directory::{PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{DIAL_LIFETIME, REQUEST_DEADLINE};
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{DialAnnounced, Direct, Purpose, WhyRelayed};
use crate::wire::transfer::{PeerRequest, ReceivedAnswer};

/// How long a link that was not asked for waits for the one that was.
const MADE_BY_ANOTHER: Duration = Duration::from_millis(250);

/// Finds the best open link to a person's peer, or has one made, which then lives on. Says whether it is a new one.
///
/// Not for the transfer thread: QUIC's work on a connection is done where it was dialled.
pub(super) async fn open(
    context: &Context,
    to: &PeerName,
    key: PeerKey,
    purpose: Purpose,
) -> Result<(InUse, bool), Failure> {
    if let Some(link) = context.links.find(key) {
        // Whoever wants to talk directly looks for that path itself.
        if purpose != Purpose::Talk {
            context.links.seek_direct(&link, purpose);
        }
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
    tokio::select! {
        biased;
        link = rendezvous::ask(context, to, key, purpose) => {
            link.map(|link| (link, true)).inspect_err(|failure| *failed = Some(failure.clone()))
        }
        link = made_by_another(context, key) => Ok((link, false)),
    }
}

/// Waits for a link to a key that the other side has dialled, or somebody else here.
async fn made_by_another(context: &Context, key: PeerKey) -> InUse {
    let mut added = context.links.additions();
    loop {
        if context.links.find(key).is_some() {
            // It may be the one that is being asked for: whoever asked hears of it in a moment.
            tokio::time::sleep(MADE_BY_ANOTHER).await;
            if let Some(link) = context.links.find(key) {
                return link;
            }
        }
        if added.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Finds or makes a direct link to a person's peer; a relayed one, when there is no direct path.
pub(super) async fn open_direct(context: &Context, to: &PeerName, key: PeerKey) -> Result<InUse, Failure> {
    let (link, is_new) = open(context, to, key, Purpose::Talk).await?;
    if link.path == Path::Relayed && !is_new {
        match rendezvous::ask_direct(context, to, key, Purpose::Talk).await {
            Ok(direct) => return Ok(direct),
            Err(failure) if failure.kind == FailureKind::NoPath => {}
            Err(failure) => return Err(failure),
        }
    }
    link.settled().await;
    Ok(context.links.find(key).unwrap_or(link))
}

/// Expects a dial that the directory announces, when there is anything for the dialler to fetch, or it may connect or talk.
pub(super) async fn expect(context: &Context, mut announced: DialAnnounced) -> PushAnswer {
    let unreadable = |failure: &Failure| {
        tracing::error!(%failure, "the profile cannot be read");
        Refusal::Storage
    };
    let is_impostor = contacts::is_impostor(context, &announced.from, announced.key).await;
    if is_impostor.map_err(|failure| unreadable(&failure))? {
        return Err(Refusal::NotAccepted);
    }
    let may_be_direct = consent::allows(context, &announced.from, announced.key, announced.purpose).await;
    let mut may_be_direct = may_be_direct.map_err(|failure| unreadable(&failure))?;
    let serves = shares::serves(context.database(), announced.key).await.map_err(|error| unreadable(&error.into()))?;
    if !serves && !may_be_direct {
        match (announced.purpose, context.account.kind) {
            // Whoever may talk to us may ask who we are, through the relay at least.
            (Purpose::Talk, LoginKind::Resident) => {}
            // A one-shot verb is gone in a moment.
            (Purpose::Talk, LoginKind::Errand { .. }) => return Err(Refusal::Offline),
            (Purpose::Fetch { .. }, _) => return Err(Refusal::NotAccepted),
        }
    }
    let hides = context.account.paths == PathChoice::RelayOnly;
    if may_be_direct && !hides && matches!(announced.direct, Direct::Candidates(_)) {
        let used = consent::used(context, &announced.from, announced.purpose).await;
        may_be_direct = used.map_err(|failure| unreadable(&failure))?;
    }
    if let Direct::Candidates(_) = announced.direct
        && (hides || !may_be_direct)
    {
        announced.direct = Direct::Not(if hides { WhyRelayed::DialledHides } else { WhyRelayed::NoConsent });
    }
    let answer = matches!(announced.direct, Direct::Candidates(_)).then(|| own_candidates(context));
    if answer.is_none() && announced.relay.is_none() {
        return Err(Refusal::NoConsent);
    }
    if !context.dials.expect(announced.clone(), Instant::now() + DIAL_LIFETIME) {
        return Err(Refusal::Busy);
    }
    let meeting = rendezvous::begin(context, announced, Side::Asked, None)?;
    if !context.links.hand_over(Work::Meet(Box::new(meeting))) {
        return Err(Refusal::Busy);
    }
    Ok(PushReply::Candidates(answer))
}

/// Accepts announced peers, sees rendezvous through, and serves every link, whichever side dialled it, until the endpoint
/// is closed. A link that nobody uses for `idle` is closed.
pub(super) async fn run(context: Arc<Context>, mut work: mpsc::Receiver<Work>, idle: Duration) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            incoming = context.endpoint.accept() => match incoming {
                Some(incoming) => { running.spawn(accept(context.clone(), incoming)); }
                None => return,
            },
            Some(work) = work.recv() => {
                match work {
                    Work::Serve(link) => running.spawn(serve(context.clone(), link, idle)),
                    Work::Meet(meeting) => running.spawn(rendezvous::run(context.clone(), *meeting)),
                    Work::Restore(link, purpose) => running.spawn(restore(context.clone(), link, purpose)),
                    Work::Seek(link, purpose) => running.spawn(rendezvous::seek(context.clone(), link, purpose)),
                };
            }
            Some(_) = running.join_next() => {}
        }
    }
}

/// Makes another link beside one that is silent: whoever waits there goes on over it.
async fn restore(context: Arc<Context>, silent: Arc<Link>, purpose: Purpose) {
    match rendezvous::ask(&context, &silent.name, silent.key, purpose).await {
        Ok(link) => tracing::debug!(name = %link.name, path = ?link.path, "another link was made"),
        Err(failure) => tracing::debug!(name = %silent.name, %failure, "no other link was made"),
    }
}

/// Shakes hands with somebody who was announced, and hands the connection to the rendezvous that expects it.
async fn accept(context: Arc<Context>, incoming: Incoming) {
    match incoming.accept_peer().await {
        Ok((connection, announced)) => {
            if let Err(connection) = context.meetings.accepted(announced.dial, connection) {
                connection.close(CloseCode::Duplicate);
            }
        }
        Err(error) => tracing::debug!(%error, "a connection was turned away"),
    }
}

/// Answers what the other side asks over a link, until that ends or is not used any more.
async fn serve(context: Arc<Context>, link: Arc<Link>, idle: Duration) {
    let registered = Registered { context: &context, link: &link };
    // It was being made when they were blocked.
    if context.blocks.has(&link.name, link.key) {
        return context.links.close_person(&link.name, link.key);
    }
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

/// Answers one stream.
async fn answer(context: Arc<Context>, link: InUse, mut stream: Stream) {
    let Ok(Ok(request)) = tokio::time::timeout(REQUEST_DEADLINE, read_request(&mut stream)).await else {
        return stream.abort(CloseCode::BadFrame);
    };
    if context.blocks.has(&link.name, link.key) {
        return context.links.close_person(&link.name, link.key);
    }
    let may_ask = match &request {
        PeerRequest::Message(_) | PeerRequest::Profile(_) | PeerRequest::Exclusive(_) => {
            friends::admits(&context, &link.name, link.key).await
        }
        PeerRequest::Nominate | PeerRequest::Fetch(_) | PeerRequest::Received { .. } | PeerRequest::Receipts(_) => {
            Ok(true)
        }
    };
    if !may_ask.is_ok_and(|may_ask| may_ask) {
        // A profile that cannot be read admits nobody.
        return stream.abort(CloseCode::ShuttingDown);
    }
    match request {
        // Said twice: it is in use already.
        PeerRequest::Nominate => stream.answer(&ReceivedAnswer::Ok(())).await,
        PeerRequest::Fetch(fetch) => upload::answer_fetch(context, link, fetch, stream).await,
        PeerRequest::Received { digest, offer } => {
            upload::answer_received(&context, &link, (digest, offer), stream).await
        }
        PeerRequest::Message(signed) => direct::answer_message(&context, &link, *signed, stream).await,
        PeerRequest::Receipts(receipts) => direct::answer_receipts(&context, &link, receipts, stream).await,
        PeerRequest::Profile(request) => profiles::answer(&context, &link, &request, stream).await,
        PeerRequest::Exclusive(said) => exclusive::answer(&context, &link, said, stream).await,
    }
}

async fn read_request(stream: &mut Stream) -> Result<PeerRequest, TransportError> {
    let request = stream.read_frame().await?;
    match request {
        PeerRequest::Fetch(_) => {}
        PeerRequest::Nominate
        | PeerRequest::Received { .. }
        | PeerRequest::Message(_)
        | PeerRequest::Receipts(_)
        | PeerRequest::Profile(_)
        | PeerRequest::Exclusive(_) => {
            stream.expect_end().await?;
        }
    }
    Ok(request)
}
