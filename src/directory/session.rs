//! The life of one connection.
//!
//! ```text
//! handshake --> stranger --Login, up to 5 tries in 10 s--> logged in --requests and pushes--> gone
//!                  |                                          |
//!                  +-- login timeout, bad frame               +-- logged in elsewhere, errand idle, too slow, bad frame
//! ```

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::gate::Stranger;
use super::login::{self, Admitted};
use super::registry::{Membership, Session};
use super::shared::Shared;
use super::{mailbox, people, presence, requests};
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Incoming;
use crate::transport::stream::Stream;
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest};
use crate::wire::limits::{ERRAND_IDLE, FRAME_BYTES_MAX, LOGIN_DEADLINE, REQUEST_DEADLINE, STRANGER_FRAME_BYTES_MAX};
use crate::wire::refusal::{CloseCode, Refusal};

/// A person mistypes a password; who needs more connects again.
const LOGIN_TRIES: usize = 5;

/// How long a session whose account was deleted has to leave by itself.
const FAREWELL: Duration = Duration::from_secs(1);

/// Requests of one session that are answered at a time: enough for a person's commands at once.
const REQUESTS_AT_ONCE: usize = 8;

/// Sees a connection through, from the handshake to its end.
pub(super) async fn run(shared: Arc<Shared>, incoming: Incoming, mut stranger: Stranger) {
    let deadline = Instant::now() + LOGIN_DEADLINE;
    let source = incoming.remote_address();
    let connection = match incoming.accept().await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%source, %error, "no handshake"),
    };
    stranger.hands_shaken();
    let admitted = tokio::select! {
        // In a box, so that a session does not hold for its whole life what only its login needs.
        admitted = Box::pin(timeout_at(deadline, log_in(&shared, &connection))) => admitted,
        reason = connection.closed() => return tracing::debug!(%source, %reason, "gone before login"),
    };
    drop(stranger);
    match admitted {
        Ok(Some(admitted)) => serve(shared, admitted).await,
        Ok(None) => {}
        Err(_) => connection.close(CloseCode::LoginTimeout),
    }
}

/// Takes logins until one is let in. `None` when the connection is of no use any more.
async fn log_in(shared: &Arc<Shared>, connection: &Connection) -> Option<Admitted> {
    for _ in 0..LOGIN_TRIES {
        let mut stream = connection.accept_stream().await.ok()?;
        let request = read_request(connection, &mut stream, STRANGER_FRAME_BYTES_MAX).await?;
        let admitted = match request {
            DirectoryRequest::Login(login) => login::log_in(shared, connection, *login).await,
            DirectoryRequest::PutPrekey(_)
            | DirectoryRequest::Who { .. }
            | DirectoryRequest::Identify { .. }
            | DirectoryRequest::Deliver { .. }
            | DirectoryRequest::Receipts { .. }
            | DirectoryRequest::Missing { .. }
            | DirectoryRequest::Publish(_)
            | DirectoryRequest::Unpublish { .. }
            | DirectoryRequest::Find { .. }
            | DirectoryRequest::Dial(_)
            | DirectoryRequest::Opened { .. }
            | DirectoryRequest::AskConsent { .. }
            | DirectoryRequest::Allow(_)
            | DirectoryRequest::Deny { .. }
            | DirectoryRequest::Grants { .. }
            | DirectoryRequest::AnswerKeyRequest { .. }
            | DirectoryRequest::Invite
            | DirectoryRequest::ChangePassword { .. }
            | DirectoryRequest::DeleteAccount { .. }
            | DirectoryRequest::Sessions
            | DirectoryRequest::EndOtherSessions
            | DirectoryRequest::SetPresence(_)
            | DirectoryRequest::Watch { .. }
            | DirectoryRequest::Announce(_)
            | DirectoryRequest::Block { .. }
            | DirectoryRequest::Unblock { .. }
            | DirectoryRequest::Blocked { .. }
            | DirectoryRequest::Befriend { .. }
            | DirectoryRequest::Unfriend { .. }
            | DirectoryRequest::PutOff { .. }
            | DirectoryRequest::Friends { .. }
            | DirectoryRequest::SetAudience(_)
            | DirectoryRequest::Audience => Err(Refusal::NotLoggedIn),
        };
        match admitted {
            Ok(admitted) => {
                let answer = Ok(DirectoryReply::LoggedIn(admitted.answer.clone()));
                return write_answer(&mut stream, &answer).await.then_some(admitted);
            }
            Err(refusal) => {
                tracing::debug!(source = %connection.remote_address(), %refusal, "login refused");
                write_answer(&mut stream, &Err(refusal)).await;
            }
        }
    }
    // No more tries. The last answer is still on its way, so the deadline closes the connection.
    connection.closed().await;
    None
}

/// Serves a session until its connection ends.
async fn serve(shared: Arc<Shared>, admitted: Admitted) {
    let Admitted { membership, pushes, answer } = admitted;
    let session = membership.session.clone();
    let kind = session.kind;
    tracing::info!(peer = %session.name, key = %session.key, epoch = answer.epoch.0, ?kind, "logged in");
    session.connection.raise_limits_after_login();
    let mut pushers = start_pushers(&shared, &membership, pushes);
    pushers.spawn(note_seen(shared.clone(), session.clone()));
    let mut answers = JoinSet::new();
    let reason = take_requests(&shared, &session, &mut answers).await;
    tracing::info!(peer = %session.name, epoch = answer.epoch.0, %reason, "session ended");
    drop(membership); // now, not after the requests: others see it offline at once
    note_seen(shared.clone(), session.clone()).await;
    while let Some(ended) = pushers.join_next().await {
        report_panic(ended);
    }
    while let Some(ended) = answers.join_next().await {
        report_panic(ended);
    }
}

/// Notes when an account's resident came and when it left.
async fn note_seen(shared: Arc<Shared>, session: Arc<Session>) {
    if session.is_resident() {
        presence::note_seen(&shared, vec![session.name.clone()]).await;
    }
}

fn start_pushers(
    shared: &Arc<Shared>,
    membership: &Membership,
    pushes: mpsc::Receiver<Arc<DirectoryPush>>,
) -> JoinSet<()> {
    let session = &membership.session;
    let mut pushers = JoinSet::new();
    if session.is_resident() {
        pushers.spawn(mailbox::push_news(shared.clone(), session.clone(), pushes));
        let (shared, session) = (shared.clone(), session.clone());
        pushers.spawn(async move { people::tell_requests(&shared, &session).await });
    }
    if session.wants_mail() {
        let turn = membership.mailbox_turn.clone();
        pushers.spawn(mailbox::push_mailbox(shared.clone(), session.clone(), turn));
    }
    pushers
}

/// Starts an answer to each request until the connection ends, and says why it did.
async fn take_requests(shared: &Arc<Shared>, session: &Arc<Session>, answers: &mut JoinSet<()>) -> TransportError {
    let connection = &session.connection;
    let mut idle_since = Instant::now();
    let mut idle = pin!(sleep_until(idle_since + ERRAND_IDLE));
    loop {
        let is_full = answers.len() >= REQUESTS_AT_ONCE;
        tokio::select! {
            stream = connection.accept_stream(), if !is_full => match stream {
                Ok(stream) => {
                    begin(answers, Box::pin(answer(shared.clone(), session.clone(), stream))).await;
                    idle_since = Instant::now();
                }
                Err(error) => return error,
            },
            Some(ended) = answers.join_next() => {
                report_panic(ended);
                idle_since = Instant::now();
            }
            // One timer for the whole session: each that is set takes a lock which all sessions share.
            () = idle.as_mut(), if answers.is_empty() && !session.is_resident() => {
                let until = idle_since + ERRAND_IDLE;
                if until <= Instant::now() {
                    connection.close(CloseCode::ErrandIdle);
                }
                idle.as_mut().reset(until);
            }
            // Without room for a stream nothing else tells that the connection has ended.
            reason = connection.closed(), if is_full => return reason,
        }
    }
}

/// Begins an answer. What came whole and waits for no disk is answered here and now, which spares a task and a change of
/// thread; everything else goes on beside the others.
async fn begin(answers: &mut JoinSet<()>, mut answer: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
    match poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await {
        Poll::Ready(()) => tokio::task::consume_budget().await,
        Poll::Pending => {
            answers.spawn(answer);
        }
    }
}

/// Answers the request of one stream within its deadline.
async fn answer(shared: Arc<Shared>, session: Arc<Session>, mut stream: Stream) {
    let exchange = async {
        let Some(request) = read_request(&session.connection, &mut stream, FRAME_BYTES_MAX).await else { return };
        let deletes = matches!(request, DirectoryRequest::DeleteAccount { .. });
        let answer = if session.is_replaced() {
            Err(Refusal::SessionEnded)
        } else {
            requests::answer(&shared, &session, request).await
        };
        let is_last = deletes && answer.is_ok();
        if write_answer(&mut stream, &answer).await && is_last {
            stream.wait_sent().await;
        }
        if is_last {
            // Whoever asked goes by itself when it has read the answer; closing earlier would look like a failure there.
            drop(timeout(FAREWELL, session.connection.closed()).await);
            session.connection.close(CloseCode::AccountClosed);
        }
    };
    if timeout(REQUEST_DEADLINE, exchange).await.is_err() {
        tracing::debug!(peer = %session.name, "request not answered in time");
        stream.abort(CloseCode::NoProgress);
    }
}

/// Reads the one frame of a request stream. Malformed ones close the connection; `None` then, and when the other side
/// gave the stream up.
async fn read_request(connection: &Connection, stream: &mut Stream, bytes_max: usize) -> Option<DirectoryRequest> {
    let request = stream.read_only_frame(bytes_max).await;
    request
        .inspect_err(|error| {
            tracing::debug!(source = %connection.remote_address(), %error, "no request");
            if is_violation(error) {
                connection.close(CloseCode::BadFrame);
            }
        })
        .ok()
}

/// Writes the answer; whether that worked.
async fn write_answer(stream: &mut Stream, answer: &DirectoryAnswer) -> bool {
    let written = stream.write_frame(answer).await;
    stream.finish();
    written.inspect_err(|error| tracing::debug!(%error, "answer not sent")).is_ok()
}

/// Whether the other side broke the framing.
pub(super) fn is_violation(error: &TransportError) -> bool {
    match error {
        TransportError::BadFrame(_) | TransportError::Truncated => true,
        TransportError::Bind { .. }
        | TransportError::TimedOut
        | TransportError::IdentityMismatch { .. }
        | TransportError::NotAnnounced
        | TransportError::Handshake(_)
        | TransportError::OtherVersion
        | TransportError::Tls(_)
        | TransportError::Closed(_)
        | TransportError::Reset(_)
        | TransportError::ClosedHere
        | TransportError::Restarted
        | TransportError::Refused
        | TransportError::NoAnswer(_) => false,
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of a session failed");
    }
}
