//! The activity log of `qchat peer --log FILE`: one line for each change of a message and its kind, and nothing of what
//! it says, not even the name of a file.
//!
//! ```text
//! TIME                     WAY KIND     WHO ID                               STATE
//! 2026-11-20T16:55:35.123Z out text     bob 0f3c9a... (32 hexadecimal digits) stored
//! ```
//! WAY is in or out; KIND text, offer, declined, withdrawn, announcement, file, messages or session; STATE queued, stored, delivered, read,
//! refused, received, shown, not-received, missing (ID is then `FIRST-LAST`), started, or overrun when events were
//! missed (ID is then their number). `-` stands for what there is not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::times::rfc_3339;
use crate::clock::now_millis;
use crate::peer::event::{Event, What};
use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::{PeerName, UnixMillis};

/// An open log. It is only ever appended to, so it may be copied away and truncated.
#[derive(Debug)]
pub(super) struct ActivityLog {
    file: File,
    path: PathBuf,
    has_failed: bool,
}

impl ActivityLog {
    /// Opens the log for its owner only (0600) and says in it that the peer of this account has started.
    pub(super) fn open(path: &Path, user: &PeerName) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        // Without waiting for somebody to read a named pipe: that is an error.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        options.append(true).create(true).mode(0o600).custom_flags(flags);
        let open = || {
            let mut file = options.open(path)?;
            let line = line(now_millis(), "-", "session", user.as_str(), "-", "started");
            file.write_all(line.as_bytes())?;
            Ok(file)
        };
        let failed = |error: io::Error| {
            let kind = if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::IsADirectory {
                FailureKind::Usage
            } else {
                FailureKind::Disk
            };
            Failure::new(kind, format!("cannot write the activity log {}: {error}", path.display()))
                .hint("--log FILE (or QCHAT_LOG) names a file in a folder that is there and that you may write to")
        };
        Ok(Self { file: open().map_err(failed)?, path: path.to_owned(), has_failed: false })
    }

    /// Notes what an event says of a message. The first time that it cannot, it says why; chat goes on without it.
    pub(super) fn note(&mut self, event: &Event) -> Option<String> {
        let text = of_event(event, now_millis())?;
        self.write(&text)
    }

    /// Notes that a message was on the screen.
    pub(super) fn note_shown(&mut self, event: &Event) -> Option<String> {
        let (kind, from, id) = incoming(event)?;
        self.write(&line(now_millis(), "in", kind, from.as_str(), &id, "shown"))
    }

    /// Notes that events were missed, because they came faster than they were shown.
    pub(super) fn note_overrun(&mut self, events: u64) -> Option<String> {
        self.write(&line(now_millis(), "-", "session", "-", &events.to_string(), "overrun"))
    }

    fn write(&mut self, line: &str) -> Option<String> {
        let result = self.file.write_all(line.as_bytes());
        let was_failing = std::mem::replace(&mut self.has_failed, result.is_err());
        let error = result.err().filter(|_| !was_failing)?;
        Some(format!("warning: the activity log {} is not written: {error}", self.path.display()))
    }
}

fn line(at: UnixMillis, way: &str, kind: &str, who: &str, id: &str, state: &str) -> String {
    format!("{} {way} {kind} {who} {id} {state}\n", rfc_3339(at))
}

/// The line of an event; `None` when it is about no message or file.
fn of_event(event: &Event, at: UnixMillis) -> Option<String> {
    let sent = |to: &PeerName, id: &dyn ToString, what: What, state| {
        Some(line(at, "out", kind_of(what), to.as_str(), &id.to_string(), state))
    };
    match event {
        Event::Queued { to, id, what } => sent(to, id, *what, "queued"),
        Event::Stored { to, id, what } => sent(to, id, *what, "stored"),
        Event::Delivered { to, id, what } => sent(to, id, *what, "delivered"),
        Event::Read { to, id, what } => sent(to, id, *what, "read"),
        Event::NotSent { to, id, what, .. } => sent(to, id, *what, "refused"),
        Event::Missing { from, first, last } => {
            Some(line(at, "in", "messages", from.as_str(), &format!("{first}-{last}"), "missing"))
        }
        Event::Sent { to, offer, .. } => {
            let id = offer.map_or("-".to_owned(), |offer| offer.to_string());
            Some(line(at, "out", "file", to.as_str(), &id, "delivered"))
        }
        Event::Announcement { from, id, .. } => {
            Some(line(at, "in", "announcement", from.as_str(), &id.to_string(), "received"))
        }
        Event::Received { from, .. } => Some(line(at, "in", "file", from.as_str(), "-", "received")),
        Event::NotReceived { from, .. } => Some(line(at, "in", "file", from.as_str(), "-", "not-received")),
        event => {
            let (kind, from, id) = incoming(event)?;
            Some(line(at, "in", kind, from.as_str(), &id, "received"))
        }
    }
}

/// Kind, sender and id of a message from somebody.
fn incoming(event: &Event) -> Option<(&'static str, &PeerName, String)> {
    match event {
        Event::Message { from, id, .. } => Some((kind_of(What::Text), from, id.to_string())),
        Event::Offer { from, id, .. } => Some((kind_of(What::Offer), from, id.to_string())),
        Event::OfferDeclined { by, id, .. } => Some((kind_of(What::OfferDeclined), by, id.to_string())),
        Event::OfferWithdrawn { from, id, .. } => Some((kind_of(What::OfferWithdrawn), from, id.to_string())),
        _ => None,
    }
}

fn kind_of(what: What) -> &'static str {
    match what {
        What::Text => "text",
        What::Offer => "offer",
        What::OfferDeclined => "declined",
        What::OfferWithdrawn => "withdrawn",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::wire::ids::{FileDigest, FileName, MessageId};

    fn bob() -> PeerName {
        PeerName::parse("bob").unwrap()
    }

    fn id() -> MessageId {
        MessageId::from_bytes([0xab; 16])
    }

    fn message(text: &str) -> Event {
        Event::Message { from: bob(), id: id(), sent_at: UnixMillis(7), text: text.to_owned(), legacy: false }
    }

    #[test]
    fn a_line_has_time_way_kind_person_id_and_state() {
        let stored = Event::Stored { to: bob(), id: id(), what: What::Text };
        let line = of_event(&stored, UnixMillis(1_005)).unwrap();
        assert_eq!(line, format!("1970-01-01T00:00:01.005Z out text bob {} stored\n", "ab".repeat(16)));
        let missing = Event::Missing { from: bob(), first: 4, last: 5 };
        assert_eq!(
            of_event(&missing, UnixMillis(0)).unwrap(),
            "1970-01-01T00:00:00.000Z in messages bob 4-5 missing\n"
        );
        assert_eq!(of_event(&Event::LoggedInElsewhere, UnixMillis(0)), None);
    }

    #[test]
    fn nothing_that_a_message_says_is_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("activity");
        let mut log = ActivityLog::open(&path, &bob()).unwrap();
        let offer = Event::Offer {
            from: bob(),
            id: id(),
            name: FileName::parse("secret plans.pdf").unwrap(),
            size: 4_321,
            digest: FileDigest::from_bytes([7; 32]),
            files: None,
            legacy: false,
        };
        for event in [message("secret dinner"), offer] {
            assert_eq!(log.note(&event), None);
            assert_eq!(log.note_shown(&event), None);
        }
        assert_eq!(log.note_overrun(3), None);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret") && !text.contains("4321") && !text.contains("dinner"), "{text}");
        let states: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
        assert_eq!(states, ["started", "received", "shown", "received", "shown", "overrun"]);
        assert!(text.lines().all(|line| line.split(' ').count() == 6), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_there_is_kept_and_a_bad_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("activity");
        for _ in 0..2 {
            ActivityLog::open(&path, &bob()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        let kind = |path: &Path| ActivityLog::open(path, &bob()).unwrap_err().kind;
        assert_eq!(kind(&folder.path().join("nowhere/activity")), FailureKind::Usage);
        assert_eq!(kind(folder.path()), FailureKind::Usage);
        assert_eq!(kind(Path::new("/dev/full")), FailureKind::Disk);
    }

    #[test]
    fn a_disk_that_fills_up_is_one_warning() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = ActivityLog { file, path: "/dev/full".into(), has_failed: false };
        let warning = log.note(&message("hi")).unwrap();
        assert!(warning.contains("/dev/full"), "{warning}");
        assert_eq!(log.note(&message("hi")), None);
    }
}
