//! The lines of the history and of an audit, as people read them. What others wrote is cleaned by `output.rs`, and stands
//! behind what we say of it, so that no text can pass for a state.

use indicatif::HumanBytes;

use super::legacy;
use super::output::printable;
use super::times::day_and_time;
use crate::peer::event::What;
use crate::peer::rows::{AuditFindingRow, AuditRow, Direction, FindingKind, HistoryRow, MessageState};

/// One message of the history.
pub(super) fn history_line(row: &HistoryRow) -> String {
    let HistoryRow { from, to, .. } = row;
    let who = match row.direction {
        Direction::In => from.to_string(),
        Direction::Out => format!("{from} -> {to}"),
    };
    let legacy = legacy::mark(row.legacy);
    let mark = mark(row).map(|mark| format!(" ({mark})")).unwrap_or_default();
    let name = || row.name.as_ref().map_or("a file".to_owned(), |name| printable(name.as_str()));
    let said = match row.what {
        What::Text => format!(": {}", printable(row.text.as_deref().unwrap_or_default())),
        What::Offer => format!(" offers {} ({})", name(), HumanBytes(row.size.unwrap_or_default())),
        What::OfferDeclined => format!(" declines {}", name()),
        What::OfferWithdrawn => format!(" takes {} back", name()),
    };
    format!("[{}] {who}{legacy}{mark}{said}", day_and_time(row.sent_at))
}

/// What became of a message, where it is worth a word.
fn mark(row: &HistoryRow) -> Option<String> {
    let state = match row.state {
        MessageState::Sending => "in the outbox",
        MessageState::Stored => "stored",
        MessageState::Delivered => "delivered",
        MessageState::Read => "read",
        MessageState::Refused => {
            let reason = row.reason.as_ref().map(|reason| format!(": {}", printable(&reason.message)));
            return Some(format!("refused{}", reason.unwrap_or_default()));
        }
        MessageState::New if row.late => "new, late",
        MessageState::New => "new",
        MessageState::Shown if row.late => "late",
        MessageState::Shown => return None,
    };
    Some(state.to_owned())
}

/// What an audit counted.
pub(super) fn audit_table(row: &AuditRow) -> String {
    let AuditRow { with, sent, read, delivered, stored, sending, refused, received, missing, repeated, late, .. } = row;
    let keys = if row.keys > 1 { format!(", who had {} keys", row.keys) } else { String::new() };
    let waiting = stored.saturating_sub(row.unaccounted);
    let waits = match (waiting, row.unaccounted) {
        (0, 0) => String::new(),
        (waiting, 0) => format!("  ({waiting} may still wait at the directory)"),
        (0, lost) => format!("  ({lost} unaccounted for)"),
        (waiting, lost) => format!("  ({waiting} may still wait at the directory, {lost} unaccounted for)"),
    };
    let verdict =
        if row.clean { "nothing lost, replayed or reordered, as far as this disk shows" } else { "see below" };
    format!(
        "messages with {with}{keys}: {verdict}\n  ours    {sent:>7} sent      {read} read, {delivered} delivered, \
         {stored} stored, {sending} in the outbox, {refused} refused{waits}\n  theirs  {received:>7} received  \
         {missing} missing, {repeated} repeated, {late} late"
    )
}

/// Something odd that an audit found.
pub(super) fn finding_line(row: &AuditFindingRow) -> String {
    let whose = match row.direction {
        Direction::In => format!("{}'s", row.with),
        Direction::Out => "our".to_owned(),
    };
    let numbers = if row.first == row.last {
        format!("number {}", row.first)
    } else {
        format!("numbers {}-{}", row.first, row.last)
    };
    let id = row.id.map(|id| format!("id {id:.8}"));
    let at = row.at.map(|at| match row.finding {
        FindingKind::Unaccounted | FindingKind::BadReceipt => format!("stored {}", day_and_time(at)),
        FindingKind::Missing | FindingKind::Repeated | FindingKind::Late | FindingKind::NumberTwice => {
            format!("came {}", day_and_time(at))
        }
    });
    let facts: Vec<String> = id.into_iter().chain(at).collect();
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    let sign = if row.blames_directory { '!' } else { '*' };
    format!("{sign} {whose} {numbers}{facts}: {}", printable(&row.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};

    fn row(direction: Direction, state: MessageState, text: &str) -> HistoryRow {
        let name = |text| PeerName::parse(text).unwrap();
        let (from, to) = match direction {
            Direction::In => (name("bob"), name("alice")),
            Direction::Out => (name("alice"), name("bob")),
        };
        HistoryRow {
            direction,
            from,
            to,
            id: MessageId::from_bytes([1; 16]),
            number: 1,
            sent_at: UnixMillis(0),
            state,
            late: false,
            reason: None,
            what: What::Text,
            text: Some(text.to_owned()),
            name: None,
            size: None,
            digest: None,
            offer: None,
            legacy: false,
        }
    }

    fn after_the_time(line: &str) -> &str {
        line.split_once("] ").unwrap().1
    }

    #[test]
    fn a_line_says_who_what_and_what_became_of_it() {
        let ours = history_line(&row(Direction::Out, MessageState::Read, "yes"));
        assert_eq!(after_the_time(&ours), "alice -> bob (read): yes");
        let theirs = HistoryRow { late: true, ..row(Direction::In, MessageState::Shown, "a\u{1b}[2J\nb") };
        assert_eq!(after_the_time(&history_line(&theirs)), "bob (late): a\\u{1b}[2J\n    b");
        let legacy = HistoryRow { legacy: true, ..row(Direction::Out, MessageState::Read, "yes") };
        assert_eq!(after_the_time(&history_line(&legacy)), "alice -> bob (legacy) (read): yes");
        let shown = history_line(&row(Direction::In, MessageState::Shown, "(late)"));
        assert_eq!(after_the_time(&shown), "bob: (late)");
    }

    #[test]
    fn a_finding_says_which_message_and_why() {
        let row = AuditFindingRow {
            with: PeerName::parse("bob").unwrap(),
            key: PeerKey::from_bytes([1; 32]),
            direction: Direction::In,
            finding: FindingKind::Missing,
            first: 4,
            last: 5,
            id: None,
            at: None,
            count: None,
            blames_directory: true,
            text: "never came".to_owned(),
        };
        assert_eq!(finding_line(&row), "! bob's numbers 4-5: never came");
    }
}
