//! `LIN`: name and password until they fit, then a token, then where the client listens.
//!
//! ```text
//! LIN --name, password--> wrong: LOGIN_FAILED|2, LOGIN_FAILED|1, JUST_PENNED|60, PENNED|59 ... --+
//!      ^-----------------------------------------------------------------------------------------+
//!                     right --> LOGIN_OKAY, token --host, port--> settled
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::connection::{Connection, push};
use super::{Office, REQUEST_PATIENCE};
use crate::clock::now_millis;
use crate::compat::dialect::s4;
use crate::compat::gateway::{Arrival, Departure};
use crate::compat::names::NotIn;
use crate::compat::records::Contact;
use crate::compat::resident::{LegacyName, Resident};
use crate::compat::settings::Dialect;
use crate::compat::tries::Verdict;
use crate::peer::failure::Failure;
use crate::seal::random::{self, OsRandom};
use crate::seal::token::legacy_hash;
use crate::wire::ids::PeerName;

/// A person types name and password while the connection is open, and waits there until a lock is over.
const TYPING_PATIENCE: Duration = Duration::from_secs(180);

/// A name that is just coming or going is there in this time, or not at all.
const ENTERING_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at.
const ENTERING_PAUSE: Duration = Duration::from_millis(100);

/// After which somebody is asked to come again whom the gateway has no room for. The dialect has no other word for that.
const COME_AGAIN_SECONDS: u64 = 5;

/// The lowest port that is pushed to: those below belong to services of the machine.
const PORT_MIN: u16 = 1_024;

/// What is remembered of a session, so that clients go on after a restart of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    /// The hash of the client's token, in hexadecimal.
    token: String,
    /// By which address of this machine the client knows us.
    pub(super) here: IpAddr,
}

/// A login that worked.
struct LoggedIn {
    resident: Resident,
    token: String,
    /// Where the client listens whose session this one takes over.
    former: Option<SocketAddr>,
}

/// A login that did not, although the password was right.
enum Unfit {
    /// There may be room soon.
    ComeAgain,
    /// This name cannot be had with these programs at all.
    Never,
}

impl Session {
    fn begin(name: &PeerName, here: IpAddr) -> (Self, String) {
        let token = HEXLOWER.encode(&random::array::<5>(&mut OsRandom));
        (Self { token: Self::hash(name, &token), here }, token)
    }

    /// The session of somebody who is here.
    pub(super) fn of(resident: &Resident) -> Option<Self> {
        serde_json::from_value(resident.extra()).ok()
    }

    /// Whether this is its token.
    pub(super) fn is_shown_by(&self, name: &PeerName, token: &str) -> bool {
        self.token == Self::hash(name, token)
    }

    fn hash(name: &PeerName, token: &str) -> String {
        HEXLOWER.encode(&legacy_hash(name, token))
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "token": self.token, "here": self.here })
    }
}

/// The whole conversation.
pub(super) async fn converse(office: &Arc<Office>, connection: &mut Connection) -> io::Result<()> {
    while let Some((name, password)) = name_and_password(office, connection).await? {
        let verdict = office.gateway.judge(&name, connection.source().ip(), &password);
        let no = match verdict {
            Verdict::Right => match let_in(office, &name, connection).await {
                Ok(logged_in) => return welcome(office, logged_in, connection).await,
                Err(Unfit::ComeAgain) => s4::locked(COME_AGAIN_SECONDS),
                // No word of the dialect says why, and typing it again does not help: so it is not counted either.
                Err(Unfit::Never) => s4::login_failed(1),
            },
            Verdict::Wrong { left } => s4::login_failed(left),
            Verdict::NowLocked { seconds } => s4::now_locked(seconds),
            Verdict::Locked { seconds } => s4::locked(seconds),
        };
        connection.answer(&no).await?;
    }
    Ok(())
}

/// What the client sends next; `None` when it has closed, or asks too often.
async fn name_and_password(office: &Office, connection: &mut Connection) -> io::Result<Option<(String, String)>> {
    let Some(name) = connection.frame(TYPING_PATIENCE).await? else { return Ok(None) };
    let Some(password) = connection.frame(TYPING_PATIENCE).await? else { return Ok(None) };
    if !office.gateway.door.admits(connection.source(), name.len() + password.len()) {
        return Ok(None);
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some((text(&name), text(&password))))
}

/// Logs the name in, or takes its session over.
async fn let_in(office: &Arc<Office>, name: &str, connection: &Connection) -> Result<LoggedIn, Unfit> {
    let credentials = office.gateway.credentials();
    let name = PeerName::parse(name).ok().and_then(|name| credentials.name(&name).cloned()).ok_or(Unfit::Never)?;
    let contact = Contact { ip: connection.source().ip(), udp: None, tcp: None };
    let (session, token) = Session::begin(&name.name, connection.here());
    let until = Instant::now() + ENTERING_PATIENCE;
    loop {
        let failed = match enter(office, &name, contact, &session).await {
            Ok((resident, former)) => return Ok(LoggedIn { resident, token, former }),
            Err(not_in) => not_in,
        };
        match failed {
            NotIn::UnderWay | NotIn::Full | NotIn::Here(_) if Instant::now() < until => sleep(ENTERING_PAUSE).await,
            NotIn::UnderWay | NotIn::Full | NotIn::Here(_) => return Err(Unfit::ComeAgain),
            NotIn::Taken | NotIn::Elsewhere => {
                tracing::warn!(name = name.spelled, %failed, "a right password lets nobody in");
                return Err(Unfit::Never);
            }
            NotIn::Failed(failure) => {
                tracing::warn!(name = name.spelled, %failure, "not logged in");
                return Err(Unfit::ComeAgain);
            }
        }
    }
}

async fn enter(
    office: &Arc<Office>,
    name: &LegacyName,
    contact: Contact,
    session: &Session,
) -> Result<(Resident, Option<SocketAddr>), NotIn> {
    let arrival = Arrival { name: name.clone(), dialect: Dialect::S4, contact, extra: session.to_json() };
    match office.gateway.enter_with_password(arrival).await {
        Ok(resident) => Ok((resident, None)),
        Err(NotIn::Here(resident)) if resident.dialect() == Dialect::S4 => {
            let former = listens_at(&resident);
            take_over(&resident, contact, session).await.map_err(NotIn::Failed)?;
            Ok((resident, former))
        }
        Err(NotIn::Here(resident)) => {
            // With a program of another family; what it has open ends with its name's leaving.
            office.gateway.leave(resident.name(), Departure::Kept).await.map_err(NotIn::Failed)?;
            Err(NotIn::UnderWay)
        }
        Err(not_in) => Err(not_in),
    }
}

/// From here on the former client's token is void, and nothing is pushed until the new one has said where.
async fn take_over(resident: &Resident, contact: Contact, session: &Session) -> Result<(), Failure> {
    resident
        .change(|record| {
            record.contact = contact;
            record.extra = session.to_json();
            record.last_here = now_millis();
        })
        .await
}

/// Where somebody's client takes what it is pushed.
pub(super) fn listens_at(resident: &Resident) -> Option<SocketAddr> {
    let contact = resident.contact();
    contact.tcp.map(|port| SocketAddr::new(contact.ip, port))
}

/// Tells the client its token, and learns where it listens. Whatever goes wrong there ends the session.
async fn welcome(office: &Arc<Office>, logged_in: LoggedIn, connection: &mut Connection) -> io::Result<()> {
    let LoggedIn { resident, token, former } = logged_in;
    let client = office.attend_to(&resident);
    let at = match port(connection, &token).await {
        Ok(Some(port)) => Some(SocketAddr::new(connection.source().ip(), port)),
        Ok(None) => None,
        Err(error) => {
            tracing::debug!(name = %resident.name(), %error, "a client is gone before it has said where it listens");
            None
        }
    };
    let settled = settle(office, &resident, &token, at).await;
    match (settled, client) {
        (Ok(true), Some(client)) => client.greet(),
        (Ok(_), _) => {}
        (Err(failure), _) => tracing::warn!(name = %resident.name(), %failure, "a login is not kept"),
    }
    // Not to a program that was started again at the same port: it is the new one.
    if let Some(former) = former.filter(|former| Some(*former) != at)
        && let Err(error) = push(&office.gateway, former, s4::LOGGED_ELSEWHERE).await
    {
        tracing::debug!(%former, %error, "the former client is not told");
    }
    Ok(())
}

/// The client names a host too. Pushes go to the address that it came from all the same, so that nobody can have them sent
/// to a third person.
async fn port(connection: &mut Connection, token: &str) -> io::Result<Option<u16>> {
    connection.answer(s4::LOGIN_OKAY).await?;
    connection.answer(token).await?;
    let Some(_host) = connection.frame(REQUEST_PATIENCE).await? else { return Ok(None) };
    let Some(port) = connection.frame(REQUEST_PATIENCE).await? else { return Ok(None) };
    let port = s4::text(&port).ok().and_then(|port| port.trim().parse().ok());
    Ok(port.filter(|port| *port >= PORT_MIN))
}

/// Notes where the client listens, or ends its session; unless a later login has taken it over meanwhile. Says whether the
/// session goes on.
async fn settle(
    office: &Arc<Office>,
    resident: &Resident,
    token: &str,
    at: Option<SocketAddr>,
) -> Result<bool, Failure> {
    let is_ours = || Session::of(resident).is_some_and(|session| session.is_shown_by(resident.name(), token));
    let Some(at) = at else {
        if is_ours() {
            office.gateway.leave(resident.name(), Departure::Kept).await?;
        }
        return Ok(false);
    };
    let ours = resident.extra();
    if !is_ours() {
        return Ok(false);
    }
    resident
        .change(|record| {
            if record.extra == ours {
                record.contact.tcp = Some(at.port());
            }
        })
        .await?;
    Ok(is_ours())
}
