//! Looks for what is in the way between this machine and a directory: names, keys, blocked UDP, the size of packets, the
//! relay and the kind of NAT. Keeps nothing and changes nothing; each check says one sentence, and what to do.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::UdpSocket;

use super::directory_link::{DirectoryAddress, connect_failure};
use super::failure::{Failure, FailureKind};
use super::observation;
use super::path::Nat;
use crate::clock::now_millis;
use crate::seal::identity::{IdentityKey, Label, login_statement};
use crate::seal::random::OsRandom;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Endpoint;
use crate::transport::tuning::{HANDSHAKE_DEADLINE, Network};
use crate::transport::verify::AnnouncedDials;
use crate::wire::account::{LoggedIn, Login, LoginKind};
use crate::wire::datagram::Datagram;
use crate::wire::directory::{DirectoryAnswer, DirectoryReply, DirectoryRequest};
use crate::wire::ids::{DirectoryFingerprint, PeerName};
use crate::wire::refusal::CloseCode;
use crate::wire::rendezvous::PortTicket;

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename = "finding")]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it is.
    pub verdict: Verdict,
    /// That in a sentence.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The account's folder on this disk.
    Profile,
    /// The directory's host name.
    Host,
    /// Whether the directory answers over UDP, for each address family.
    Directory,
    /// The directory's key.
    Key,
    /// The largest packet that passes.
    PacketSize,
    /// Whether the account gets in.
    Login,
    /// This machine's clock beside the directory's.
    Clock,
    /// The directory's relay.
    Relay,
    /// What routers make of this machine's address.
    Nat,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works with a restriction, or could not be looked at.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    /// A finding without advice.
    pub fn new(check: Check, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { check, verdict, text: text.into(), advice: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// How long nothing may come back before UDP counts as blocked beside the handshake's own patience.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// Path MTU discovery is done when it has changed nothing for this long: a lost probe is repeated twice.
const SIZE_SETTLED: Duration = Duration::from_secs(1);
/// And is waited for no longer than this.
const SIZE_PATIENCE: Duration = Duration::from_secs(4);
/// Questions to the relay's port, and how long each waits for its answer.
const OBSERVE_TRIES: usize = 4;
const OBSERVE_INTERVAL: Duration = Duration::from_millis(500);
/// Clocks that differ by more than this make times of messages confusing.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(5 * 60);
/// What any path carries (RFC 9000, section 14).
const SMALLEST_PACKET: u16 = 1_200;

/// Who looks at which directory.
#[derive(Debug)]
pub struct Doctor<'a> {
    /// The directory.
    pub directory: &'a DirectoryAddress,
    /// Its key, when this machine knows it.
    pub pinned: Option<DirectoryFingerprint>,
    /// The account, when it has a key here.
    pub account: Option<(&'a PeerName, &'a IdentityKey)>,
    /// The user's settings.
    pub network: Network,
}

impl Doctor<'_> {
    /// Runs every check of the network, and tells each finding as it comes.
    ///
    /// # Errors
    /// The [`Failure`] for which nothing works: no directory, or another key than the trusted one.
    pub async fn examine(&self, tell: &mut (dyn FnMut(Finding) + Send)) -> Result<(), Failure> {
        let addresses = self.directory.resolve().await.inspect_err(|failure| {
            tell(Finding::new(Check::Host, Verdict::Fail, failure.message.clone()));
        })?;
        let addresses = one_of_each_family(&addresses);
        let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
        let text = format!("{} is {}", self.directory.host, listed.join(" and "));
        tell(Finding::new(Check::Host, Verdict::Ok, text));

        let stranger = IdentityKey::generate(&mut OsRandom);
        let endpoint = Endpoint::peer_any(&stranger, &AnnouncedDials::default(), self.network)?;
        let (connection, fingerprint) = self.reach(&endpoint, &addresses, tell).await?;
        tell(key_finding(self.pinned, fingerprint));
        tell(size_finding(settled_size(&connection).await));
        match self.account {
            None => {
                let text = "nobody is logged in, so relay, NAT and clock are not looked at";
                tell(
                    Finding::new(Check::Login, Verdict::Warn, text)
                        .advice("name an account that this machine has a key for, with --user"),
                );
            }
            Some((name, identity)) => self.ask(&endpoint, &connection, fingerprint, name, identity, tell).await,
        }
        endpoint.close(CloseCode::Done);
        endpoint.wait_closed().await;
        Ok(())
    }

    /// Connects over every family at once, tells of each, and goes on with the first that answers.
    async fn reach(
        &self,
        endpoint: &Endpoint,
        addresses: &[SocketAddr],
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<(Connection, DirectoryFingerprint), Failure> {
        let mut attempts = tokio::task::JoinSet::new();
        for &address in addresses {
            let (endpoint, pinned) = (endpoint.clone(), self.pinned);
            attempts.spawn(async move {
                let began = Instant::now();
                let connected = endpoint.connect_directory(address, pinned).await;
                (address, connected, began.elapsed())
            });
        }
        let (mut reached, mut failed) = (None, Vec::new());
        while let Some(Ok((address, connected, took))) = attempts.join_next().await {
            match connected {
                Ok(found) => {
                    let text = format!("{} answers: handshake in {} ms", family(address), took.as_millis());
                    tell(Finding::new(Check::Directory, Verdict::Ok, text));
                    reached.get_or_insert(found);
                }
                Err(error) => failed.push((address, error)),
            }
        }
        for (address, error) in &failed {
            tell(silence_finding(*address, error, reached.is_some()));
        }
        match reached {
            Some(reached) => Ok(reached),
            None => Err(self.why_unreachable(failed).await),
        }
    }

    async fn why_unreachable(&self, failed: Vec<(SocketAddr, TransportError)>) -> Failure {
        let mut silent = Vec::new();
        for (address, error) in failed {
            match error {
                TransportError::TimedOut => silent.push(address),
                // It answered: that says more than the silence of the other family.
                error => return connect_failure(self.directory, error),
            }
        }
        for address in silent {
            if is_port_closed(address).await {
                let message = format!(
                    "UDP port {} of {} is closed: no directory runs there, or a firewall on the way refuses UDP",
                    address.port(),
                    address.ip()
                );
                return Failure::new(FailureKind::DirectoryUnreachable, message).hint(
                    "is `qchat serve` running there, and is this the port it printed? If others reach it, try another \
                     network: qchat needs UDP",
                );
            }
        }
        let message = format!(
            "nothing comes back from {} over UDP: UDP is blocked on the way, or the directory is off",
            self.directory
        );
        Failure::new(FailureKind::DirectoryUnreachable, message).hint(
            "ask whether the directory runs; if others reach it, try another network (a telephone's hotspot), or have \
             this one's firewall allow outgoing UDP: qchat needs it",
        )
    }

    /// What only somebody who is logged in is told.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        connection: &Connection,
        fingerprint: DirectoryFingerprint,
        name: &PeerName,
        identity: &IdentityKey,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) {
        let logged_in = match log_in(connection, fingerprint, name, identity).await {
            Ok(logged_in) => logged_in,
            Err(failure) => {
                let finding = Finding::new(Check::Login, Verdict::Warn, format!("{name} does not get in: {failure}"));
                tell(Finding { advice: failure.hint, ..finding });
                return;
            }
        };
        tell(Finding::new(Check::Login, Verdict::Ok, format!("{name} gets in with the key on this machine")));
        if let Some(difference) = clock_difference(connection).await {
            tell(clock_finding(difference));
        }
        let remote = connection.remote_address();
        let second = match logged_in.observe {
            None => None,
            Some(observe) => observed_from(endpoint, remote.ip(), observe).await,
        };
        tell(relay_finding(logged_in.observe, second));
        let local = endpoint.local_address_towards(remote).ok();
        tell(nat_finding(local, logged_in.observed, second));
    }
}

fn one_of_each_family(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = |is_ipv4| addresses.iter().copied().find(|address| address.is_ipv4() == is_ipv4);
    [first(true), first(false)].into_iter().flatten().collect()
}

fn family(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn silence_finding(address: SocketAddr, error: &TransportError, other_works: bool) -> Finding {
    let text = match error {
        TransportError::TimedOut => {
            format!("{}: no directory answers within {} s", family(address), HANDSHAKE_DEADLINE.as_secs())
        }
        error => format!("{}: {error}", family(address)),
    };
    if other_works {
        Finding::new(Check::Directory, Verdict::Warn, text).advice("the other family works, and is used")
    } else {
        Finding::new(Check::Directory, Verdict::Fail, text)
    }
}

/// Whether the machine, or a firewall in its place, says at once that nobody listens there (ICMP).
async fn is_port_closed(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let probe = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.send(&Datagram::Opener.encode()).await?;
        socket.recv(&mut [0; 1]).await
    };
    let answer = tokio::time::timeout(PROBE_PATIENCE, probe).await;
    answer.is_ok_and(|received| received.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused))
}

fn key_finding(pinned: Option<DirectoryFingerprint>, found: DirectoryFingerprint) -> Finding {
    match pinned {
        Some(_) => Finding::new(Check::Key, Verdict::Ok, "the directory has the key that this machine trusts"),
        None => Finding::new(
            Check::Key,
            Verdict::Warn,
            format!("this machine does not know the directory yet: its key is {found}"),
        )
        .advice("compare it with what its operator tells you, or use the qchat:// link"),
    }
}

/// The packet size once path MTU discovery has come to rest.
async fn settled_size(connection: &Connection) -> u16 {
    let began = Instant::now();
    let (mut size, mut since) = (connection.mtu(), began);
    while since.elapsed() < SIZE_SETTLED && began.elapsed() < SIZE_PATIENCE {
        tokio::time::sleep(SIZE_SETTLED / 20).await;
        if connection.mtu() != size {
            (size, since) = (connection.mtu(), Instant::now());
        }
    }
    size
}

fn size_finding(size: u16) -> Finding {
    if size > SMALLEST_PACKET {
        return Finding::new(Check::PacketSize, Verdict::Ok, format!("packets of {size} bytes pass"));
    }
    Finding::new(
        Check::PacketSize,
        Verdict::Warn,
        format!("no packet larger than {size} bytes passes: files are slower"),
    )
    .advice("a VPN or tunnel with a small MTU is the usual reason")
}

async fn log_in(
    connection: &Connection,
    fingerprint: DirectoryFingerprint,
    name: &PeerName,
    identity: &IdentityKey,
) -> Result<LoggedIn, Failure> {
    let statement = login_statement(&fingerprint, name, &connection.login_binding());
    let login = Login {
        name: name.clone(),
        key: identity.public(),
        kind: LoginKind::Errand { collects: false },
        proof: identity.sign(Label::Login, &statement),
        password: None,
        register: false,
        token: None,
        undo: false,
    };
    let answer: Result<DirectoryAnswer, _> = connection.request(&DirectoryRequest::Login(Box::new(login))).await;
    match answer? {
        Ok(DirectoryReply::LoggedIn(logged_in)) => Ok(logged_in),
        Ok(other) => Err(super::context::unexpected(&other)),
        Err(refusal) => Err(Failure::from(refusal)),
    }
}

/// How far the directory's clock is from ours: it says when this session began.
async fn clock_difference(connection: &Connection) -> Option<Duration> {
    let answer: DirectoryAnswer = connection.request(&DirectoryRequest::Sessions).await.ok()?;
    let Ok(DirectoryReply::Sessions { sessions }) = answer else { return None };
    let began = sessions.iter().find(|session| session.this)?.since;
    Some(Duration::from_millis(began.0.abs_diff(now_millis().0)))
}

fn clock_finding(difference: Duration) -> Finding {
    if difference <= CLOCK_DIFFERENCE_MAX {
        return Finding::new(Check::Clock, Verdict::Ok, "this machine and the directory agree on the time");
    }
    let text = format!("this machine's clock and the directory's are {} minutes apart", difference.as_secs() / 60);
    Finding::new(Check::Clock, Verdict::Warn, text).advice("set the clock: times of messages will confuse people")
}

/// Asks the relay from where it sees this socket.
async fn observed_from(endpoint: &Endpoint, directory: IpAddr, observe: PortTicket) -> Option<SocketAddr> {
    let port = SocketAddr::new(directory, observe.port);
    let answer = async {
        loop {
            let (from, heard) = endpoint.receive_datagram().await?;
            if from != port {
                continue;
            }
            match heard {
                Datagram::Observed { ticket, address } if ticket == observe.ticket => return Some(address),
                heard => {
                    if let Some(proof) = observation::proof(observe.ticket, heard) {
                        endpoint.send_datagram(port, &proof, None);
                    }
                }
            }
        }
    };
    let asking = async {
        for _ in 0..OBSERVE_TRIES {
            endpoint.send_datagram(port, &Datagram::Observe { ticket: observe.ticket }, None);
            tokio::time::sleep(OBSERVE_INTERVAL).await;
        }
    };
    tokio::select! {
        answer = answer => answer,
        () = asking => None,
    }
}

fn relay_finding(observe: Option<PortTicket>, second: Option<SocketAddr>) -> Finding {
    match (observe, second) {
        (None, _) => Finding::new(Check::Relay, Verdict::Warn, "this directory does not relay")
            .advice("people behind difficult routers cannot send each other files here"),
        (Some(observe), None) => {
            let text = format!("the relay's UDP port {} does not answer", observe.port);
            Finding::new(Check::Relay, Verdict::Warn, text).advice(
                "its operator opens the ports of `serve --relay-ports` too; a firewall here may allow only some ports",
            )
        }
        (Some(observe), Some(_)) => {
            Finding::new(Check::Relay, Verdict::Ok, format!("the relay answers on UDP port {}", observe.port))
        }
    }
}

/// What the addresses under which one socket is seen say about the routers in between (RFC 4787, section 4.1).
fn nat_finding(local: Option<SocketAddr>, first: SocketAddr, second: Option<SocketAddr>) -> Finding {
    match observation::nat_between(local, first, second) {
        Some(Nat::None) => {
            let text = format!("no NAT: others see this machine at its own address {}", first.ip());
            Finding::new(Check::Nat, Verdict::Ok, text)
        }
        Some(Nat::EndpointIndependent) => Finding::new(
            Check::Nat,
            Verdict::Ok,
            "NAT that keeps your port for every destination: direct connections work with almost everybody",
        ),
        Some(Nat::AddressDependent) => Finding::new(
            Check::Nat,
            Verdict::Warn,
            "NAT with a port per destination (symmetric): the directory and its relay see two addresses",
        )
        .advice(
            "direct only with people whose router is easier, otherwise through the relay: it works, perhaps slower",
        ),
        None => {
            let text = format!("there is a NAT (others see {first}); which kind only the relay could tell");
            Finding::new(Check::Nat, Verdict::Warn, text)
        }
    }
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
