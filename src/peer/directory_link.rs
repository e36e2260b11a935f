//! Keeps this peer's session at the directory alive: connect, prove the key, publish a prekey, answer pushes, and when
//! the connection is lost, try again.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Context, unexpected, unreachable_directory};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::{account, announcements, blocks, catalogue, consent, contacts, friends, inbox, observation, outbox};
use super::{peer_links, prekeys, presence, receipts};
use crate::protocol::backoff::Backoff;
use crate::seal::identity::{IdentityKey, Label, login_statement};
use crate::seal::random::{self, OsRandom};
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Endpoint;
use crate::transport::stream::Stream;
use crate::transport::tuning::Network;
use crate::transport::verify::AnnouncedDials;
use crate::wire::account::{LoggedIn, Login};
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{DirectoryFingerprint, InviteToken, Password, PeerName};
use crate::wire::limits::{FRAME_BYTES_MAX, REQUEST_DEADLINE};
use crate::wire::refusal::{CloseCode, Refusal};

/// Where a directory is, as its user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAddress {
    /// A host name or an IP address.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl fmt::Display for DirectoryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for DirectoryAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

/// The port of a directory that names none.
pub const DEFAULT_PORT: u16 = 4433;

impl DirectoryAddress {
    /// The link that brings somebody here without a question: `qchat://HOST[:PORT]/[NAME]#FINGERPRINT[.TOKEN]`.
    #[must_use]
    pub fn link(
        &self,
        name: Option<&PeerName>,
        fingerprint: DirectoryFingerprint,
        token: Option<&InviteToken>,
    ) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = if self.port == DEFAULT_PORT { String::new() } else { format!(":{}", self.port) };
        let name = name.map_or("", PeerName::as_str);
        let token = token.map_or_else(String::new, |token| format!(".{}", token.link_text()));
        format!("qchat://{host}{port}/{name}#{fingerprint}{token}")
    }

    /// Looks the host up: IPv4 addresses first.
    ///
    /// # Errors
    /// A [`Failure`] when there is no such host.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let mut addresses: Vec<SocketAddr> = found
            .map_err(|error| {
                let message = format!("cannot find the directory's host {:?}: {error}", self.host);
                Failure::new(FailureKind::DirectoryUnreachable, message).hint("is the host name spelled right?")
            })?
            .collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        Ok(addresses)
    }
}

/// What a person brings to get in, beside the key.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Needed to make an account, or to bring a new key to one.
    pub password: Option<Password>,
    /// Whether to make the account.
    pub register: bool,
    /// Admits a new account where an invitation is needed.
    pub token: Option<InviteToken>,
    /// Whether to make this key the account's again when it was replaced in the last days.
    pub undo: bool,
}

/// Asks a directory for its fingerprint, for a first use.
///
/// # Errors
/// A [`Failure`] when the directory does not answer.
pub async fn learn_fingerprint(
    directory: &DirectoryAddress,
    network: Network,
) -> Result<DirectoryFingerprint, Failure> {
    let stranger = IdentityKey::generate(&mut OsRandom);
    let (endpoint, connection, found) =
        connect_first(directory, None, &stranger, &AnnouncedDials::default(), network).await?;
    connection.close(CloseCode::Done);
    endpoint.wait_closed().await;
    Ok(found)
}

/// Opens an endpoint towards the first address of the directory that answers.
pub(super) async fn connect_first(
    directory: &DirectoryAddress,
    pinned: Option<DirectoryFingerprint>,
    identity: &IdentityKey,
    dials: &AnnouncedDials,
    network: Network,
) -> Result<(Endpoint, Connection, DirectoryFingerprint), Failure> {
    let mut last = unreachable_directory(directory, "the host has no address");
    let addresses = directory.resolve().await?;
    let endpoint = Endpoint::peer_any(identity, dials, network)?;
    // An address that leads nowhere must not hold up the others (RFC 8305).
    let mut attempts = JoinSet::new();
    for (rank, address) in (0..).zip(addresses) {
        let endpoint = endpoint.clone();
        attempts.spawn(async move {
            tokio::time::sleep(NEXT_ADDRESS_AFTER * rank).await;
            knock(&endpoint, address, pinned).await
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok((connection, found))) => return Ok((endpoint, connection, found)),
            // A false key says more than silence at another address.
            Ok(Err(error)) if last.kind != FailureKind::Authentication => last = connect_failure(directory, error),
            Ok(Err(_)) => {}
            Err(error) => last = unreachable_directory(directory, &error.to_string()),
        }
    }
    Err(last)
}

/// How long an address may be silent before the next one is tried as well.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connects; a directory that is crowded at the moment is asked again for a while.
async fn knock(
    endpoint: &Endpoint,
    address: SocketAddr,
    pinned: Option<DirectoryFingerprint>,
) -> Result<(Connection, DirectoryFingerprint), TransportError> {
    let mut backoff = Backoff::default();
    for _ in 0..KNOCKS_MAX {
        match endpoint.connect_directory(address, pinned).await {
            Err(TransportError::Refused) => {
                let [spread] = random::array(&mut OsRandom);
                tokio::time::sleep(backoff.failed(spread)).await;
            }
            answered => return answered,
        }
    }
    Err(TransportError::Refused)
}

/// Attempts at a crowded directory: half a minute in all.
const KNOCKS_MAX: usize = 6;

pub(super) fn connect_failure(directory: &DirectoryAddress, error: TransportError) -> Failure {
    match error {
        TransportError::IdentityMismatch { expected, found } => Failure::new(
            FailureKind::Authentication,
            format!(
                "the directory at {directory} has another key than the trusted one:\n  trusted {expected}\n  found   {found}"
            ),
        )
        .hint(
            "somebody may be in between; if its operator confirms the new key, remove the old line from known_servers",
        ),
        TransportError::TimedOut => {
            let failure = unreachable_directory(directory, "timed out: nothing came back over UDP");
            let hint = failure.hint.clone().unwrap_or_default();
            failure.hint(format!("{hint} Some networks block UDP: `qchat doctor` finds out"))
        }
        TransportError::OtherVersion => unreachable_directory(directory, &error.to_string())
            .hint("one of the two programs is older: `qchat --version` there and here"),
        error => unreachable_directory(directory, &error.to_string()),
    }
}

/// Why a login did not work.
#[derive(Debug, thiserror::Error)]
pub enum LoginFailure {
    /// The directory says no: perhaps a password helps.
    #[error(transparent)]
    Refused(Refusal),
    /// Anything else.
    #[error(transparent)]
    Failed(Failure),
}

/// Proves the key on a fresh connection.
pub(super) async fn log_in(
    context: &Context,
    connection: &Connection,
    admission: &Admission,
) -> Result<LoggedIn, LoginFailure> {
    let account = &context.account;
    let statement = login_statement(&account.fingerprint, &account.name, &connection.login_binding());
    let login = Login {
        name: account.name.clone(),
        key: context.key(),
        kind: account.kind,
        proof: context.identity().sign(Label::Login, &statement),
        password: admission.password.clone(),
        register: admission.register,
        token: admission.token.clone(),
        undo: admission.undo,
    };
    let answer: DirectoryAnswer = connection
        .request(&DirectoryRequest::Login(Box::new(login)))
        .await
        .map_err(|error| LoginFailure::Failed(unreachable_directory(&account.directory, &error.to_string())))?;
    match answer {
        Ok(DirectoryReply::LoggedIn(logged_in)) => Ok(logged_in),
        Ok(other) => Err(LoginFailure::Failed(unexpected(&other))),
        Err(refusal) => Err(LoginFailure::Refused(refusal)),
    }
}

/// A connection that has just logged in.
pub(super) type Session = (Connection, LoggedIn);

/// Lives through sessions until one ends for good, and says why.
pub(super) async fn run(context: Arc<Context>, first: Session) -> Failure {
    let mut session = first;
    let mut backoff = Backoff::default();
    loop {
        let ended = live(&context, session).await;
        context.session.send_replace(None);
        if matches!(ended, TransportError::Closed(CloseCode::LoggedInElsewhere)) {
            context.tell(Event::LoggedInElsewhere);
            return Failure::new(FailureKind::LoggedInElsewhere, "this account logged in elsewhere")
                .hint("one peer at a time: a newer `qchat peer` has taken over");
        }
        if matches!(ended, TransportError::Closed(CloseCode::EndedByOperator)) {
            return Failure::new(FailureKind::LoggedInElsewhere, "the directory's operator has ended this session")
                .hint("your account is still there: start `qchat peer` again, or ask the operator");
        }
        if matches!(ended, TransportError::Closed(CloseCode::AccountClosed)) {
            return Failure::new(FailureKind::Authentication, "this account was deleted or disabled");
        }
        session = match reconnect(&context, &mut backoff, ended.to_string()).await {
            Ok(session) => session,
            Err(failure) => return failure,
        };
    }
}

/// Tries until there is a session again, or until the directory says a final no.
async fn reconnect(context: &Context, backoff: &mut Backoff, mut reason: String) -> Result<Session, Failure> {
    loop {
        let [spread] = random::array(&mut OsRandom);
        let wait = backoff.failed(spread);
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        context.tell(Event::DirectoryLost { reason, retry_in_ms });
        tokio::time::sleep(wait).await;
        match attempt(context).await {
            Ok(session) => {
                backoff.succeeded();
                return Ok(session);
            }
            Err(LoginFailure::Refused(Refusal::Busy | Refusal::Storage)) => reason = Refusal::Busy.to_string(),
            Err(LoginFailure::Refused(refusal)) => return Err(Failure::from(refusal)),
            Err(LoginFailure::Failed(failure)) if failure.kind == FailureKind::Authentication => return Err(failure),
            Err(LoginFailure::Failed(failure)) => reason = failure.message,
        }
    }
}

async fn attempt(context: &Context) -> Result<Session, LoginFailure> {
    let directory = &context.account.directory;
    let addresses = directory.resolve().await.map_err(LoginFailure::Failed)?;
    let mut last = unreachable_directory(directory, "the host has no address");
    for address in addresses {
        match context.endpoint.connect_directory(address, Some(context.account.fingerprint)).await {
            Ok((connection, _)) => {
                let logged_in = log_in(context, &connection, &Admission::default()).await?;
                return Ok((connection, logged_in));
            }
            Err(error) => last = connect_failure(directory, error),
        }
    }
    Err(LoginFailure::Failed(last))
}

/// One session from login to its end.
async fn live(context: &Arc<Context>, (connection, logged_in): Session) -> TransportError {
    tracing::info!(name = %context.account.name, directory = %context.account.directory, "logged in");
    context.session.send_replace(Some(connection.clone()));
    context.tell(Event::LoggedIn {
        name: context.account.name.clone(),
        key: context.key(),
        directory: context.account.directory.to_string(),
        fingerprint: context.account.fingerprint,
        created: logged_in.created,
        waiting: logged_in.waiting,
    });
    context.delivering.has_left.store(false, Ordering::Relaxed);
    let mut chores = JoinSet::new();
    chores.spawn(prekeys::keep_fresh(context.clone(), logged_in.prekey));
    let observing = context.clone();
    chores.spawn(async move { observation::observe(&observing, &logged_in).await });
    chores.spawn(outbox::send_lost_again(context.clone()));
    chores.spawn(catalogue::reconcile(context.clone()));
    chores.spawn(consent::follow(context.clone()));
    chores.spawn(friends::follow(context.clone()));
    chores.spawn(presence::keep(context.clone()));
    let mut answers = JoinSet::new();
    let ended = loop {
        tokio::select! {
            stream = connection.accept_stream() => match stream {
                // QUIC's stream limit bounds how many run at a time.
                Ok(stream) => { answers.spawn(answer(context.clone(), stream)); }
                Err(error) => break error,
            },
            Some(_) = chores.join_next() => {}
            Some(_) = answers.join_next() => {}
        }
    };
    // What was being taken is taken to its end: on the disk and not on the screen, it would be known when it comes again.
    while answers.join_next().await.is_some() {}
    ended
}

/// Makes the first session usable before anybody hears of it: commands find it, and an account that has no prekey gets
/// one, so that it can be written to, however short this visit is.
pub(super) async fn begin(context: &Context, (connection, logged_in): &mut Session) {
    context.session.send_replace(Some(connection.clone()));
    if logged_in.prekey.is_some() {
        return;
    }
    match prekeys::refresh(context, None).await {
        Ok(published) => logged_in.prekey = published,
        Err(failure) => tracing::warn!(%failure, "no first prekey was published"),
    }
}

/// Answers one push. Only the network has deadlines: what has come is dealt with, however long the disk takes.
async fn answer(context: Arc<Context>, mut stream: Stream) {
    let push = tokio::time::timeout(REQUEST_DEADLINE, read_push(&mut stream)).await;
    let Ok(Ok(push)) = push else {
        tracing::debug!(?push, "a push did not come whole");
        return stream.abort(CloseCode::NoProgress);
    };
    let answer = answer_to(&context, push).await;
    match tokio::time::timeout(REQUEST_DEADLINE, stream.write_frame(&answer)).await {
        Ok(Ok(())) => stream.finish(),
        failed => {
            tracing::debug!(?failed, "a push could not be answered");
            stream.abort(CloseCode::NoProgress);
        }
    }
}

async fn read_push(stream: &mut Stream) -> Result<DirectoryPush, TransportError> {
    stream.read_only_frame(FRAME_BYTES_MAX).await
}

async fn answer_to(context: &Context, push: DirectoryPush) -> PushAnswer {
    if let Some(answer) = blocks::passed_over(context, &push) {
        return answer;
    }
    match push {
        DirectoryPush::Delivery(delivery) => inbox::take(context, *delivery).await,
        DirectoryPush::Receipts(receipts) => receipts::take_pushed(context, receipts).await,
        DirectoryPush::Drained { prekey } => prekeys::take_drained(context, prekey).await,
        DirectoryPush::Dial(announced) => peer_links::expect(context, announced).await,
        DirectoryPush::Opened { dial } => {
            context.meetings.opened(dial);
            Ok(PushReply::Taken)
        }
        DirectoryPush::ConsentAsked { from, key } => consent::take_question(context, from, key).await,
        DirectoryPush::ConsentAnswered { by, allowed } => consent::take_answer(context, by, allowed),
        DirectoryPush::Presence { name, presence } => presence::take(context, name, presence),
        DirectoryPush::Announcement { from, signed, legacy } => {
            announcements::take(context, from, *signed, legacy).await
        }
        DirectoryPush::FriendAsked { from, key } => friends::take_request(context, from, key).await,
        DirectoryPush::FriendAnswered { by, answer } => friends::take_answer(context, by, answer).await,
        DirectoryPush::PeopleChanged => {
            context.friends.changed.notify_one();
            Ok(PushReply::Taken)
        }
        DirectoryPush::KeyRequested { key, source } => account::key_requested(context, key, source),
        DirectoryPush::KeyChanged { name, key } => contacts::key_changed(context, &name, key).await,
        DirectoryPush::Returned { to, id, refusal } => outbox::take_returned(context, to, id, refusal).await,
    }
}
