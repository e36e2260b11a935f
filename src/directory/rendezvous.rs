//! Dials: tells the person who is dialled who will come, and the dialler where to go. Nobody can be made to send to an
//! address that the directory has not seen the session use.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::people;
use super::registry::Session;
use super::relay::{Legs, Relay};
use super::session::is_violation;
use super::shared::Shared;
use crate::clock::now_millis;
use crate::protocol::consent::{self, Consent, Facts};
use crate::seal::random::{self, OsRandom};
use crate::transport::connection::TransportError;
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, PushAnswer, PushReply};
use crate::wire::ids::DialId;
use crate::wire::limits::CANDIDATES_MAX;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{DialAnnounced, DialGranted, DialRequest, Direct, PortTicket, Purpose, WhyRelayed};

/// How long a session has to answer a push of rendezvous: what remains of the asker's 15 s is for the answer to arrive.
const PUSH_DEADLINE: Duration = Duration::from_secs(10);

/// Announces a dial to the sessions of a person; the first that takes it is the one to dial. Without consent neither
/// side hears an address of the other.
pub(super) async fn dial(shared: &Shared, asker: &Arc<Session>, request: DialRequest) -> DirectoryAnswer {
    shared.dials.count_dial(&asker.name, now_millis())?;
    people::reach(shared, asker, &request.to).await?;
    let dialled = shared.registry.dialled(&request.to, asker);
    if dialled.iter().any(|session| session.key != request.key) {
        return Err(Refusal::KeyChanged);
    }
    if dialled.is_empty() {
        return Err(Refusal::Offline);
    }
    let facts = facts(shared, asker, &request).await?;
    let consent = consent::decide(facts);
    let ways = ways(shared, asker, dialled, consent.is_ok(), request.relay)?;
    let own = request.candidates.as_deref().unwrap_or_default();
    let announced = DialAnnounced {
        dial: DialId::from_bytes(random::array(&mut OsRandom)),
        from: asker.name.clone(),
        key: asker.key,
        purpose: request.purpose,
        direct: match consent {
            Ok(_) => Direct::Candidates(candidates(&asker.addresses(), own)),
            Err(why) => Direct::Not(why),
        },
        relay: None,
    };
    let Taken { by, sent, relayed } = announce_to_all(ways, &announced).await.map_err(|no| match no {
        // It wants no direct path, and was given no relayed one.
        Refusal::NoConsent => no_way(request.relay),
        no => no,
    })?;
    let verdict = consent::decide(Facts { asked_wants_direct: Some(sent.is_some()), ..facts });
    let verdict = match verdict {
        // What was allowed once may be used up by now, and what was allowed may be taken back.
        Ok(Consent::Granted) if !use_grants(shared, &by, asker, request.purpose).await? => Err(WhyRelayed::NoConsent),
        verdict => verdict,
    };
    if verdict.is_err() && relayed.is_none() {
        return Err(no_way(request.relay));
    }
    shared.dials.remember(announced.dial, asker, &by, Instant::now());
    let direct = match verdict {
        Ok(_) => Direct::Candidates(candidates(&by.addresses(), &sent.unwrap_or_default())),
        Err(why) => Direct::Not(why),
    };
    let relay = relayed.map(Relayed::keep);
    Ok(DirectoryReply::DialGranted(DialGranted { dial: announced.dial, direct, relay }))
}

/// Uses up what allows two people to learn each other's addresses. Says whether it still does.
async fn use_grants(shared: &Shared, asked: &Session, asker: &Session, purpose: Purpose) -> Result<bool, Refusal> {
    let now = now_millis();
    let tells = match purpose {
        Purpose::Talk => true,
        Purpose::Fetch { .. } => shared.store.use_grant(&asker.name, &asked.name, now).await?,
    };
    Ok(tells && shared.store.use_grant(&asked.name, &asker.name, now).await?)
}

/// What is known before the other side is asked.
async fn facts(shared: &Shared, asker: &Session, request: &DialRequest) -> Result<Facts, Refusal> {
    let now = now_millis();
    Ok(Facts {
        asker_wants_direct: request.candidates.is_some(),
        asked_wants_direct: None,
        is_granted: shared.store.may_dial(&request.to, &asker.name, now).await?,
        asker_tells: match request.purpose {
            Purpose::Talk => true,
            Purpose::Fetch { .. } => shared.store.may_dial(&asker.name, &request.to, now).await?,
        },
        fetches_published: match request.purpose {
            Purpose::Talk => false,
            Purpose::Fetch { digest } => shared.store.publishes_openly(&request.to, digest).await?,
        },
    })
}

/// A relayed session for a dial: it ends with this when the dial comes to nothing, so that it holds no port.
#[derive(Debug)]
struct Relayed {
    relay: Arc<Relay>,
    legs: Legs,
    is_kept: bool,
}

impl Relayed {
    /// Leaves it to the two sides: the asker's leg.
    fn keep(mut self) -> PortTicket {
        self.is_kept = true;
        self.legs.asker
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if !self.is_kept {
            self.relay.end(self.legs);
        }
    }
}

/// A session to announce to, and the relayed session with it, if there is one.
type Way = (Arc<Session>, Option<Relayed>);

/// The sessions to announce to, each with its relayed session; refused when there would be no way to any of them.
fn ways(
    shared: &Shared,
    asker: &Session,
    dialled: Vec<Arc<Session>>,
    may_be_direct: bool,
    relay: bool,
) -> Result<Vec<Way>, Refusal> {
    let with_legs = |session: Arc<Session>| {
        let legs = if relay { shared.relay.open(asker, &session) } else { None };
        let relayed = legs.map(|legs| Relayed { relay: shared.relay.clone(), legs, is_kept: false });
        (session, relayed)
    };
    let mut ways: Vec<_> = dialled.into_iter().map(with_legs).collect();
    ways.retain(|(_, relayed)| may_be_direct || relayed.is_some());
    if ways.is_empty() { Err(no_way(relay)) } else { Ok(ways) }
}

/// Why there is no way at all when there is no direct one.
fn no_way(relay_is_wanted: bool) -> Refusal {
    if relay_is_wanted { Refusal::RelayFull } else { Refusal::NoConsent }
}

/// A session that has taken a dial.
struct Taken {
    by: Arc<Session>,
    /// Where it can be reached beside where it is seen; `None` when it does not want that.
    sent: Option<Vec<SocketAddr>>,
    /// The relayed session with it.
    relayed: Option<Relayed>,
}

/// Announces a dial to several sessions at once: the first that takes it.
async fn announce_to_all(ways: Vec<Way>, announced: &DialAnnounced) -> Result<Taken, Refusal> {
    let mut answers = JoinSet::new();
    for (session, relayed) in ways {
        let relay = relayed.as_ref().map(|relayed| relayed.legs.asked);
        answers.spawn(announce(session, DialAnnounced { relay, ..announced.clone() }, relayed));
    }
    let mut refusal = Refusal::Offline;
    while let Some(answer) = answers.join_next().await {
        match answer {
            Ok(Ok(taken)) => return Ok(taken),
            Ok(Err(Refusal::Offline)) => {}
            Ok(Err(no)) => refusal = no,
            Err(error) => tracing::error!(%error, "an announcement ended"),
        }
    }
    Err(refusal)
}

async fn announce(session: Arc<Session>, announced: DialAnnounced, relayed: Option<Relayed>) -> Result<Taken, Refusal> {
    match push(&session, &DirectoryPush::Dial(announced)).await? {
        PushReply::Candidates(sent) => Ok(Taken { by: session, sent, relayed }),
        PushReply::Taken | PushReply::Left | PushReply::Receipt(_) => Err(Refusal::NotAccepted),
    }
}

/// Tells the session that took a dial that its asker has opened its NAT.
pub(super) async fn opened(shared: &Shared, asker: &Session, dial: DialId) -> DirectoryAnswer {
    let taker = shared.dials.taker(dial, asker, Instant::now())?;
    people::reach(shared, asker, &taker.name).await?;
    push(&taker, &DirectoryPush::Opened { dial }).await?;
    Ok(DirectoryReply::Done)
}

/// Pushes something on a stream of its own and waits for the answer. [`Refusal::Offline`] when there is none in time.
pub(super) async fn push(session: &Session, push: &DirectoryPush) -> Result<PushReply, Refusal> {
    let asked = session.connection.request::<_, PushAnswer>(push);
    match timeout(PUSH_DEADLINE, asked).await.unwrap_or(Err(TransportError::NoAnswer(PUSH_DEADLINE))) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(peer = %session.name, %error, "not pushed");
            // Not for being slow: whoever dials often could otherwise end the sessions of others.
            if is_violation(&error) {
                session.connection.close(CloseCode::BadFrame);
            }
            Err(Refusal::Offline)
        }
    }
}

/// The addresses where the directory has seen a session, then what it sent and others may be told.
fn candidates(seen_at: &[SocketAddr], sent: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut candidates: Vec<SocketAddr> = Vec::new();
    let canonical = |address: &SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let sent = sent.iter().map(canonical).filter(|address| may_tell(seen_at, *address));
    for address in seen_at.iter().map(canonical).chain(sent) {
        if candidates.len() < CANDIDATES_MAX && !candidates.contains(&address) {
            candidates.push(address);
        }
    }
    candidates
}

/// Whether a session may name an address as its own: of one of the machines it is seen at, or of a private network, which
/// is of no use to make a stranger's machine a target. A session on the directory's own machine is trusted with any.
fn may_tell(seen_at: &[SocketAddr], address: SocketAddr) -> bool {
    let ip = address.ip();
    let unicast = !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0;
    let is_own = |seen: &SocketAddr| seen.ip().to_canonical() == ip;
    let is_local = seen_at.first().is_some_and(|seen| seen.ip().is_loopback());
    unicast && (seen_at.iter().any(is_own) || is_local || is_private(ip))
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // 100.64.0.0/10 is what providers use behind their own NAT (RFC 6598).
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen_at: &[&str], sent: &[&str], expected: &[&str]) {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse::<SocketAddr>().unwrap()).collect::<Vec<_>>();
        assert_eq!(candidates(&parse(seen_at), &parse(sent)), parse(expected));
    }

    #[test]
    fn the_addresses_the_directory_sees_come_first() {
        check(&["192.0.2.1:9"], &["10.0.0.1:9", "192.0.2.1:9"], &["192.0.2.1:9", "10.0.0.1:9"]);
        check(&["192.0.2.1:9"], &["[::ffff:10.0.0.1]:9", "10.0.0.1:9"], &["192.0.2.1:9", "10.0.0.1:9"]);
        check(&["192.0.2.1:9", "[2001:db8::1]:9"], &["10.0.0.1:9"], &["192.0.2.1:9", "[2001:db8::1]:9", "10.0.0.1:9"]);
    }

    #[test]
    fn nobody_elses_address_is_told() {
        check(
            &["192.0.2.1:9"],
            &["203.0.113.5:53", "[2001:db8::1]:9", "192.0.2.1:10"],
            &["192.0.2.1:9", "192.0.2.1:10"],
        );
        check(&["192.0.2.1:9"], &["0.0.0.0:9", "255.255.255.255:9", "224.0.0.1:9", "10.0.0.1:0"], &["192.0.2.1:9"]);
        check(&["127.0.0.1:9"], &["203.0.113.5:9"], &["127.0.0.1:9", "203.0.113.5:9"]);
    }

    #[test]
    fn a_session_may_name_any_machine_it_was_seen_at() {
        let seen_at = ["192.0.2.1:9", "[2001:db8::1]:9"];
        check(&seen_at, &["[2001:db8::1]:10", "[2001:db8::2]:9"], &[seen_at[0], seen_at[1], "[2001:db8::1]:10"]);
    }

    #[test]
    fn there_are_eight_at_most() {
        let sent: Vec<_> = (1..100).map(|n| SocketAddr::from(([10, 0, 0, n], 9))).collect();
        assert_eq!(candidates(&[SocketAddr::from(([192, 0, 2, 1], 9))], &sent).len(), CANDIDATES_MAX);
        assert_eq!(candidates(&sent, &[]).len(), CANDIDATES_MAX);
    }
}
