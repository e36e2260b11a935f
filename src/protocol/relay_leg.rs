//! One side's way to the directory's relay: it shows a ticket, proves its address, and then there is one connection.
//!
//! ```text
//! Joining --challenge--> Proving --joined--> Joined       asker: dials with its first proof, again until there is one
//!     `------ relayed connection ------`----'--> used     asked: waits for it
//!     `------ no connection in time ---`----'--> failed
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::rendezvous::{ConnectionNumber, Outcome, Output, Path, Side, Terms};
use crate::wire::datagram::Datagram;
use crate::wire::ids::Ticket;

/// The shortest wait for an answer of the relay: a lost datagram costs no more where the directory is near.
const ANSWER_WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest: one who has no network for a moment is back within a second.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// Who is not connected through the relay by then will not be: as long as the search for a direct path.
const ASKER_PATIENCE: Duration = Duration::from_secs(10);
/// Whoever is asked waits longer: it began earlier, and in heavy loss the asker's last handshake takes seconds to end.
const ASKED_PATIENCE: Duration = Duration::from_secs(15);
/// A handshake that did not get through by then starts afresh, because its own retransmissions have become rare.
const DIAL_TIME: Duration = Duration::from_secs(3);
/// The same on a slow path.
const DIAL_ROUND_TRIPS: u32 = 8;
/// A dial that fails at once is not repeated at once.
const DIAL_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Nearer than this the relay's word that both are there costs less than a first packet that came too early, which QUIC
/// repeats after three round trips of 20 ms at least. Farther away the other side, which began earlier, is there by then.
const NEAR: Duration = Duration::from_millis(10);
/// How long that word is waited for.
const NEAR_PATIENCE: Duration = Duration::from_millis(20);
/// Proofs that are sent because a challenge came: more of them would be somebody's game.
const CHALLENGES_ANSWERED_MAX: u32 = 16;
/// After so many proofs in vain the ticket is shown again as well: the relay may have forgotten the nonce.
const PROOFS_BEFORE_JOIN: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Joining,
    Proving { nonce: [u8; 16] },
    Joined,
}

/// What the asker's dial is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialling {
    NotYet,
    UnderWay,
    Again(Duration),
}

/// The leg of one side.
#[derive(Debug)]
pub(super) struct RelayLeg {
    relay: SocketAddr,
    ticket: Ticket,
    side: Side,
    round_trip: Duration,
    ends: Duration,
    stage: Stage,
    /// Requests that were sent without an answer since the stage began.
    unanswered: u32,
    /// When the next request is due.
    next: Duration,
    challenges_answered: u32,
    dialling: Dialling,
    outcome: Outcome,
}

impl RelayLeg {
    pub(super) fn begin(
        relay: SocketAddr,
        ticket: Ticket,
        terms: &Terms,
        now: Duration,
        out: &mut VecDeque<Output>,
    ) -> Self {
        let patience = match terms.side {
            Side::Asker => ASKER_PATIENCE,
            Side::Asked => ASKED_PATIENCE,
        };
        let mut leg = Self {
            relay,
            ticket,
            side: terms.side,
            round_trip: terms.round_trip,
            ends: now + patience,
            stage: Stage::Joining,
            unanswered: 0,
            next: now,
            challenges_answered: 0,
            dialling: Dialling::NotYet,
            outcome: Outcome::Open,
        };
        leg.handle_timeout(now, out);
        leg
    }

    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.relay == address
    }

    pub(super) fn is_decided(&self) -> bool {
        self.outcome != Outcome::Open
    }

    /// The relay says something; whoever calls this has seen that it came from [`Self::is_at`].
    pub(super) fn handle_datagram(&mut self, datagram: &Datagram, now: Duration, out: &mut VecDeque<Output>) {
        if self.is_decided() {
            return;
        }
        match *datagram {
            Datagram::Challenge { ticket, nonce } if ticket == self.ticket => self.prove(nonce, now, out),
            Datagram::Joined { ticket, both } if ticket == self.ticket => {
                self.stage = Stage::Joined;
                if both && matches!(self.dialling, Dialling::Again(_)) {
                    self.dial(now, out);
                }
            }
            _ => {}
        }
    }

    fn prove(&mut self, nonce: [u8; 16], now: Duration, out: &mut VecDeque<Output>) {
        if self.challenges_answered >= CHALLENGES_ANSWERED_MAX {
            return;
        }
        self.challenges_answered += 1;
        self.send(Datagram::Echo { ticket: self.ticket, nonce }, out);
        // A late challenge is answered, but what is done stays done.
        if self.stage != Stage::Joined {
            if self.stage == Stage::Joining {
                // Twice: the dial comes right behind it, and QUIC would take three round trips to notice a loss.
                self.send(Datagram::Echo { ticket: self.ticket, nonce }, out);
                self.next = now + self.first_wait();
                self.unanswered = 1;
            }
            self.stage = Stage::Proving { nonce };
        }
        if self.side == Side::Asker && self.dialling == Dialling::NotYet {
            if self.round_trip < NEAR {
                self.dialling = Dialling::Again(now + NEAR_PATIENCE);
            } else {
                self.dial(now, out);
            }
        }
    }

    /// The dial has come to nothing: again, as long as there is time.
    pub(super) fn handle_dial_failed(&mut self, now: Duration) {
        if self.dialling == Dialling::UnderWay {
            self.dialling = Dialling::Again(now + DIAL_AGAIN_AFTER);
        }
    }

    pub(super) fn handle_connected(&mut self, number: ConnectionNumber, out: &mut VecDeque<Output>) {
        match self.outcome {
            Outcome::Open => {
                self.outcome = Outcome::Used(number);
                out.push_back(Output::Use(number, Path::Relayed));
            }
            Outcome::Used(used) if used == number => {}
            Outcome::Used(_) | Outcome::Failed => out.push_back(Output::Close(number)),
        }
    }

    /// The connection that was used is gone: another may come.
    pub(super) fn handle_lost(&mut self, number: ConnectionNumber, now: Duration) {
        if self.outcome == Outcome::Used(number) {
            self.outcome = Outcome::Open;
            if self.dialling == Dialling::UnderWay {
                self.dialling = Dialling::Again(now + DIAL_AGAIN_AFTER);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        if self.is_decided() {
            return;
        }
        if now >= self.ends {
            self.outcome = Outcome::Failed;
            out.push_back(Output::RelayFailed);
            return;
        }
        if now >= self.next {
            self.ask(now, out);
        }
        if let Dialling::Again(when) = self.dialling
            && now >= when
        {
            self.dial(now, out);
        }
    }

    /// Sends what the relay has not answered, and waits longer each time.
    fn ask(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        let join = Datagram::Join { ticket: self.ticket };
        match self.stage {
            Stage::Joining => self.send(join, out),
            Stage::Proving { nonce } => {
                self.send(Datagram::Echo { ticket: self.ticket, nonce }, out);
                if self.unanswered % PROOFS_BEFORE_JOIN == PROOFS_BEFORE_JOIN - 1 {
                    self.send(join, out);
                }
            }
            Stage::Joined => return,
        }
        self.next = now + self.answer_wait();
        self.unanswered += 1;
    }

    fn first_wait(&self) -> Duration {
        (self.round_trip * 2).clamp(ANSWER_WAIT_MIN, ANSWER_WAIT_MAX)
    }

    /// Half as long again each time.
    fn answer_wait(&self) -> Duration {
        let grown = (0..self.unanswered.min(8)).fold(self.first_wait(), |wait, _| wait * 3 / 2);
        grown.min(ANSWER_WAIT_MAX)
    }

    fn dial(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        let within = DIAL_TIME.max(self.round_trip * DIAL_ROUND_TRIPS).min(self.ends.saturating_sub(now));
        self.dialling = Dialling::UnderWay;
        out.push_back(Output::Dial { to: self.relay, path: Path::Relayed, within });
    }

    fn send(&self, datagram: Datagram, out: &mut VecDeque<Output>) {
        out.push_back(Output::Send { to: self.relay, hops: None, datagram });
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        if self.is_decided() {
            return None;
        }
        let ask = (self.stage != Stage::Joined).then_some(self.next);
        let dial = match self.dialling {
            Dialling::Again(when) => Some(when),
            Dialling::NotYet | Dialling::UnderWay => None,
        };
        [ask, dial, Some(self.ends)].into_iter().flatten().min()
    }
}
