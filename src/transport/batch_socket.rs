//! A UDP socket beside QUIC's that takes and gives many datagrams with one call of the kernel, and leaves them as they are.
//! What the kernel does not take at once is lost, as on the network: nobody waits.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::socket;
use super::tuning::Network;

/// Batches that one call takes.
pub const BATCHES: usize = 8;
/// The longest batch that the kernel makes of datagrams that came together.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// The longest that it takes, with room for the headers of IPv6.
const SENT_BYTES_MAX: usize = 65_000;

/// A bound socket.
#[derive(Debug)]
pub struct BatchSocket {
    io: UdpSocket,
    state: UdpSocketState,
    is_ipv6: bool,
    segmentation_offload: bool,
}

/// What [`BatchSocket::receive`] fills.
#[derive(Debug)]
pub struct Buffers {
    bytes: Vec<u8>,
    filled: [RecvMeta; BATCHES],
}

/// Datagrams that came together from one address: all of one length, the last perhaps shorter.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Where they came from, IPv4 in its plain form.
    pub from: SocketAddr,
    /// The address of this machine that they were sent to.
    pub to: Option<IpAddr>,
    /// One after the other.
    pub bytes: &'a [u8],
    /// How long each is.
    pub datagram_bytes: usize,
    congestion: Option<EcnCodepoint>,
}

impl<'a> Received<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks(self.datagram_bytes.max(1))
    }

    /// Datagrams that never came from anywhere.
    #[cfg(test)]
    pub(crate) fn made(bytes: &'a [u8], datagram_bytes: usize) -> Self {
        let from = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { from, to: None, bytes, datagram_bytes, congestion: None }
    }

    /// One datagram of the batch, or its beginning.
    #[must_use]
    pub fn part(&self, bytes: &'a [u8]) -> Self {
        Self { bytes, ..*self }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        // The system gives pages when they are first used: a quiet socket costs none.
        Self { bytes: vec![0; BATCHES * BATCH_BYTES_MAX], filled: [RecvMeta::default(); BATCHES] }
    }
}

impl BatchSocket {
    /// Binds a socket. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(address: SocketAddr, network: Network) -> io::Result<Self> {
        let socket = socket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let segmentation_offload = network.segmentation_offload;
        Ok(Self { io: UdpSocket::from_std(socket)?, state, is_ipv6, segmentation_offload })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Waits for datagrams.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn receive<'a>(&self, buffers: &'a mut Buffers) -> io::Result<impl Iterator<Item = Received<'a>>> {
        let Buffers { bytes, filled } = buffers;
        let count = loop {
            self.io.readable().await?;
            let mut slices: Vec<_> = bytes.chunks_exact_mut(BATCH_BYTES_MAX).map(IoSliceMut::new).collect();
            let received =
                self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slices, filled));
            match received {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        };
        let batches = filled.iter().take(count).zip(bytes.chunks_exact(BATCH_BYTES_MAX));
        Ok(batches.map(|(meta, bytes)| Received {
            from: canonical(meta.addr),
            to: meta.dst_ip,
            bytes: bytes.get(..meta.len).unwrap_or(bytes),
            datagram_bytes: meta.stride,
            congestion: meta.ecn,
        }))
    }

    /// Passes datagrams on as they came, and says how many the kernel did not take.
    pub fn forward(&self, to: SocketAddr, from: Option<IpAddr>, batch: Received<'_>) -> usize {
        let at_once = if self.segmentation_offload { self.state.max_gso_segments() } else { 1 };
        let length = batch.datagram_bytes.max(1);
        let piece_bytes = length * at_once.min(SENT_BYTES_MAX / length).max(1);
        let lost = |piece: &[u8]| match self.transmit(to, from, piece, length, batch.congestion) {
            Ok(()) => 0,
            Err(error) => {
                tracing::trace!(%error, "not forwarded");
                piece.len().div_ceil(length)
            }
        };
        batch.bytes.chunks(piece_bytes).map(lost).sum()
    }

    /// Sends one datagram; whether the kernel took it.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) -> bool {
        self.transmit(to, from, datagram, datagram.len(), None).is_ok()
    }

    fn transmit(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        contents: &[u8],
        datagram_bytes: usize,
        ecn: Option<EcnCodepoint>,
    ) -> io::Result<()> {
        let destination = match to {
            // An IPv6 socket of both families names IPv4 addresses in IPv6 form.
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        };
        let segment_size = (contents.len() > datagram_bytes).then_some(datagram_bytes);
        let transmit = Transmit { destination, ecn, contents, segment_size, src_ip: from };
        self.state.try_send((&self.io).into(), &transmit)
    }
}

/// IPv4 in its plain form; IPv6 as it is, because a link-local address needs its scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(socket: &BatchSocket, datagrams: usize) -> Vec<Vec<u8>> {
        let mut buffers = Buffers::default();
        let mut all = Vec::new();
        while all.len() < datagrams {
            let batches = socket.receive(&mut buffers).await.unwrap();
            all.extend(batches.flat_map(|batch| batch.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()));
        }
        all
    }

    fn bound(address: &str, segmentation_offload: bool) -> BatchSocket {
        BatchSocket::bind(address.parse().unwrap(), Network { segmentation_offload, ..Network::default() }).unwrap()
    }

    #[tokio::test]
    async fn datagrams_keep_their_lengths_in_batches_and_one_by_one() {
        for segmentation_offload in [true, false] {
            let (from, to) = (bound("127.0.0.1:0", segmentation_offload), bound("127.0.0.1:0", true));
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(6_500 * 9 + 77).collect();
            assert_eq!(from.forward(to.local_address().unwrap(), None, Received::made(&bytes, 6_500)), 0);
            let all = received(&to, 10).await;
            let sent: Vec<_> = bytes.chunks(6_500).map(<[u8]>::to_vec).collect();
            assert!(all == sent, "lengths {:?}", all.iter().map(Vec::len).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn what_the_network_does_not_take_is_counted() {
        let socket = bound("127.0.0.1:0", true);
        let batch = Received::made(&[0; 300], 100);
        // Port 0 is no destination.
        assert_eq!(socket.forward("127.0.0.1:0".parse().unwrap(), None, batch), 3);
        assert!(!socket.send("127.0.0.1:0".parse().unwrap(), None, &[0]));
    }

    #[tokio::test]
    async fn a_socket_of_both_families_hears_and_answers_both() {
        let both = bound("[::]:0", true);
        let port = both.local_address().unwrap().port();
        for client in ["127.0.0.1:0", "[::1]:0"] {
            let client = bound(client, true);
            let own = client.local_address().unwrap();
            assert!(client.send(SocketAddr::new(own.ip(), port), None, b"there"));
            let mut buffers = Buffers::default();
            let batch = both.receive(&mut buffers).await.unwrap().next().unwrap();
            assert_eq!((batch.from, batch.bytes), (own, &b"there"[..]));
            assert_eq!(batch.to.map(|ip| ip.to_canonical()), Some(own.ip()));
            assert_eq!(both.forward(batch.from, batch.to, batch), 0);
            assert_eq!(received(&client, 1).await, [b"there"]);
        }
    }
}
