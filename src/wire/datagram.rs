//! What travels beside QUIC on the same UDP sockets: openers and punches between peers, and what peers and the relay say
//! to each other. The first byte is below 0x40, where a QUIC packet of ours always has the fixed bit (RFC 9000, section
//! 17.2), so the two cannot be mistaken for each other (as in RFC 9443).
//!
//! A request to the relay is padded to [`REQUEST_BYTES`], which no answer exceeds: nobody can make it send a stranger
//! more than it received.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::ids::{DialId, Ticket};

/// The length of every request to the relay; its answers are shorter.
pub const REQUEST_BYTES: usize = 64;

/// What one datagram beside QUIC says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// Opens the sender's own NAT and dies on the way: one byte.
    Opener,
    /// "I am here": the other side may dial where this came from, when the dial is one of its own. 17 bytes.
    Punch {
        /// The announced dial, which nobody else knows.
        dial: DialId,
    },
    /// To the relay: the sender of this is a leg of a relayed session.
    Join {
        /// Which leg of which session.
        ticket: Ticket,
    },
    /// From the relay: prove that you receive at your address.
    Challenge {
        /// The leg.
        ticket: Ticket,
        /// To be sent back.
        nonce: [u8; 16],
    },
    /// To the relay: the proof.
    Echo {
        /// The leg.
        ticket: Ticket,
        /// What the challenge held.
        nonce: [u8; 16],
    },
    /// From the relay: the leg is part of the session.
    Joined {
        /// The leg.
        ticket: Ticket,
        /// Whether the other leg is there too.
        both: bool,
    },
    /// To one of the relay's ports: from where does this come?
    Observe {
        /// Which session at the directory asks.
        ticket: Ticket,
    },
    /// From the relay: from here.
    Observed {
        /// Which session at the directory asked.
        ticket: Ticket,
        /// The address.
        address: SocketAddr,
    },
}

const OPENER: u8 = 0;
const PUNCH: u8 = 1;
const JOIN: u8 = 2;
const CHALLENGE: u8 = 3;
const ECHO: u8 = 4;
const JOINED: u8 = 5;
const OBSERVE: u8 = 6;
const OBSERVED: u8 = 7;

/// Whether a datagram is one of these and no QUIC packet. An empty one is neither, and is left to QUIC, which drops it.
#[must_use]
pub fn is_beside_quic(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 0x40)
}

impl Datagram {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REQUEST_BYTES);
        match self {
            Self::Opener => bytes.push(OPENER),
            Self::Punch { dial } => put(&mut bytes, PUNCH, [&dial.as_bytes()[..]]),
            Self::Join { ticket } => put(&mut bytes, JOIN, [&ticket.expose()[..]]),
            Self::Challenge { ticket, nonce } => put(&mut bytes, CHALLENGE, [&ticket.expose()[..], nonce]),
            Self::Echo { ticket, nonce } => put(&mut bytes, ECHO, [&ticket.expose()[..], nonce]),
            Self::Joined { ticket, both } => put(&mut bytes, JOINED, [&ticket.expose()[..], &[u8::from(*both)]]),
            Self::Observe { ticket } => put(&mut bytes, OBSERVE, [&ticket.expose()[..]]),
            Self::Observed { ticket, address } => {
                let ip = match address.ip() {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let port = address.port().to_be_bytes();
                put(&mut bytes, OBSERVED, [&ticket.expose()[..], &ip.octets(), &port]);
            }
        }
        if matches!(self, Self::Join { .. } | Self::Echo { .. } | Self::Observe { .. }) {
            bytes.resize(REQUEST_BYTES, 0);
        }
        bytes
    }

    /// Reads a datagram; `None` when it is none of these, byte for byte.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let rest = &mut rest;
        let datagram = match *kind {
            OPENER => Self::Opener,
            PUNCH => Self::Punch { dial: DialId::from_bytes(take(rest)?) },
            JOIN => Self::Join { ticket: Ticket::from_bytes(take(rest)?) },
            CHALLENGE => Self::Challenge { ticket: Ticket::from_bytes(take(rest)?), nonce: take(rest)? },
            ECHO => Self::Echo { ticket: Ticket::from_bytes(take(rest)?), nonce: take(rest)? },
            JOINED => {
                let ticket = Ticket::from_bytes(take(rest)?);
                let [both] = take(rest)?;
                Self::Joined { ticket, both: both == 1 }
            }
            OBSERVE => Self::Observe { ticket: Ticket::from_bytes(take(rest)?) },
            OBSERVED => {
                let ticket = Ticket::from_bytes(take(rest)?);
                let ip = Ipv6Addr::from(take::<16>(rest)?).to_canonical();
                Self::Observed { ticket, address: SocketAddr::new(ip, u16::from_be_bytes(take(rest)?)) }
            }
            _ => return None,
        };
        (datagram.encode() == bytes).then_some(datagram)
    }
}

fn put<const PARTS: usize>(bytes: &mut Vec<u8>, kind: u8, parts: [&[u8]; PARTS]) {
    bytes.push(kind);
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

fn take<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Datagram> {
        let (ticket, nonce) = (Ticket::from_bytes([7; 16]), [9; 16]);
        let addresses = ["192.0.2.1:443", "[2001:db8::1]:65535"];
        let observed = addresses.map(|text| Datagram::Observed { ticket, address: text.parse().unwrap() });
        let mut all = vec![
            Datagram::Opener,
            Datagram::Punch { dial: DialId::from_bytes([5; 16]) },
            Datagram::Join { ticket },
            Datagram::Challenge { ticket, nonce },
            Datagram::Echo { ticket, nonce },
            Datagram::Joined { ticket, both: false },
            Datagram::Joined { ticket, both: true },
            Datagram::Observe { ticket },
        ];
        all.extend(observed);
        all
    }

    #[test]
    fn every_datagram_reads_back_and_is_told_from_quic() {
        for datagram in all() {
            let bytes = datagram.encode();
            assert_eq!(Datagram::decode(&bytes), Some(datagram));
            assert!(is_beside_quic(&bytes));
        }
        // The first bytes of a long and of a short header.
        assert!(!is_beside_quic(&[0xc0]) && !is_beside_quic(&[0x40]) && !is_beside_quic(&[]));
    }

    #[test]
    fn no_answer_of_the_relay_is_longer_than_a_request_to_it() {
        for datagram in all() {
            match datagram {
                Datagram::Join { .. } | Datagram::Echo { .. } | Datagram::Observe { .. } => {
                    assert_eq!(datagram.encode().len(), REQUEST_BYTES);
                }
                _ => assert!(datagram.encode().len() <= REQUEST_BYTES),
            }
        }
    }

    #[test]
    fn anything_else_is_no_datagram() {
        for datagram in all() {
            let bytes = datagram.encode();
            for end in 0..bytes.len() {
                assert_eq!(Datagram::decode(&bytes[..end]), None, "{datagram:?} cut to {end}");
            }
            assert_eq!(Datagram::decode(&[&bytes[..], &[0]].concat()), None, "{datagram:?} and a byte");
        }
        assert_eq!(Datagram::decode(&[8; 64]), None);
        let mut padded = Datagram::Join { ticket: Ticket::from_bytes([7; 16]) }.encode();
        padded[REQUEST_BYTES - 1] = 1;
        assert_eq!(Datagram::decode(&padded), None);
    }
}
