//! The one UDP socket of a process: QUIC as client and as server share it, and so do the datagrams beside QUIC
//! (`wire/datagram.rs`), which never reach quinn. Does not know what those are for.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Mutex, mpsc, watch};

use super::tuning::SOCKET_BUFFER_BYTES;
use crate::wire::datagram::{Datagram, is_beside_quic};
use crate::wire::limits::DATAGRAM_QUEUE_MAX;

/// Binds a UDP socket with large kernel buffers. The unspecified IPv6 address takes both families, any other IPv6
/// address takes IPv6 only.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Smaller buffers than asked for cost speed, not correctness.
    for result in [socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES), socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)] {
        if let Err(error) = result {
            tracing::debug!(%error, "the kernel refused the socket buffer size");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The local address from which packets to `remote` leave. Sends nothing.
pub(super) fn local_address_towards(remote: SocketAddr) -> io::Result<SocketAddr> {
    let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let probe = UdpSocket::bind(any)?;
    probe.connect(remote)?;
    probe.local_addr()
}

/// An address as everybody else writes it: a socket of both families shows IPv4 inside IPv6 (RFC 4291, section 2.5.5.2).
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What became of datagrams beside QUIC that did not arrive where they should.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramsLost {
    /// They came while [`DATAGRAM_QUEUE_MAX`] others waited.
    pub overflowed: u64,
    /// They came, and are none of ours.
    pub malformed: u64,
    /// The operating system did not take them.
    pub unsent: u64,
}

/// The end of the socket that is not QUIC's.
#[derive(Debug)]
pub(super) struct BesideQuic {
    socket: Arc<SharedSocket>,
    received: Mutex<mpsc::Receiver<(SocketAddr, Datagram)>>,
    closed: watch::Sender<bool>,
}

impl BesideQuic {
    /// Shares a socket between quinn, which gets the first of the two, and the datagrams beside QUIC.
    pub(super) fn share(socket: UdpSocket) -> io::Result<(Arc<SharedSocket>, Self)> {
        let (queue, received) = mpsc::channel(DATAGRAM_QUEUE_MAX);
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let plain = socket.try_clone()?;
        let quic = TokioRuntime.wrap_udp_socket(socket)?; // makes the clone non-blocking too: they are one socket
        let socket = Arc::new(SharedSocket { quic, plain, is_ipv6, queue, lost: Counters::default() });
        let received = Mutex::new(received);
        Ok((socket.clone(), Self { socket, received, closed: watch::Sender::new(false) }))
    }

    pub(super) fn send(&self, to: SocketAddr, datagram: &Datagram, hops: Option<u8>) {
        let to = match to {
            SocketAddr::V4(to) if self.socket.is_ipv6 => {
                SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into()
            }
            to => to,
        };
        let (bytes, socket) = (datagram.encode(), &self.socket.plain);
        let sent = match hops {
            None => socket.send_to(&bytes, to).map(drop),
            Some(hops) => send_with_hops(socket, &bytes, to, hops),
        };
        if let Err(error) = sent {
            self.socket.lost.unsent.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, "a datagram beside QUIC was not sent");
        }
    }

    /// `None` once [`Self::close`] was called.
    pub(super) async fn receive(&self) -> Option<(SocketAddr, Datagram)> {
        let mut received = self.received.lock().await;
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|is_closed| *is_closed) => None,
            datagram = received.recv() => datagram,
        }
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) fn lost(&self) -> DatagramsLost {
        let Counters { overflowed, malformed, unsent } = &self.socket.lost;
        let [overflowed, malformed, unsent] =
            [overflowed, malformed, unsent].map(|count| count.load(Ordering::Relaxed));
        DatagramsLost { overflowed, malformed, unsent }
    }
}

/// Sends one datagram that dies after so many routers. The limit travels with this datagram alone: an option of the
/// socket would also hold for QUIC's packets that are sent meanwhile.
#[cfg(target_os = "linux")]
fn send_with_hops(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, hops: u8) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
    use std::os::fd::AsRawFd;

    let hops = i32::from(hops);
    // The kernel takes the option of the family that the packet has on the wire, whatever the socket's is.
    let limit = match canonical(to) {
        SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(&hops),
        SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(&hops),
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket.as_raw_fd(), &[io::IoSlice::new(bytes)], &[limit], MsgFlags::empty(), Some(&to))?;
    Ok(())
}

/// Elsewhere nothing is sent rather than something that arrives: only few routers need what dies on the way.
#[cfg(not(target_os = "linux"))]
fn send_with_hops(_socket: &UdpSocket, _bytes: &[u8], _to: SocketAddr, _hops: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// quinn's end of the socket: sending is untouched, and of what comes quinn sees QUIC only.
#[derive(Debug)]
pub(super) struct SharedSocket {
    quic: Arc<dyn AsyncUdpSocket>,
    /// The same socket as the operating system has it.
    plain: UdpSocket,
    is_ipv6: bool,
    /// A full queue drops what comes, so that nobody who floods us with datagrams holds up QUIC.
    queue: mpsc::Sender<(SocketAddr, Datagram)>,
    lost: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    overflowed: AtomicU64,
    malformed: AtomicU64,
    unsent: AtomicU64,
}

impl SharedSocket {
    fn take(&self, from: SocketAddr, bytes: &[u8]) {
        let lost = match Datagram::decode(bytes) {
            Some(datagram) if self.queue.try_send((canonical(from), datagram)).is_ok() => return,
            Some(_) => &self.lost.overflowed,
            None => &self.lost.malformed,
        };
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsyncUdpSocket for SharedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.quic.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.quic.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.quic.poll_recv(cx, buffers, metas))?;
        for (buffer, meta) in buffers.iter_mut().zip(metas).take(count) {
            let from = meta.addr;
            meta.len = keep_quic(&mut buffer[..meta.len], meta.stride, |datagram| self.take(from, datagram));
        }
        // quinn skips entries of no bytes, and counts them as work: a flood of datagrams does not keep it here.
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.quic.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.quic.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.quic.may_fragment()
    }
}

/// Takes the datagrams beside QUIC out of what one sender sent: datagrams of `stride` bytes in a row, the last one perhaps
/// shorter (generic receive offload). Returns how many bytes at the beginning are QUIC's; without any of the others
/// nothing is moved.
fn keep_quic(bytes: &mut [u8], stride: usize, mut take: impl FnMut(&[u8])) -> usize {
    let (mut kept, mut start) = (0, 0);
    while start < bytes.len() {
        let end = bytes.len().min(start + stride.max(1));
        if is_beside_quic(&bytes[start..end]) {
            take(&bytes[start..end]);
        } else {
            if kept < start {
                bytes.copy_within(start..end, kept);
            }
            kept += end - start;
        }
        start = end;
    }
    kept
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
