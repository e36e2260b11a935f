//! Connections straight to other peers: dialled through the directory's announcement, accepted when announced.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::contacts;
use super::context::{Context, unexpected};
use super::failure::{Failure, FailureKind};
use super::upload;
use crate::storage::shares;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Incoming;
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{CANDIDATES_MAX, DIAL_LIFETIME};
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

/// The local address from which this machine reaches the directory: what peers on the same network can use.
fn own_candidates(context: &Context) -> Vec<SocketAddr> {
    let session = context.session.borrow().clone();
    let towards = session.and_then(|session| context.endpoint.local_address_towards(session.remote_address()).ok());
    towards.into_iter().collect()
}

/// The addresses worth dialling, whatever the other side or the directory says.
fn usable_candidates(context: &Context, candidates: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(own) = own_candidates(context).pop() else { return Vec::new() };
    let mut usable: Vec<SocketAddr> = Vec::new();
    for address in candidates {
        let suits = address.port() != 0 && is_reachable(address.ip(), own.ip());
        if suits && !usable.contains(&address) && usable.len() < CANDIDATES_MAX {
            usable.push(address);
        }
    }
    usable
}

/// Whether an address is unicast, of our family, and on a network that we can be on: nobody can send us knocking at
/// addresses of our own machine or of private networks that are not ours.
fn is_reachable(address: IpAddr, own: IpAddr) -> bool {
    match (address, own) {
        (IpAddr::V4(address), IpAddr::V4(own)) => {
            let is_unicast = !address.is_multicast() && !address.is_broadcast() && address.octets()[0] != 0;
            is_unicast && private_network_v4(address).is_none_or(|network| private_network_v4(own) == Some(network))
        }
        (IpAddr::V6(address), IpAddr::V6(own)) => {
            let is_unicast = !address.is_multicast() && !address.is_unspecified();
            is_unicast && private_network_v6(address).is_none_or(|network| private_network_v6(own) == Some(network))
        }
        _ => false,
    }
}

/// Which network that is not the internet an address belongs to (RFC 1122, RFC 1918, RFC 3927).
fn private_network_v4(address: Ipv4Addr) -> Option<u8> {
    match address.octets() {
        [127, ..] => Some(127),
        [10, ..] => Some(10),
        [172, 16..=31, ..] => Some(172),
        [192, 168, ..] => Some(192),
        [169, 254, ..] => Some(169),
        _ => None,
    }
}

/// The same for IPv6: loopback, unique local by its prefix (RFC 4193), link local.
fn private_network_v6(address: Ipv6Addr) -> Option<[u16; 3]> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some([0, 0, 1]),
        [first @ 0xfc00..=0xfdff, second, third, ..] => Some([first, second, third]),
        [0xfe80..=0xfebf, ..] => Some([0xfe80, 0, 0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, own: &str, expected: bool) {
        assert_eq!(is_reachable(address.parse().unwrap(), own.parse().unwrap()), expected, "{address} from {own}");
    }

    #[test]
    fn only_the_internet_and_our_own_networks_are_dialled() {
        check("203.0.113.7", "192.168.1.2", true);
        check("192.168.1.9", "192.168.1.2", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("2001:db8::1", "2001:db8::2", true);
        check("fd12:3456:789a::1", "fd12:3456:789a:1::2", true);
        check("127.0.0.1", "192.168.1.2", false);
        check("10.0.0.1", "192.168.1.2", false);
        check("192.168.1.9", "203.0.113.7", false);
        check("224.0.0.1", "192.168.1.2", false);
        check("255.255.255.255", "192.168.1.2", false);
        check("0.0.0.0", "192.168.1.2", false);
        check("fd00::1", "2001:db8::2", false);
        check("::1", "2001:db8::2", false);
        check("2001:db8::1", "192.168.1.2", false);
    }
}
