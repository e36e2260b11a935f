//! Every setting of QUIC with its reason. Bounds on what we hold are in `wire/limits.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{ControllerFactory, CubicConfig};
use quinn::crypto::HmacKey;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion::ShortQueueConfig;
use super::connection_id::SignedIds;

/// Settings of a process that its user may change.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// Generic segmentation offload: 1.8 times the throughput where the network card and its driver do it right.
    pub segmentation_offload: bool,
    /// Largest UDP payload that path MTU discovery tries between two peers, and that is taken; 1,200 at least.
    pub packet_bytes_max: u16,
}

impl Default for Network {
    fn default() -> Self {
        Self { segmentation_offload: true, packet_bytes_max: PACKET_BYTES_MAX }
    }
}

/// What is between this machine and another, which decides how it is found out how fast to send.
///
/// Measured for 100 Mbit/s with a queue of 100 ms (CUBIC, quinn's BBR and [`ShortQueueConfig`]; Mbit/s, and the delay that
/// messages see at most in 99 of 100 cases beyond that of the idle way, in ms):
///
/// | round trip | CUBIC | BBR | `ShortQueue` |
/// |---|---|---|---|
/// | 1 ms | 95, 100 | 94, 2 | 95, 18 |
/// | 50 ms | 94, 100 | 94, 50 | 92, 22 |
/// | 50 ms, 1 % loss | 2.5, 55 | 92, 151 | 87, 23 |
/// | 50 ms, a queue of 10 ms | 91, 10 | 90 (and half of all packets lost), 70 | 81, 12 |
/// | 20 ms, one of CUBIC and one of ours | 53 | - | 45 |
///
/// `cargo bench --bench compare -- links` measures whole transfers beside TCP of the kernel, with a queue of one round trip.
/// Over 50 ms ours gets 88 of 100 Mbit/s, 87 with 1 % loss, and 448 of 1,000 with 1 % loss. Beside one TCP
/// stream with CUBIC ours takes half of 100 Mbit/s over 50 ms, and seven tenths over 20 ms, where the queue is so short that
/// CUBIC often finds it full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// This machine, or one in the same building: queues are short and nothing is lost. CUBIC costs least.
    Near,
    /// Through somebody's uplink, and perhaps radio: also whatever comes through a relay, wherever that is.
    Far,
}

impl Way {
    /// The way to an address, unless a relay is there.
    pub(super) fn to(address: IpAddr) -> Self {
        let is_near = match address.to_canonical() {
            IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
            IpAddr::V6(address) => {
                address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
            }
        };
        if is_near { Self::Near } else { Self::Far }
    }

    fn send_window(self) -> u64 {
        match self {
            Self::Near => PEER_SEND_WINDOW_NEAR,
            Self::Far => PEER_SEND_WINDOW,
        }
    }

    fn congestion(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Near => {
                let mut cubic = CubicConfig::default();
                cubic.initial_window(INITIAL_WINDOW);
                Arc::new(cubic)
            }
            Self::Far => Arc::new(ShortQueueConfig { initial_window: INITIAL_WINDOW }),
        }
    }
}

/// Largest UDP payload that path MTU discovery tries. The cost of QUIC is per packet, so this doubles what loopback
/// and jumbo-frame networks carry; above 6,550 ten segments of one GSO call exceed a UDP datagram and are lost.
const PACKET_BYTES_MAX: u16 = 6_500;

/// The same on a link to a directory: what nearly every way of the Internet carries. More would make its few small frames
/// no faster, but is probed for after each login, and quinn holds a buffer of that size for each connection.
const DIRECTORY_PACKET_BYTES_MAX: u16 = 1_452;

/// QUIC's own minimum (RFC 9000, section 14).
const PACKET_BYTES_MIN: u16 = 1_200;

/// Kernel buffers that hold a round trip of a fast network; the kernel clips what it does not allow.
pub(super) const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The first retransmission of a lost first packet comes after three of these instead of after a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// And not before three of these, however near a peer was measured to be: it has signatures and keys to compute first.
const INITIAL_RTT_MIN: Duration = Duration::from_millis(20);

/// Bytes that a new connection may have in flight (RFC 9002, section 7.2, for packets as large as ours may become).
/// quinn's 12,000 are used up by one probe of the path's MTU and one packet of that size, and quinn holds a close back
/// while they are: the other side would hear of a reset, or nothing, instead of the reason.
const INITIAL_WINDOW: u64 = 14_720;

/// A whole handshake, with two lost first packets.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(6);

/// Streams of a connection to a directory before login: the login and one to spare.
const STREAMS_BEFORE_LOGIN: u32 = 2;
/// And after it: twice as many as are answered at a time. A stream counts until its answer was acknowledged, which whoever
/// has nothing to send puts off for 25 ms: with the others to spare the next requests go, and carry the acknowledgement.
const STREAMS_AFTER_LOGIN: u32 = 16;
/// One control frame and its header fit; quinn 0.11 cannot change it for a live connection.
const CONTROL_STREAM_WINDOW: u32 = 64 * 1024 + 1024;
/// A connection window of one login before it, on all streams together: what a stranger sends and nobody reads.
const CONTROL_WINDOW_BEFORE_LOGIN: u32 = 4 * 1024 + 256;
/// And after it.
const CONTROL_WINDOW_AFTER_LOGIN: u32 = 256 * 1024;

/// Streams between two peers at a time.
const PEER_STREAMS: u32 = 64;
/// More than 2.25 MiB can hold over 1,024 gaps under loss, and then quinn gives the connection up.
const PEER_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// Several file streams of a long fat path together.
const PEER_WINDOW: u32 = 16 * 1024 * 1024;
/// What quinn holds of a connection until it is acknowledged, on a way with a long round trip.
const PEER_SEND_WINDOW: u64 = 8 * 1024 * 1024;
/// And on a short one: 10 Gbit/s in a millisecond. It stays in a core's cache until it is sent, which more does not.
const PEER_SEND_WINDOW_NEAR: u64 = 1024 * 1024;

/// Directory links: a NAT forgets a UDP binding after 30 s of silence, a dead peer shows within 20 s.
const DIRECTORY_KEEP_ALIVE: Duration = Duration::from_secs(8);
const DIRECTORY_IDLE: Duration = Duration::from_secs(20);
/// Peer links, also while nothing runs over them: a killed peer is noticed while its file is still on the screen, and no
/// message goes into a dead link for longer than this. A link is kept for two minutes, which costs 40 small packets.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(3);
const PEER_IDLE: Duration = Duration::from_secs(10);

/// What both ends of a link between peer and directory set.
pub(super) fn directory_link(network: Network) -> Arc<TransportConfig> {
    let packet_bytes_max = network.packet_bytes_max.min(DIRECTORY_PACKET_BYTES_MAX);
    let mut config = common(Network { packet_bytes_max, ..network }, DIRECTORY_KEEP_ALIVE, DIRECTORY_IDLE);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BEFORE_LOGIN))
        .stream_receive_window(VarInt::from_u32(CONTROL_STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONTROL_WINDOW_BEFORE_LOGIN))
        .send_window(u64::from(CONTROL_WINDOW_AFTER_LOGIN));
    Arc::new(config)
}

/// Gives a directory link that has logged in its streams and window.
pub(super) fn raise_after_login(connection: &quinn::Connection) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_AFTER_LOGIN));
    connection.set_receive_window(VarInt::from_u32(CONTROL_WINDOW_AFTER_LOGIN));
}

/// What both ends of a link between two peers set. A round-trip time that was measured on the path replaces the guess.
pub(super) fn peer_link(network: Network, way: Way, round_trip: Option<Duration>) -> Arc<TransportConfig> {
    let mut config = common(network, PEER_KEEP_ALIVE, PEER_IDLE);
    config
        .congestion_controller_factory(way.congestion())
        .initial_rtt(round_trip.map_or(INITIAL_RTT, |measured| measured.max(INITIAL_RTT_MIN)))
        .max_concurrent_bidi_streams(VarInt::from_u32(PEER_STREAMS))
        .stream_receive_window(VarInt::from_u32(PEER_STREAM_WINDOW))
        .receive_window(VarInt::from_u32(PEER_WINDOW))
        .send_window(way.send_window());
    Arc::new(config)
}

/// What the socket as a whole sets.
///
/// The key outlives the process, so that after a crash and restart the other sides are told at once that their
/// connections are gone (stateless reset, RFC 9000, section 10.3): packets of an earlier process are known by the
/// signature in their connection ids, and answered; garbage is not.
pub(super) fn endpoint(key: impl HmacKey + 'static, network: Network) -> EndpointConfig {
    let key: Arc<dyn HmacKey> = Arc::new(key);
    let ids = SignedIds::new(key.clone());
    let mut config = EndpointConfig::new(key);
    config.cid_generator(move || Box::new(ids.clone()));
    config.grease_quic_bit(false); // datagrams with the bit cleared are left for punching
    let bound = network.packet_bytes_max.max(PACKET_BYTES_MIN);
    config.max_udp_payload_size(bound).expect("the bound is not below QUIC's minimum");
    config
}

/// Bounds what connections that are not accepted yet can hold: 256 of them with 16 KiB each.
pub(super) fn bound_handshakes(config: &mut quinn::ServerConfig) {
    config.max_incoming(256).incoming_buffer_size(16 * 1024).incoming_buffer_size_total(4 * 1024 * 1024);
}

fn common(network: Network, keep_alive: Duration, idle: Duration) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(network.packet_bytes_max);
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(Way::Near.congestion())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(keep_alive))
        .max_idle_timeout(Some(IdleTimeout::try_from(idle).expect("an idle timeout of seconds fits")))
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(network.segmentation_offload);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_what_no_router_of_the_internet_knows() {
        let check = |text: &str, expected: Way| assert_eq!(Way::to(text.parse().unwrap()), expected, "{text}");
        for near in ["127.0.0.1", "::1", "192.168.1.2", "10.0.0.1", "172.31.0.1", "169.254.1.1", "fe80::1", "fd00::1"] {
            check(near, Way::Near);
        }
        check("::ffff:192.168.1.2", Way::Near);
        for far in ["203.0.113.1", "100.64.0.1", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            check(far, Way::Far);
        }
    }
}
