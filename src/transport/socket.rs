//! The one UDP socket of a process: QUIC as client and as server share it.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::tuning::SOCKET_BUFFER_BYTES;

/// Binds a UDP socket with large kernel buffers. An IPv6 address takes IPv6 only.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
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
