//! Dials: tells the person who is dialled who will come, and the dialler where to go. Nobody can be made to send to an
//! address that the directory has not seen the session use.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::login::observed;
use super::registry::Session;
use super::session::is_violation;
use super::shared::Shared;
use crate::seal::random::{self, OsRandom};
use crate::transport::connection::TransportError;
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, PushAnswer, PushReply};
use crate::wire::ids::DialId;
use crate::wire::limits::CANDIDATES_MAX;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{DialAnnounced, DialGranted, DialRequest};

/// How long the dialled session has to answer: what remains of the asker's 15 s is for the answer to arrive.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(10);

/// Announces a dial to the sessions of a person; the first that takes it is the one to dial.
pub(super) async fn dial(shared: &Shared, asker: &Session, request: DialRequest) -> DirectoryAnswer {
    let dialled = shared.registry.dialled(&request.to, asker);
    if dialled.iter().any(|session| session.key != request.key) {
        return Err(Refusal::KeyChanged);
    }
    let dial = DialId::from_bytes(random::array(&mut OsRandom));
    let candidates = candidates(observed(&asker.connection), request.candidates);
    let announced = DialAnnounced { dial, from: asker.name.clone(), key: asker.key, candidates };
    let mut answers = JoinSet::new();
    for session in dialled {
        answers.spawn(announce(session, announced.clone()));
    }
    let mut refusal = Refusal::Offline;
    while let Some(answer) = answers.join_next().await {
        match answer {
            Ok(Ok(candidates)) => return Ok(DirectoryReply::DialGranted(DialGranted { dial, candidates })),
            Ok(Err(Refusal::Offline)) => {}
            Ok(Err(no)) => refusal = no,
            Err(error) => tracing::error!(%error, "an announcement ended"),
        }
    }
    Err(refusal)
}

/// Where one session can be dialled, if it takes the dial.
async fn announce(session: Arc<Session>, announced: DialAnnounced) -> Result<Vec<SocketAddr>, Refusal> {
    let push = DirectoryPush::Dial(announced);
    let asked = session.connection.request::<_, PushAnswer>(&push);
    let answer = timeout(ANNOUNCE_DEADLINE, asked).await.unwrap_or(Err(TransportError::NoAnswer(ANNOUNCE_DEADLINE)));
    match answer {
        Ok(Ok(PushReply::Candidates(sent))) => Ok(candidates(observed(&session.connection), sent)),
        Ok(Ok(PushReply::Taken | PushReply::Left | PushReply::Receipt(_))) => Err(Refusal::NotAccepted),
        Ok(Err(refusal)) => Err(refusal),
        Err(error) => {
            tracing::debug!(peer = %session.name, %error, "dial not announced");
            // Not for being slow: whoever dials often could otherwise end the sessions of others.
            if is_violation(&error) {
                session.connection.close(CloseCode::BadFrame);
            }
            Err(Refusal::Offline)
        }
    }
}

/// The address that the directory sees, then what the session sent and others may be told.
fn candidates(observed: SocketAddr, sent: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut candidates = vec![observed];
    for address in sent {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if candidates.len() < CANDIDATES_MAX && !candidates.contains(&address) && may_tell(observed.ip(), address) {
            candidates.push(address);
        }
    }
    candidates
}

/// Whether a session may name an address as its own: the one it is seen with, or one of a private network, which is of
/// no use to make a stranger's machine a target. A session on the directory's own machine is trusted with any.
fn may_tell(observed: IpAddr, address: SocketAddr) -> bool {
    let ip = address.ip();
    let unicast = !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0;
    unicast && (ip == observed || observed.is_loopback() || is_private(ip))
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
    fn check(observed: &str, sent: &[&str], expected: &[&str]) {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let told = candidates(parse(observed), sent.iter().map(|text| parse(text)).collect());
        assert_eq!(told, expected.iter().map(|text| parse(text)).collect::<Vec<_>>());
    }

    #[test]
    fn the_address_the_directory_sees_comes_first() {
        check("192.0.2.1:9", &["10.0.0.1:9", "192.0.2.1:9"], &["192.0.2.1:9", "10.0.0.1:9"]);
        check("192.0.2.1:9", &["[::ffff:10.0.0.1]:9", "10.0.0.1:9"], &["192.0.2.1:9", "10.0.0.1:9"]);
    }

    #[test]
    fn nobody_elses_address_is_told() {
        check("192.0.2.1:9", &["203.0.113.5:53", "[2001:db8::1]:9", "192.0.2.1:10"], &["192.0.2.1:9", "192.0.2.1:10"]);
        check("192.0.2.1:9", &["0.0.0.0:9", "255.255.255.255:9", "224.0.0.1:9", "10.0.0.1:0"], &["192.0.2.1:9"]);
        check("127.0.0.1:9", &["203.0.113.5:9"], &["127.0.0.1:9", "203.0.113.5:9"]);
    }

    #[test]
    fn there_are_eight_at_most() {
        let sent: Vec<_> = (1..100).map(|n| SocketAddr::from(([10, 0, 0, n], 9))).collect();
        assert_eq!(candidates(SocketAddr::from(([192, 0, 2, 1], 9)), sent).len(), CANDIDATES_MAX);
    }
}
