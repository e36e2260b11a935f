//! Links between two ends, and what travels on them. A link is a QUIC connection: its streams overtake each other, none
//! loses anything, and all of them die with it; then neither end knows what the other still got.

use std::collections::BTreeMap;

use qchat::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryRequest, PushAnswer};
use qchat::wire::ids::PrekeyId;
use qchat::wire::message::SignedReceipt;
use qchat::wire::transfer::PeerRequest;

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(u64);

/// A stream; its number is used once in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream(pub(crate) u64);

/// Whoever has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Directory,
    Peer(usize),
}

/// What a stream carries, one way: the wire's own types, but for the login, whose proof needs TLS.
#[derive(Debug)]
pub(crate) enum Frame {
    Login,
    LoggedIn { prekey: Option<PrekeyId> },
    Request(DirectoryRequest),
    Answer(DirectoryAnswer),
    Push(DirectoryPush),
    PushAnswer(PushAnswer),
    Straight(PeerRequest),
    Receipt(SignedReceipt),
    ReceiptsTaken,
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    is_alive: bool,
    /// The ends that have not noticed that it is dead.
    open: Vec<End>,
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<LinkId, Link>,
    next: u64,
}

impl Network {
    pub(crate) fn connect(&mut self, one: End, other: End) -> LinkId {
        self.next += 1;
        let link = Link { ends: [one, other], is_alive: true, open: vec![one, other] };
        self.links.insert(LinkId(self.next), link);
        LinkId(self.next)
    }

    /// Where a frame goes; `None` when it gets lost.
    pub(crate) fn other_end(&self, link: LinkId, from: End) -> Option<End> {
        let link = self.links.get(&link).filter(|link| link.is_alive)?;
        link.ends.into_iter().find(|&end| end != from)
    }

    pub(crate) fn is_alive(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.is_alive)
    }

    /// The living links, oldest first.
    pub(crate) fn alive(&self) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| link.is_alive).map(|(&id, _)| id).collect()
    }

    /// Kills a link, and says which ends will notice it.
    pub(crate) fn kill(&mut self, link: LinkId) -> Vec<End> {
        match self.links.get_mut(&link) {
            Some(link) if link.is_alive => {
                link.is_alive = false;
                link.open.clone()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// An end has noticed, or its process is gone.
    pub(crate) fn forget(&mut self, link: LinkId, end: End) {
        if let Some(found) = self.links.get_mut(&link) {
            found.open.retain(|&open| open != end);
            if found.open.is_empty() {
                self.links.remove(&link);
            }
        }
    }

    /// The links of a process that ended.
    pub(crate) fn of(&self, end: End) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| link.ends.contains(&end)).map(|(&id, _)| id).collect()
    }
}
