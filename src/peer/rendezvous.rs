//! Sees rendezvous through: what `protocol/rendezvous.rs` decides is done here, with sockets, connections and the clock.
//! Each connection that comes of it becomes a link. Whoever asked keeps trying for a direct path while a relayed link lives.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use super::blocks;
use super::candidates::{own_candidates, usable_candidates};
use super::context::{Context, PathChoice, unexpected};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::links::{InUse, Link, Work};
use super::path::WhyNotDirect;
use crate::protocol::rendezvous::{ConnectionNumber, NoDirectPath, Output, Path, Rendezvous, Side, Terms, retry_after};
use crate::transport::connection::{Connection, TransportError};
use crate::wire::datagram::Datagram;
use crate::wire::directory::{DirectoryReply, DirectoryRequest};
use crate::wire::ids::{DialId, PeerKey, PeerName, Ticket};
use crate::wire::limits::{ANNOUNCED_DIALS_MAX, DATAGRAM_QUEUE_MAX, DIAL_LIFETIME, REQUEST_DEADLINE};
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{DialAnnounced, DialGranted, DialRequest, Direct, PortTicket, Purpose, WhyRelayed};
use crate::wire::transfer::{PeerRequest, ReceivedAnswer};

/// How often a dial is asked for again that the directory finds to come too often, and how long it is waited for that.
const ASKED_AGAIN_MAX: usize = 3;
const ASKED_AGAIN_WITHIN: u32 = 10;

/// When a direct path is looked for again that was there and broke; later as for one that never was.
const AFTER_LOSS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(20)];

/// The rendezvous under way, by what their datagrams and connections name. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Meetings(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    by_dial: HashMap<DialId, mpsc::Sender<Input>>,
    by_ticket: HashMap<Ticket, DialId>,
    strays: u64,
}

/// What happens to a rendezvous from outside.
#[derive(Debug)]
enum Input {
    Datagram(SocketAddr, Datagram),
    Opened,
    Accepted(Connection),
}

/// The place of a rendezvous in the table: it leaves when this is dropped.
#[derive(Debug)]
struct Place {
    meetings: Meetings,
    dial: DialId,
    ticket: Option<Ticket>,
    inputs: mpsc::Receiver<Input>,
}

impl Meetings {
    fn enter(&self, dial: DialId, ticket: Option<Ticket>) -> Option<Place> {
        let (sender, inputs) = mpsc::channel(DATAGRAM_QUEUE_MAX);
        let mut table = self.lock();
        if table.by_dial.len() >= ANNOUNCED_DIALS_MAX || table.by_dial.contains_key(&dial) {
            return None;
        }
        table.by_dial.insert(dial, sender);
        if let Some(ticket) = ticket {
            table.by_ticket.insert(ticket, dial);
        }
        Some(Place { meetings: self.clone(), dial, ticket, inputs })
    }

    /// Hands over a connection that was accepted for a dial; gives it back when nobody waits for it any more.
    pub(super) fn accepted(&self, dial: DialId, connection: Connection) -> Result<(), Connection> {
        let Some(meeting) = self.lock().by_dial.get(&dial).cloned() else { return Err(connection) };
        match meeting.try_reserve() {
            Ok(place) => {
                place.send(Input::Accepted(connection));
                Ok(())
            }
            Err(_) => Err(connection),
        }
    }

    /// The other side of a dial has opened its NAT.
    pub(super) fn opened(&self, dial: DialId) {
        if !self.tell(dial, Input::Opened) {
            tracing::trace!(%dial, "opened too late");
        }
    }

    fn datagram(&self, from: SocketAddr, datagram: Datagram) {
        let dial = match datagram {
            Datagram::Punch { dial } => Some(dial),
            Datagram::Challenge { ticket, .. } | Datagram::Joined { ticket, .. } => {
                self.lock().by_ticket.get(&ticket).copied()
            }
            Datagram::Opener
            | Datagram::Join { .. }
            | Datagram::Echo { .. }
            | Datagram::Observe { .. }
            | Datagram::Observed { .. } => None,
        };
        let is_expected = dial.is_some_and(|dial| self.tell(dial, Input::Datagram(from, datagram)));
        if !is_expected && datagram != Datagram::Opener {
            self.lock().strays += 1;
            tracing::trace!(%from, "a datagram that nobody waits for");
        }
    }

    /// Punches and answers of a relay that belonged to no rendezvous: forged ones, and those that came late.
    pub(super) fn strays(&self) -> u64 {
        self.lock().strays
    }

    /// Says whether somebody waits for it; when there is too much it is lost, as it may be on the network.
    fn tell(&self, dial: DialId, input: Input) -> bool {
        let meeting = self.lock().by_dial.get(&dial).cloned();
        meeting.is_some_and(|meeting| meeting.try_send(input).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.meetings.lock();
        table.by_dial.remove(&self.dial);
        if let Some(ticket) = self.ticket {
            table.by_ticket.remove(&ticket);
        }
    }
}

/// Gives each datagram that comes beside QUIC to whom it is for, until the endpoint is closed.
pub(super) async fn route_datagrams(context: Arc<Context>) {
    while let Some((from, datagram)) = context.endpoint.receive_datagram().await {
        match context.observations.hear(from, datagram) {
            Some(answer) => context.endpoint.send_datagram(from, &answer, None),
            None => context.meetings.datagram(from, datagram),
        }
    }
}

/// A rendezvous that begins.
#[derive(Debug)]
pub(super) struct Meeting {
    name: PeerName,
    key: PeerKey,
    purpose: Purpose,
    terms: Terms,
    machine: Rendezvous,
    began: Instant,
    /// What it wants done at first, beside the datagrams that went out already.
    pending: Vec<Output>,
    place: Place,
    why_relayed: WhyNotDirect,
    /// Who waits for the first link.
    first: Option<oneshot::Sender<Result<InUse, Failure>>>,
}

/// Asks the directory for a dial and sees it through; comes back with the first link. The rest goes on by itself.
pub(super) async fn ask(context: &Context, to: &PeerName, key: PeerKey, purpose: Purpose) -> Result<InUse, Failure> {
    let relay = context.account.paths != PathChoice::DirectOnly;
    see_through(context, to, key, purpose, relay).await
}

/// The same for somebody to whom there is a relayed link already: comes back when there is a direct one, or will not be.
pub(super) async fn ask_direct(
    context: &Context,
    to: &PeerName,
    key: PeerKey,
    purpose: Purpose,
) -> Result<InUse, Failure> {
    see_through(context, to, key, purpose, false).await
}

async fn see_through(
    context: &Context,
    to: &PeerName,
    key: PeerKey,
    purpose: Purpose,
    relay: bool,
) -> Result<InUse, Failure> {
    let granted = request(context, to, key, purpose, relay).await?;
    let (first, found) = oneshot::channel();
    let meeting = meeting_of(context, (to, key, purpose), granted, Some(first))?;
    if !context.links.hand_over(Work::Meet(Box::new(meeting))) {
        return Err(Failure::new(FailureKind::Quota, "too many connections are being made"));
    }
    found.await.unwrap_or_else(|_| Err(Failure::new(FailureKind::Other, "the peer has stopped")))
}

/// Asks for a dial; waits for its turn when too many were asked for.
async fn request(
    context: &Context,
    to: &PeerName,
    key: PeerKey,
    purpose: Purpose,
    relay: bool,
) -> Result<DialGranted, Failure> {
    blocks::check(context, to, Some(key))?;
    let candidates = (context.account.paths != PathChoice::RelayOnly).then(|| own_candidates(context));
    let request = DirectoryRequest::Dial(DialRequest { to: to.clone(), key, purpose, candidates, relay });
    let mut asked_again = 0;
    loop {
        match context.exchange(&request).await? {
            Ok(DirectoryReply::DialGranted(granted)) => return Ok(granted),
            Ok(other) => return Err(unexpected(&other)),
            Err(Refusal::TooOften { seconds }) if asked_again < ASKED_AGAIN_MAX && seconds <= ASKED_AGAIN_WITHIN => {
                asked_again += 1;
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            }
            Err(refusal) => return Err(Failure::from(refusal).about(to)),
        }
    }
}

fn meeting_of(
    context: &Context,
    (to, key, purpose): (&PeerName, PeerKey, Purpose),
    granted: DialGranted,
    first: Option<oneshot::Sender<Result<InUse, Failure>>>,
) -> Result<Meeting, Failure> {
    let DialGranted { dial, direct, relay } = granted;
    let busy = || Failure::from(Refusal::Busy).about(to);
    // The other side dials too, and names the same dial.
    let theirs = DialAnnounced { dial, from: to.clone(), key, purpose, direct, relay };
    if !context.dials.expect(theirs.clone(), Instant::now() + DIAL_LIFETIME) {
        return Err(busy());
    }
    begin(context, theirs, Side::Asker, first).map_err(|refusal| Failure::from(refusal).about(to))
}

/// What follows from an announced dial on one side.
pub(super) fn begin(
    context: &Context,
    announced: DialAnnounced,
    side: Side,
    first: Option<oneshot::Sender<Result<InUse, Failure>>>,
) -> Result<Meeting, Refusal> {
    let DialAnnounced { dial, from, key, purpose, direct, relay } = announced;
    let session = context.session.borrow().clone();
    let directory = session.as_ref().map(Connection::remote_address);
    let relay_at = |leg: PortTicket| Some((SocketAddr::new(directory?.ip(), leg.port), leg.ticket));
    let place = context.meetings.enter(dial, relay.map(|leg| leg.ticket)).ok_or(Refusal::Busy)?;
    let (candidates, why_relayed) = match direct {
        Direct::Candidates(_) if context.account.paths == PathChoice::RelayOnly => (None, WhyNotDirect::HiddenHere),
        Direct::Candidates(candidates) => (Some(usable_candidates(context, candidates)), WhyNotDirect::Trying),
        Direct::Not(why) => (None, why_relayed(why, side)),
    };
    let terms = Terms {
        dial,
        side,
        is_controlling: context.key() < key,
        candidates,
        relay: relay.and_then(relay_at),
        round_trip: session.map_or(Duration::from_millis(100), |session| session.round_trip()),
    };
    let mut machine = Rendezvous::new(terms.clone(), Duration::ZERO);
    let mut pending = Vec::new();
    while let Some(output) = machine.poll_output() {
        match output {
            // At once: this side's NAT must be open before the other side is answered, and may punch.
            Output::Send { to, hops, datagram } => context.endpoint.send_datagram(to, &datagram, hops),
            output => pending.push(output),
        }
    }
    let began = Instant::now();
    Ok(Meeting { name: from, key, purpose, terms, machine, began, pending, place, why_relayed, first })
}

fn why_relayed(why: WhyRelayed, side: Side) -> WhyNotDirect {
    match (why, side) {
        (WhyRelayed::NoConsent, _) => WhyNotDirect::NoConsent,
        (WhyRelayed::DiallerHides, Side::Asker) | (WhyRelayed::DialledHides, Side::Asked) => WhyNotDirect::HiddenHere,
        (WhyRelayed::DiallerHides, Side::Asked) | (WhyRelayed::DialledHides, Side::Asker) => WhyNotDirect::HiddenThere,
    }
}

/// Sees a rendezvous through, and looks for a direct path again and again while there is none but a relayed link lives.
pub(super) async fn run(context: Arc<Context>, meeting: Meeting) {
    let Meeting { purpose, terms, .. } = &meeting;
    let purpose = *purpose;
    let tries_again = terms.side == Side::Asker && terms.candidates.is_some() && terms.relay.is_some();
    let relayed = Attempt::new(&context, meeting).run().await;
    let Some(relayed) = relayed.filter(|_| tries_again) else { return };
    tokio::select! {
        _ = relayed.connection.closed() => {}
        () = keep_direct(&context, purpose, &relayed) => {}
    }
}

/// Looks for a direct path beside a relayed link that was not allowed to be direct, and if that is allowed now, goes on.
pub(super) async fn seek(context: Arc<Context>, relayed: Arc<Link>, purpose: Purpose) {
    let seeking = async {
        if try_direct(&context, purpose, &relayed).await {
            keep_direct(&context, purpose, &relayed).await;
        }
    };
    tokio::select! {
        _ = relayed.connection.closed() => {}
        () = seeking => {}
    }
}

/// Looks for a direct path whenever there is none. Ends when there shall be none.
async fn keep_direct(context: &Arc<Context>, purpose: Purpose, relayed: &Arc<Link>) {
    let key = relayed.key;
    let mut delays = Delays::new(context.links.direct(key).is_some());
    loop {
        if let Some(direct) = context.links.direct(key) {
            let ended = direct.connection.closed().await;
            match ended {
                // Taken back here, where to ask again would tell our address after all, or unused.
                TransportError::ClosedHere => return,
                TransportError::Closed(CloseCode::Denied) => {
                    return relayed.note_why_relayed(WhyNotDirect::NoConsent);
                }
                _ => relayed.note_why_relayed(WhyNotDirect::Lost),
            }
            delays = Delays::new(true);
        }
        tokio::time::sleep(delays.next()).await;
        let has_direct = context.links.direct(key).is_some();
        if !has_direct && context.links.is_wanted(key) && !try_direct(context, purpose, relayed).await {
            return;
        }
    }
}

/// Looks for a direct path once. Says `false` when there shall be none.
async fn try_direct(context: &Arc<Context>, purpose: Purpose, relayed: &Arc<Link>) -> bool {
    let (name, key) = (&relayed.name, relayed.key);
    let granted = match request(context, name, key, purpose, false).await {
        Ok(granted) => granted,
        Err(failure) if failure.kind == FailureKind::NotAccepted => {
            relayed.note_why_relayed(WhyNotDirect::NoConsent);
            return false;
        }
        Err(failure) => {
            tracing::debug!(%name, %failure, "no direct path was looked for");
            return true;
        }
    };
    match meeting_of(context, (name, key, purpose), granted, None) {
        Ok(meeting) => {
            let mut attempt = Attempt::new(context, meeting);
            attempt.relayed = Some(relayed.clone());
            attempt.run().await;
        }
        Err(failure) => tracing::debug!(%name, %failure, "no direct path was looked for"),
    }
    true
}

/// How long to wait before each further attempt.
struct Delays {
    was_lost: bool,
    attempts: u32,
}

impl Delays {
    fn new(was_lost: bool) -> Self {
        Self { was_lost, attempts: 0 }
    }

    fn next(&mut self) -> Duration {
        let attempt = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        let soon = AFTER_LOSS.get(attempt as usize).filter(|_| self.was_lost);
        soon.copied().unwrap_or_else(|| retry_after(attempt))
    }
}

/// One run of the machine.
struct Attempt<'a> {
    context: &'a Arc<Context>,
    meeting: Meeting,
    connections: BTreeMap<ConnectionNumber, Connection>,
    dials: JoinSet<Dialled>,
    watched: JoinSet<(ConnectionNumber, Seen)>,
    /// What is told to the directory and to the other side.
    told: JoinSet<()>,
    relayed: Option<Arc<Link>>,
    failed: Vec<String>,
    has_ended: bool,
}

/// Where was dialled, and what came of it.
type Dialled = (SocketAddr, Result<Connection, TransportError>);

/// What one run of the machine waits for.
enum Happened {
    Input(Input),
    Dialled(Result<Dialled, JoinError>),
    Seen(Result<(ConnectionNumber, Seen), JoinError>),
    Timeout,
}

/// What is seen of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nominated,
    Lost,
}

impl<'a> Attempt<'a> {
    fn new(context: &'a Arc<Context>, meeting: Meeting) -> Self {
        Self {
            context,
            meeting,
            connections: BTreeMap::new(),
            dials: JoinSet::new(),
            watched: JoinSet::new(),
            told: JoinSet::new(),
            relayed: None,
            failed: Vec::new(),
            has_ended: false,
        }
    }

    fn now(&self) -> Duration {
        self.meeting.began.elapsed()
    }

    /// Runs the machine to its end; comes back with the relayed link, if there is one.
    async fn run(mut self) -> Option<Arc<Link>> {
        for output in std::mem::take(&mut self.meeting.pending) {
            self.perform(output).await;
        }
        loop {
            while let Some(output) = self.meeting.machine.poll_output() {
                self.perform(output).await;
            }
            if self.has_ended {
                break;
            }
            self.wait().await;
        }
        self.context.dials.forget(self.meeting.terms.dial);
        if let Some(first) = self.meeting.first.take() {
            let failure = no_path(&self.meeting.name, &self.failed, self.context.account.paths);
            drop(first.send(Err(failure))); // whoever asked may have given up
        }
        self.relayed
    }

    async fn wait(&mut self) {
        let deadline = self.meeting.machine.poll_timeout().map(|at| self.meeting.began + at);
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let happened = tokio::select! {
            Some(input) = self.meeting.place.inputs.recv() => Happened::Input(input),
            Some(dialled) = self.dials.join_next() => Happened::Dialled(dialled),
            Some(seen) = self.watched.join_next() => Happened::Seen(seen),
            Some(_) = self.told.join_next() => return,
            () = timeout => Happened::Timeout,
        };
        self.handle(happened);
    }

    fn handle(&mut self, happened: Happened) {
        let now = self.now();
        let machine = &mut self.meeting.machine;
        match happened {
            Happened::Input(Input::Datagram(from, datagram)) => machine.handle_datagram(from, &datagram, now),
            Happened::Input(Input::Opened) => machine.handle_opened(now),
            Happened::Input(Input::Accepted(connection)) => self.connected(connection),
            Happened::Dialled(Ok((_, Ok(connection)))) => self.connected(connection),
            Happened::Dialled(Ok((to, Err(error)))) => {
                tracing::debug!(name = %self.meeting.name, %error, "a dial came to nothing");
                machine.handle_dial_failed(to, now);
            }
            Happened::Seen(Ok((number, Seen::Nominated))) => machine.handle_nominated(number, now),
            Happened::Seen(Ok((number, Seen::Lost))) => machine.handle_lost(number, now),
            Happened::Timeout => machine.handle_timeout(now),
            Happened::Dialled(Err(error)) | Happened::Seen(Err(error)) => {
                tracing::error!(%error, "a task of a rendezvous ended");
            }
        }
    }

    /// Brings a connection that has shaken hands into the machine.
    fn connected(&mut self, connection: Connection) {
        let number = self.connections.last_key_value().map_or(0, |(number, _)| number.0 + 1);
        let number = ConnectionNumber(number);
        let from = connection.remote_address();
        self.connections.insert(number, connection.clone());
        let is_relayed = self.meeting.terms.relay.is_some_and(|(relay, _)| relay == from);
        if is_relayed || self.meeting.terms.is_controlling {
            self.watch(number, connection);
        } else {
            self.watched.spawn(async move {
                let seen = if nominated(&connection).await.is_ok() { Seen::Nominated } else { Seen::Lost };
                (number, seen)
            });
        }
        self.meeting.machine.handle_connected(number, from, self.now());
    }

    fn watch(&mut self, number: ConnectionNumber, connection: Connection) {
        self.watched.spawn(async move {
            connection.closed().await;
            (number, Seen::Lost)
        });
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::Send { to, hops, datagram } => self.context.endpoint.send_datagram(to, &datagram, hops),
            Output::TellOpened => self.tell_opened(),
            Output::Dial { to, path, within } => self.dial(to, path, within),
            Output::Nominate(number) => self.nominate(number).await,
            Output::Use(number, path) => self.use_connection(number, path),
            Output::Close(number) => {
                if let Some(connection) = self.connections.get(&number) {
                    connection.close(CloseCode::Duplicate);
                }
            }
            Output::RelayFailed => self.failed.push("the relay does not answer".to_owned()),
            Output::DirectFailed(reason) => self.direct_failed(reason),
            Output::Ended => self.has_ended = true,
        }
    }

    fn tell_opened(&mut self) {
        let (context, dial) = (self.context.clone(), self.meeting.terms.dial);
        self.told.spawn(async move {
            if let Err(failure) = context.tell_directory(&DirectoryRequest::Opened { dial }).await {
                tracing::debug!(%failure, "the directory was not told that this side is open");
            }
        });
    }

    fn dial(&mut self, to: SocketAddr, path: Path, within: Duration) {
        let (endpoint, key) = (self.context.endpoint.clone(), self.meeting.key);
        let Terms { dial, round_trip, .. } = self.meeting.terms;
        // The relayed path is twice as long as the one to the directory. Of a direct one nothing is known, and the bound
        // on what goes to an unproven address counts on the usual pace.
        let round_trip = (path == Path::Relayed).then_some(round_trip * 2);
        self.dials.spawn(async move { (to, endpoint.dial(to, dial, key, within, round_trip).await) });
    }

    /// Says to the other side that this connection is the one, and uses it without waiting for an answer: whatever is
    /// asked next comes after.
    async fn nominate(&mut self, number: ConnectionNumber) {
        let Some(connection) = self.connections.get(&number).cloned() else { return };
        let said = async {
            let mut stream = connection.open_stream().await?;
            stream.write_frame(&PeerRequest::Nominate).await?;
            stream.finish();
            Ok::<_, TransportError>(stream)
        };
        match tokio::time::timeout(REQUEST_DEADLINE, said).await {
            Ok(Ok(mut stream)) => {
                self.use_connection(number, Path::Direct);
                self.told.spawn(async move {
                    let answer = stream.read_frame::<ReceivedAnswer>().await;
                    tracing::trace!(?answer, "nominated");
                });
            }
            _ => self.meeting.machine.handle_lost(number, self.now()),
        }
    }

    fn use_connection(&mut self, number: ConnectionNumber, path: Path) {
        let Some(connection) = self.connections.get(&number).cloned() else { return };
        let links = &self.context.links;
        let Some(link) = links.add(self.meeting.name.clone(), self.meeting.key, connection.clone(), path) else {
            self.failed.push("too many people are connected to this peer".to_owned());
            return connection.close(CloseCode::TooManyConnections);
        };
        match path {
            Path::Relayed => {
                link.note_why_relayed(self.meeting.why_relayed);
                self.relayed = Some(link.clone());
            }
            Path::Direct => {
                self.meeting.why_relayed = WhyNotDirect::StandsBy;
                self.note_why_relayed();
            }
        }
        tracing::info!(name = %link.name, ?path, address = %connection.remote_address(), "connected");
        // Whoever asked is told by the command; the other side has allowed it, and hears when it is used.
        let is_by_consent = self.meeting.terms.side == Side::Asked && self.meeting.purpose == Purpose::Talk;
        if is_by_consent && path == Path::Direct {
            self.context.tell(Event::Connected { name: link.name.clone(), via: link.path_info() });
        }
        let in_use = link.in_use();
        if !links.hand_over(Work::Serve(link)) {
            return connection.close(CloseCode::ShuttingDown);
        }
        if let Some(first) = self.meeting.first.take() {
            drop(first.send(Ok(in_use))); // whoever asked may have given up
        }
        if path == Path::Direct && !self.meeting.terms.is_controlling {
            self.watch(number, connection);
        }
    }

    fn direct_failed(&mut self, reason: NoDirectPath) {
        let (why, text) = match reason {
            NoDirectPath::NoCandidate => (WhyNotDirect::NoAddress, "it gave no address that this machine can reach"),
            NoDirectPath::NoPunch => (WhyNotDirect::Nat, "the NATs or firewalls in between let nothing through"),
            NoDirectPath::NoConnection => (WhyNotDirect::Nat, "no connection came about"),
        };
        self.failed.push(text.to_owned());
        self.meeting.why_relayed = why;
        self.note_why_relayed();
    }

    fn note_why_relayed(&self) {
        if let Some(link) = &self.relayed {
            link.note_why_relayed(self.meeting.why_relayed);
        }
    }
}

/// Waits for the nomination of a connection, which must be the first thing said on it, and answers it.
async fn nominated(connection: &Connection) -> Result<(), TransportError> {
    let mut stream = connection.accept_stream().await?;
    let request = tokio::time::timeout(REQUEST_DEADLINE, stream.read_frame::<PeerRequest>()).await;
    match request {
        Ok(Ok(PeerRequest::Nominate)) => {
            // Whoever nominates uses the connection without waiting for this.
            if let Err(error) = stream.write_frame(&ReceivedAnswer::Ok(())).await {
                tracing::trace!(%error, "a nomination was not answered");
            }
            stream.finish();
            Ok(())
        }
        _ => {
            connection.close(CloseCode::BadStream);
            Err(TransportError::ClosedHere)
        }
    }
}

fn no_path(name: &PeerName, failed: &[String], paths: PathChoice) -> Failure {
    let reasons = if failed.is_empty() { "nothing answered".to_owned() } else { failed.join("; ") };
    let failure = Failure::new(FailureKind::NoPath, format!("no way to {name}: {reasons}"));
    match paths {
        PathChoice::DirectOnly => failure.hint("without --direct-only the directory relays, and cannot read it"),
        PathChoice::Any | PathChoice::RelayOnly => failure.hint("`qchat doctor` shows what this network lets through"),
    }
}
