//! Profiles as people type and read them. What others wrote is cleaned, and stands behind a label on a line of its own, so
//! that no text can pass for another part.

use std::path::Path;

use indicatif::HumanBytes;

use super::output::printable;
use super::words::{local_path, usage};
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, ProfileEdit};
use crate::peer::rows::{PictureRow, ProfileRow, ProfileSource};
use crate::wire::ids::PeerName;
use crate::wire::profile::{DisplayName, FieldLabel, FieldValue, PartError, PictureKind, ProfileInfo};

/// Reads what follows `/profile`: nothing, `NAME`, `NAME via FRIEND` (`--via`, as the verb has it) or `edit FIELD [VALUE]`. `folder` is where relative
/// paths begin.
pub(super) fn command(rest: &str, folder: &Path) -> Result<Command, Failure> {
    let (first, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let more = more.trim();
    if first == "edit" {
        let (field, value) = more.split_once(char::is_whitespace).unwrap_or((more, ""));
        return edit(field, value.trim(), folder);
    }
    let name = |text| PeerName::parse(text).map_err(usage);
    let via = match more.split_once(char::is_whitespace) {
        Some(("via" | "--via", friend)) => Some(name(friend.trim())?),
        None if more.is_empty() => None,
        Some(_) | None => {
            return Err(Failure::new(FailureKind::Usage, format!("/profile {first} does not know {more:?}"))
                .hint("/profile NAME via FRIEND asks a friend for it"));
        }
    };
    let name = if first.is_empty() { None } else { Some(name(first)?) };
    Ok(Command::Profile { name, via, picture_to: None })
}

/// Reads a change to our own profile; an empty value removes the part.
pub(super) fn edit(field: &str, value: &str, folder: &Path) -> Result<Command, Failure> {
    let value = (!value.is_empty()).then_some(value);
    let edit = match field.to_ascii_lowercase().as_str() {
        "" => return Err(no_field()),
        "name" => ProfileEdit::DisplayName { name: value.map(DisplayName::parse).transpose().map_err(wrong)? },
        "info" => ProfileEdit::Info { text: value.map(ProfileInfo::parse).transpose().map_err(wrong)? },
        "picture" => ProfileEdit::Picture { path: value.map(|path| local_path(path, folder)) },
        label => ProfileEdit::Field {
            label: FieldLabel::parse(label).map_err(wrong)?,
            value: value.map(FieldValue::parse).transpose().map_err(wrong)?,
        },
    };
    Ok(Command::EditProfile { edit })
}

/// Of somebody who has not said what is to be changed.
pub(super) fn no_field() -> Failure {
    Failure::new(FailureKind::Usage, "which part of the profile?")
        .hint("name, info, picture, or any other word for a field of your own")
}

fn wrong(error: PartError) -> Failure {
    Failure::new(FailureKind::Usage, error.to_string())
}

/// A profile, one part a line.
pub(super) fn lines(row: &ProfileRow) -> String {
    let ProfileRow { name, version, source, via, .. } = row;
    let from = match (source, via) {
        (ProfileSource::Stored, _) => ", the copy that lies here".to_owned(),
        (ProfileSource::Friend, Some(friend)) => format!(", as {friend} has it"),
        (ProfileSource::Own | ProfileSource::Owner | ProfileSource::Friend, _) => String::new(),
    };
    let mut text = format!("{name}  (version {version}{from})");
    let mut part = |label: &str, said: &str| text.push_str(&format!("\n  {label}: {}", printable(said)));
    if let Some(name) = &row.display_name {
        part("name", name);
    }
    if let Some(info) = &row.info {
        part("info", info);
    }
    for (label, value) in &row.fields {
        part(&printable(label), value);
    }
    if let Some(picture) = &row.picture {
        part("picture", &picture_line(picture));
    }
    text
}

fn picture_line(PictureRow { kind, size, path }: &PictureRow) -> String {
    let kind = match kind {
        PictureKind::Png => "PNG",
        PictureKind::Jpeg => "JPEG",
    };
    let saved = path.as_ref().map_or(String::new(), |path| format!(", saved as {}", path.display()));
    format!("{kind}, {}{saved}", HumanBytes(*size))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::wire::ids::PeerKey;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    #[test]
    fn a_profile_is_shown_asked_of_a_friend_or_changed() {
        let run = |rest| command(rest, Path::new("/here")).unwrap();
        let shown = |name, via| Command::Profile { name, via, picture_to: None };
        assert_eq!(run(""), shown(None, None));
        assert_eq!(run("bob"), shown(Some(name("bob")), None));
        assert_eq!(run("bob  via  carol"), shown(Some(name("bob")), Some(name("carol"))));
        let changed = |edit| Command::EditProfile { edit };
        let called = DisplayName::parse("Bob the  Builder").unwrap();
        assert_eq!(run("edit name Bob the  Builder"), changed(ProfileEdit::DisplayName { name: Some(called) }));
        assert_eq!(run("edit  name "), changed(ProfileEdit::DisplayName { name: None }));
        assert_eq!(run("edit INFO"), changed(ProfileEdit::Info { text: None }));
        let path = Some(PathBuf::from("/here/my face.png"));
        assert_eq!(run("edit picture my face.png"), changed(ProfileEdit::Picture { path }));
        assert_eq!(run("edit picture"), changed(ProfileEdit::Picture { path: None }));
        let label = FieldLabel::parse("town").unwrap();
        let value = Some(FieldValue::parse("New York").unwrap());
        assert_eq!(run("edit Town New York"), changed(ProfileEdit::Field { label: label.clone(), value }));
        assert_eq!(run("edit town"), changed(ProfileEdit::Field { label, value: None }));
        let long = format!("edit name {}", "x".repeat(65));
        for wrong in ["edit", "edit a:b c", "bob carol", "bob via", "bob via a b", "-", &long] {
            let failure = command(wrong, Path::new("/")).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn no_part_of_a_profile_can_pass_for_another() {
        let row = ProfileRow {
            name: name("bob"),
            key: PeerKey::from_bytes([1; 32]),
            version: 3,
            display_name: Some("Bob".to_owned()),
            info: Some("one\n  picture: none\u{1b}[2J".to_owned()),
            fields: BTreeMap::from([("town".to_owned(), "Berlin".to_owned())]),
            picture: Some(PictureRow { kind: PictureKind::Png, size: 2_048, path: Some("/tmp/b.png".into()) }),
            source: ProfileSource::Friend,
            via: Some(name("carol")),
            news: true,
        };
        let expected = "bob  (version 3, as carol has it)\n  name: Bob\n  info: one\n      picture: none\\u{1b}[2J\n  \
                        town: Berlin\n  picture: PNG, 2.00 KiB, saved as /tmp/b.png";
        assert_eq!(lines(&row), expected);
    }
}
