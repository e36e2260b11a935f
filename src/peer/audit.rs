//! The audit of a conversation: reads this disk, checks the signatures of the receipts on it again, and says in fair
//! words what is proved and what is only likely. The decision is `protocol/audit.rs`.

use super::commands::Rows;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::history::OnDisk;
use super::rows::{AuditFindingRow, AuditRow, Direction, FindingKind};
use crate::clock::now_millis;
use crate::protocol::audit::{Auditor, Counts, Finding, Ours, Proof, Theirs};
use crate::seal::receipt;
use crate::storage::audit::{self as records, SentRecord};
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};

/// Audits what was said with a person, under all of their keys.
pub(super) async fn audit(on_disk: OnDisk<'_>, with: PeerName, rows: &Rows) -> Result<(), Failure> {
    let keys = records::keys(on_disk.database, &with).await?;
    let (mut total, mut findings) = (AuditRow::new(with.clone(), keys.len()), Vec::new());
    for key in keys {
        let (counts, found) = audit_key(on_disk, key).await?;
        total.add(counts);
        findings.extend(found.into_iter().map(|finding| (key, finding)));
    }
    total.clean = !findings.iter().any(|(_, finding)| finding.blames_directory());
    let is_clean = total.clean;
    rows.row(Event::Audit(Box::new(total))).await;
    for (key, finding) in findings {
        rows.row(Event::AuditFinding(Box::new(row_of(&with, key, &finding)))).await;
    }
    if is_clean {
        return Ok(());
    }
    let message = format!("between you and {with} something was lost, held back, replayed or reordered");
    Err(Failure::new(FailureKind::Integrity, message)
        .hint("most likely by the directory: ask its operator, or compare with what the other side's audit says"))
}

async fn audit_key(
    OnDisk { database, key: own, .. }: OnDisk<'_>,
    key: PeerKey,
) -> Result<(Counts, Vec<Finding>), Failure> {
    let conversation = records::conversation(database, key).await?;
    let mut auditor = Auditor::new(conversation.released, now_millis());
    let mut after = (0, 0);
    loop {
        let (sent, next) = records::sent(database, key, after).await?;
        if sent.is_empty() {
            break;
        }
        sent.into_iter().for_each(|record| auditor.ours(checked(record, own, key)));
        after = next;
    }
    // Numbers begin at 1, but a sender may say 0.
    let mut after = (0, -1);
    loop {
        let (accounted, next) = records::accounted(database, key, after).await?;
        if accounted.is_empty() {
            return Ok(auditor.finish());
        }
        accounted.into_iter().for_each(|number| auditor.theirs(number));
        after = next;
    }
}

/// Checks what the receipt of a message proves, whatever was noted when it came.
fn checked(SentRecord { sequence, id, stage, stored_at, receipt }: SentRecord, own: PeerKey, to: PeerKey) -> Ours {
    let proof = match receipt {
        None => Proof::None,
        Some(Some(signed)) => {
            let said = &signed.receipt;
            let is_for_this = said.by == to && said.to == own && said.id == id;
            if is_for_this && receipt::verify(&signed).is_ok() {
                Proof::Signed { kind: said.kind, highest: said.highest }
            } else {
                Proof::Bad
            }
        }
        Some(None) => Proof::Bad,
    };
    Ours { sequence, id, stage, stored_at, proof }
}

impl AuditRow {
    fn new(with: PeerName, keys: usize) -> Self {
        Self {
            with,
            keys: u64::try_from(keys).unwrap_or(u64::MAX),
            sent: 0,
            sending: 0,
            stored: 0,
            delivered: 0,
            read: 0,
            refused: 0,
            unaccounted: 0,
            received: 0,
            missing: 0,
            repeated: 0,
            late: 0,
            clean: true,
        }
    }

    fn add(&mut self, counts: Counts) {
        let Counts { sending, stored, delivered, read, refused, unaccounted, received, missing, repeated, late } =
            counts;
        self.sent += sending + stored + delivered + read + refused;
        self.sending += sending;
        self.stored += stored;
        self.delivered += delivered;
        self.read += read;
        self.refused += refused;
        self.unaccounted += unaccounted;
        self.received += received;
        self.missing = self.missing.saturating_add(missing);
        self.repeated += repeated;
        self.late += late;
    }
}

/// What a finding is about.
struct About {
    direction: Direction,
    first: u64,
    last: u64,
    id: Option<MessageId>,
    at: Option<UnixMillis>,
    count: Option<u64>,
}

impl About {
    fn ours(message: &Ours, count: Option<u64>) -> Self {
        let Ours { sequence, id, stored_at, .. } = *message;
        Self { direction: Direction::Out, first: sequence, last: sequence, id: Some(id), at: stored_at, count }
    }

    fn theirs(message: &Theirs, count: Option<u64>) -> Self {
        let Theirs { sequence, id, came_at, .. } = *message;
        Self { direction: Direction::In, first: sequence, last: sequence, id: Some(id), at: came_at, count }
    }
}

fn row_of(with: &PeerName, key: PeerKey, finding: &Finding) -> AuditFindingRow {
    let (kind, about) = match finding {
        Finding::Unaccounted { message, seen } => (FindingKind::Unaccounted, About::ours(message, Some(*seen))),
        Finding::BadReceipt(message) => (FindingKind::BadReceipt, About::ours(message, None)),
        Finding::Missing { first, last } => {
            let (first, last) = (*first, *last);
            let about = About { direction: Direction::In, first, last, id: None, at: None, count: None };
            (FindingKind::Missing, about)
        }
        Finding::Repeated(message) => (FindingKind::Repeated, About::theirs(message, Some(message.arrivals))),
        Finding::Late(message) => (FindingKind::Late, About::theirs(message, None)),
        Finding::NumberTwice(message) => (FindingKind::NumberTwice, About::theirs(message, None)),
    };
    let About { direction, first, last, id, at, count } = about;
    let blames_directory = finding.blames_directory();
    let text = sentence(with, finding);
    AuditFindingRow {
        with: with.clone(),
        key,
        direction,
        finding: kind,
        first,
        last,
        id,
        at,
        count,
        blames_directory,
        text,
    }
}

fn sentence(with: &PeerName, finding: &Finding) -> String {
    match finding {
        Finding::Unaccounted { seen, .. } => format!(
            "the directory said that it has it, and there is no receipt. {with} has signed that number {seen} came: \
             likely the directory lost this one or holds it back, or its receipt"
        ),
        Finding::BadReceipt(_) => format!(
            "the receipt on this disk is not signed by {with} for this message and proves nothing: the disk was \
             changed or is damaged"
        ),
        Finding::Missing { .. } => format!(
            "never came, and no message of {with}'s names them as refused. {with} has signed a later one, so they \
             were likely lost or held back; or they came before this machine's records were lost"
        ),
        Finding::Repeated(message) => format!(
            "came {} times through the directory and was shown once: a replay, or the directory or the connection \
             broke before our answer was noted, which repeats a message honestly",
            message.arrivals
        ),
        Finding::Late(message) if message.arrivals > 0 => {
            "came through the directory after its turn: likely delayed or reordered there".to_owned()
        }
        Finding::Late(_) => format!("came after its turn, but straight from {with}: no directory has delayed it"),
        Finding::NumberTwice(_) => format!(
            "two messages that {with} signed have this number: {with}'s records were restored from a backup. The \
             directory cannot do that"
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::protocol::conversation::{Draft, Fate};
    use crate::seal::identity::IdentityKey;
    use crate::seal::random::OsRandom;
    use crate::storage::messages::{self, Incoming};
    use crate::storage::profile::{Home, Profile};
    use crate::wire::ids::DirectoryFingerprint;
    use crate::wire::message::{Body, InnerMessage, Receipt, ReceiptKind, Skipped, Text};

    /// Alice's disk, and bob's key.
    struct Stage {
        _folder: tempfile::TempDir,
        profile: Profile,
        bob: IdentityKey,
    }

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn id(number: u8) -> MessageId {
        MessageId::from_bytes([number; 16])
    }

    fn body() -> Body {
        Body::Text(Text::parse("hello").unwrap())
    }

    impl Stage {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let home = Home::at(folder.path().join("home"));
            let directory = DirectoryFingerprint::from_bytes([9; 32]);
            let profile = Profile::open(&home, directory, &name("alice"), &mut OsRandom).unwrap();
            Self { _folder: folder, profile, bob: IdentityKey::generate(&mut OsRandom) }
        }

        fn own(&self) -> PeerKey {
            self.profile.identity().public()
        }

        async fn stored(&self, number: u8) {
            let (database, bob) = (self.profile.database(), self.bob.public());
            let draft =
                Draft { sender: self.own(), recipient: bob, id: id(number), sent_at: UnixMillis(1), body: body() };
            messages::write(database, &name("bob"), draft).await.unwrap();
            let stored = Fate::Stored { attempt: 0 };
            messages::settle(database, (bob, id(number)), self.own(), stored, None, UnixMillis(2)).await.unwrap();
        }

        async fn receipt(&self, number: u8, signer: &IdentityKey) {
            let (by, to, sequence) = (self.bob.public(), self.own(), u64::from(number));
            let (kind, at) = (ReceiptKind::Delivered, UnixMillis(3));
            let mut signed = receipt::sign(
                signer,
                Receipt { by: signer.public(), to, id: id(number), sequence, highest: sequence, kind, at },
            );
            signed.receipt.by = by;
            messages::take_receipts(self.profile.database(), vec![signed], UnixMillis(3)).await.unwrap();
        }

        async fn came(&self, number: u8, skipped: &[u64]) {
            let message = InnerMessage {
                sender: self.bob.public(),
                recipient: self.own(),
                id: id(100 + number),
                sequence: u64::from(number),
                skipped: Skipped::newest(skipped.to_vec()),
                sent_at: UnixMillis(1),
                body: body(),
            };
            let incoming = Incoming { from: name("bob"), message };
            messages::take(self.profile.database(), incoming, false, UnixMillis(4)).await.unwrap();
        }

        async fn give_up(&self, number: u64) {
            let (bob, own) = (self.bob.public(), self.own());
            messages::give_up(self.profile.database(), bob, own, number).await.unwrap();
        }

        /// What was counted, the findings with their first numbers, and how it ended.
        async fn audit(&self) -> (AuditRow, Vec<(FindingKind, u64)>, Result<(), FailureKind>) {
            let (events, mut rows) = mpsc::channel(64);
            let alice = name("alice");
            let on_disk = OnDisk { database: self.profile.database(), name: &alice, key: self.own() };
            let result = audit(on_disk, name("bob"), &Rows(events)).await;
            let Some(Event::Audit(counted)) = rows.recv().await else { panic!("the counts come first") };
            let mut findings = Vec::new();
            while let Some(Event::AuditFinding(row)) = rows.recv().await {
                findings.push((row.finding, row.first));
            }
            (*counted, findings, result.map_err(|failure| failure.kind))
        }
    }

    #[tokio::test]
    async fn a_conversation_without_faults_is_clean_whatever_was_refused() {
        let stage = Stage::new();
        stage.stored(1).await;
        stage.receipt(1, &stage.bob).await;
        stage.stored(2).await;
        stage.came(1, &[]).await;
        stage.came(4, &[2, 3]).await;
        let (counted, findings, result) = stage.audit().await;
        assert_eq!((findings, result), (Vec::new(), Ok(())));
        assert_eq!((counted.sent, counted.delivered, counted.stored, counted.received), (2, 1, 1, 2));
        assert!(counted.clean);
    }

    #[tokio::test]
    async fn what_a_directory_lost_repeated_or_delayed_is_found() {
        let stage = Stage::new();
        for number in 1..=3 {
            stage.stored(number).await;
        }
        stage.receipt(3, &stage.bob).await;
        stage.came(1, &[]).await;
        stage.came(1, &[]).await;
        stage.came(5, &[2]).await;
        stage.give_up(5).await;
        stage.came(4, &[]).await;
        let (counted, findings, result) = stage.audit().await;
        let expected = [
            (FindingKind::Unaccounted, 1),
            (FindingKind::Unaccounted, 2),
            (FindingKind::Repeated, 1),
            (FindingKind::Missing, 3),
            (FindingKind::Late, 4),
        ];
        assert_eq!((findings.as_slice(), result), (&expected[..], Err(FailureKind::Integrity)));
        assert_eq!((counted.unaccounted, counted.missing, counted.repeated, counted.late), (2, 1, 1, 1));
        assert!(!counted.clean);
    }

    #[tokio::test]
    async fn a_receipt_that_somebody_else_signed_proves_nothing() {
        let stage = Stage::new();
        stage.stored(1).await;
        stage.stored(2).await;
        stage.receipt(2, &IdentityKey::generate(&mut OsRandom)).await;
        let (_, findings, result) = stage.audit().await;
        assert_eq!((findings, result), (vec![(FindingKind::BadReceipt, 2)], Ok(())));
    }

    #[tokio::test]
    async fn more_than_one_part_of_the_records_is_read() {
        let stage = Stage::new();
        for sequence in 1..=600_u64 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&sequence.to_le_bytes());
            let message = InnerMessage {
                sender: stage.bob.public(),
                recipient: stage.own(),
                id: MessageId::from_bytes(bytes),
                sequence: 2 * sequence,
                skipped: Skipped::newest(vec![2 * sequence - 1]),
                sent_at: UnixMillis(1),
                body: body(),
            };
            let incoming = Incoming { from: name("bob"), message };
            messages::take(stage.profile.database(), incoming, false, UnixMillis(4)).await.unwrap();
        }
        let (counted, findings, _) = stage.audit().await;
        assert_eq!((counted.received, counted.missing, findings), (600, 0, Vec::new()));
    }
}
