//! Why a file did not come, as a person reads it.

use crate::peer::failure::{Failure, FailureKind};
use crate::peer::file_stream::Stopped;
use crate::peer::links::Link;
use crate::protocol::rendezvous::Path;
use crate::transport::connection::TransportError;
use crate::wire::ids::PeerName;
use crate::wire::refusal::{CloseCode, Refusal};

/// What to do about a transfer that stopped while it was relayed.
const RELAYED_HINT: &str = "what arrived is kept: the same command goes on from there; \
    if it stops again, the directory's relay may have used up what it carries for you today";

/// Whether a link has ended for another reason than what is asked over it: all were there before it and nobody answers, or
/// the other side saw nobody use it, for instance while we looked at what an earlier transfer had left.
pub(in crate::peer) fn is_gone(error: &TransportError, has_dialled: bool) -> bool {
    match error {
        TransportError::Closed(CloseCode::Done) => true,
        TransportError::Closed(_)
        | TransportError::ClosedHere
        | TransportError::TimedOut
        | TransportError::NoAnswer(_)
        | TransportError::Restarted
        | TransportError::Reset(CloseCode::ShuttingDown) => !has_dialled,
        TransportError::Bind { .. }
        | TransportError::IdentityMismatch { .. }
        | TransportError::NotAnnounced
        | TransportError::Handshake(_)
        | TransportError::OtherVersion
        | TransportError::Tls(_)
        | TransportError::Refused
        | TransportError::Reset(_)
        | TransportError::BadFrame(_)
        | TransportError::Truncated => false,
    }
}

/// Nobody is left to ask.
pub(in crate::peer) fn no_source() -> Failure {
    Failure::new(FailureKind::Offline, "nobody who is online has this file")
}

/// Whether somebody says that there is nothing for us: it is not offered any more, or never was.
pub(in crate::peer) fn has_nothing_for_us(failure: &Failure) -> bool {
    let refusals = [Refusal::UnknownFile, Refusal::NotAccepted, Refusal::Withdrawn];
    refusals.iter().any(|refusal| failure.refusal == Some(refusal.number()))
}

/// Why nothing more comes from a source over a link.
pub(in crate::peer) fn failure_over(link: &Link, stopped: Stopped, name: &str) -> Failure {
    let failure = failure_of(stopped, &link.name, name);
    let is_relayed = link.path == Path::Relayed && failure.kind == FailureKind::Partial;
    if is_relayed { failure.hint(RELAYED_HINT) } else { failure }
}

/// Why nothing more comes from a source.
pub(super) fn failure_of(stopped: Stopped, from: &PeerName, name: &str) -> Failure {
    match stopped {
        Stopped::Here(failure) => failure,
        Stopped::Moves => Failure::new(FailureKind::Other, format!("{from}:{name}: the transfer did not move on")),
        Stopped::Refused(refusal @ Refusal::Withdrawn) => Failure::from(refusal)
            .about(format!("{from}:{name}"))
            .hint("it can be fetched once its owner shares it again"),
        Stopped::Refused(refusal) => Failure::from(refusal).about(format!("{from}:{name}")),
        Stopped::TooLarge { size, bytes_max } => {
            let message = format!("{from} has {size} bytes where no more than {bytes_max} belong");
            Failure::new(FailureKind::Integrity, message)
        }
        Stopped::WrongBytes => Failure::new(FailureKind::Integrity, format!("{from} sent bytes that are not {name}"))
            .hint("what was right is kept; try another source, or ask its owner to share it again"),
        Stopped::Violation(violation) => {
            Failure::new(FailureKind::Integrity, format!("{from} broke the protocol while sending {name}: {violation}"))
        }
        Stopped::Network(error) => interrupted(&error, from, name),
    }
}

fn interrupted(error: &TransportError, from: &PeerName, name: &str) -> Failure {
    let reason = match error {
        TransportError::TimedOut | TransportError::NoAnswer(_) => format!("{from} is not responding"),
        TransportError::Closed(code) | TransportError::Reset(code) => format!("{from} ended the transfer ({code})"),
        TransportError::BadFrame(_) | TransportError::Truncated => format!("{from} broke the protocol ({error})"),
        error => format!("the connection to {from} ended ({error})"),
    };
    Failure::new(FailureKind::Partial, format!("{name} is not complete: {reason}"))
        .hint("what arrived is kept: the same command goes on from there")
}
