//! The profile of a person: a small document that its owner signs, and that friends hand on.
//!
//! What is in it cannot exist unless it is valid: each part is parsed once, when it is typed and when it is decoded.

use serde::{Deserialize, Serialize};

use super::ids::{PeerKey, PeerName, Signature, is_unprintable};
use super::limits::{
    DISPLAY_NAME_CHARS_MAX, FIELD_LABEL_CHARS_MAX, FIELD_VALUE_BYTES_MAX, PICTURE_BYTES_MAX, PROFILE_FIELDS_MAX,
    PROFILE_INFO_BYTES_MAX,
};

/// What a person says about themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The account.
    pub name: PeerName,
    /// Its key.
    pub key: PeerKey,
    /// 1, 2, 3 ...: the higher is the newer.
    pub version: u64,
    /// What they want to be called. Anybody may say anything here: the account's name stands beside it.
    pub display_name: Option<DisplayName>,
    /// A paragraph about themselves.
    pub info: Option<ProfileInfo>,
    /// Whatever else they want to say.
    pub fields: Fields,
    /// A picture.
    pub picture: Option<Picture>,
}

impl Profile {
    /// One that says nothing yet, and has never been signed.
    #[must_use]
    pub fn empty(name: PeerName, key: PeerKey) -> Self {
        Self { name, key, version: 0, display_name: None, info: None, fields: Fields::default(), picture: None }
    }
}

/// A profile as its owner signed it. Whoever hands it on hands on these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedProfile {
    /// The encoded [`Profile`], kept as the bytes that were signed.
    #[serde(with = "serde_bytes")]
    pub document: Vec<u8>,
    /// By the key that is in it.
    pub signature: Signature,
}

/// Asks a peer for a profile: its own, or one that it holds of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRequest {
    /// Whose.
    pub of: PeerName,
    /// The version that the asker has, 0 for none: only a newer one travels.
    pub known: u64,
}

/// The yes to a [`ProfileRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileReply {
    /// There is none that is newer.
    NothingNew,
    /// This one.
    New(Box<SignedProfile>),
}

/// Why something cannot be a part of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Not a display name.
    #[error("a display name has 1 to {DISPLAY_NAME_CHARS_MAX} characters on one line, none of them invisible")]
    DisplayName,
    /// Not a paragraph about oneself.
    #[error("the info of a profile has 1 to {PROFILE_INFO_BYTES_MAX} bytes, not {0}")]
    Info(usize),
    /// Not what a field is called.
    #[error("a field is called by one word of 1 to {FIELD_LABEL_CHARS_MAX} letters, digits and . _ -")]
    Label,
    /// A word that means another part of the profile.
    #[error("{0} is no free field: every profile has it")]
    ReservedLabel(String),
    /// Not what a field says.
    #[error("a field says 1 to {FIELD_VALUE_BYTES_MAX} bytes, not {0}")]
    Value(usize),
    /// More fields than fit.
    #[error("a profile has at most {PROFILE_FIELDS_MAX} free fields, not {0}")]
    TooManyFields(usize),
    /// The same field twice, or fields that are not in the order of their labels.
    #[error("the fields of a profile are in the order of their labels, each once")]
    FieldOrder,
    /// An empty picture, or one that is too large.
    #[error("a picture has 1 to {PICTURE_BYTES_MAX} bytes, not {0}")]
    PictureBytes(usize),
    /// Not a picture that everybody's programs can show.
    #[error("a picture is a PNG or a JPEG, and this is neither")]
    PictureKind,
}

/// Whether a character leaves something to see on a screen.
fn is_ink(c: char) -> bool {
    let is_blank =
        matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{fe00}'..='\u{fe0f}');
    !c.is_whitespace() && !is_blank
}

text_type! {
    /// What somebody wants to be called: 1 to 64 characters, all of them visible.
    DisplayName, PartError, text => {
        let fits = (1..=DISPLAY_NAME_CHARS_MAX).contains(&text.chars().count());
        let shows = text.chars().any(is_ink) && !text.chars().any(is_unprintable);
        if fits && shows { Ok(text.to_owned()) } else { Err(PartError::DisplayName) }
    }
}

text_type! {
    /// A paragraph of somebody about themselves: 1 to 1,024 bytes.
    ProfileInfo, PartError, text => {
        let fits = (1..=PROFILE_INFO_BYTES_MAX).contains(&text.len());
        if fits { Ok(text.to_owned()) } else { Err(PartError::Info(text.len())) }
    }
}

text_type! {
    /// What a free field is called: one word of 1 to 32 letters, digits and `. _ -`; upper-case ASCII letters are lowered.
    FieldLabel, PartError, text => {
        let label = text.to_ascii_lowercase();
        let fits = (1..=FIELD_LABEL_CHARS_MAX).contains(&label.chars().count());
        if !fits || !label.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
            Err(PartError::Label)
        } else if RESERVED_LABELS.contains(&label.as_str()) {
            Err(PartError::ReservedLabel(label))
        } else {
            Ok(label)
        }
    }
}

text_type! {
    /// What a free field says: 1 to 512 bytes.
    FieldValue, PartError, text => {
        let fits = (1..=FIELD_VALUE_BYTES_MAX).contains(&text.len());
        if fits { Ok(text.to_owned()) } else { Err(PartError::Value(text.len())) }
    }
}

/// Words that name the parts that every profile can have.
const RESERVED_LABELS: [&str; 3] = ["name", "info", "picture"];

/// The free fields of a profile: at most 16, in the order of their labels, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Field>", into = "Vec<Field>")]
pub struct Fields(Vec<Field>);

/// What a free field is called, and what it says.
pub type Field = (FieldLabel, FieldValue);

impl Fields {
    /// The fields in the order of their labels.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// Has a field say something, in the place of what it said before.
    ///
    /// # Errors
    /// [`PartError::TooManyFields`] when there would be more than 16.
    pub fn set(&mut self, label: FieldLabel, value: FieldValue) -> Result<(), PartError> {
        match self.place(&label) {
            Ok(place) => self.0[place].1 = value,
            Err(_) if self.0.len() >= PROFILE_FIELDS_MAX => {
                return Err(PartError::TooManyFields(self.0.len() + 1));
            }
            Err(place) => self.0.insert(place, (label, value)),
        }
        Ok(())
    }

    /// Removes a field. Says whether it was there.
    pub fn remove(&mut self, label: &FieldLabel) -> bool {
        self.place(label).map(|place| self.0.remove(place)).is_ok()
    }

    fn place(&self, label: &FieldLabel) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(label))
    }
}

impl TryFrom<Vec<Field>> for Fields {
    type Error = PartError;
    fn try_from(fields: Vec<Field>) -> Result<Self, PartError> {
        if fields.len() > PROFILE_FIELDS_MAX {
            Err(PartError::TooManyFields(fields.len()))
        } else if fields.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            Err(PartError::FieldOrder)
        } else {
            Ok(Self(fields))
        }
    }
}

impl From<Fields> for Vec<Field> {
    fn from(fields: Fields) -> Self {
        fields.0
    }
}

/// A picture: bytes that begin like a PNG or a JPEG, 32 KiB at most. Nothing here draws it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct Picture {
    bytes: Vec<u8>,
    kind: PictureKind,
}

/// What a picture is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureKind {
    /// Portable Network Graphics.
    Png,
    /// A JPEG file.
    Jpeg,
}

/// What every PNG begins with (PNG specification, third edition, section 5.2).
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What every JPEG begins with: the marker for the start of an image, and the first byte of the next marker (ITU T.81,
/// annex B).
const JPEG_START: &[u8] = b"\xff\xd8\xff";

impl Picture {
    /// Takes the bytes of a PNG or a JPEG.
    ///
    /// # Errors
    /// [`PartError::PictureBytes`] or [`PartError::PictureKind`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, PartError> {
        if bytes.is_empty() || bytes.len() > PICTURE_BYTES_MAX {
            return Err(PartError::PictureBytes(bytes.len()));
        }
        let kind = if bytes.starts_with(PNG_SIGNATURE) {
            PictureKind::Png
        } else if bytes.starts_with(JPEG_START) {
            PictureKind::Jpeg
        } else {
            return Err(PartError::PictureKind);
        };
        Ok(Self { bytes, kind })
    }

    /// The picture as a file has it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it is encoded as.
    #[must_use]
    pub fn kind(&self) -> PictureKind {
        self.kind
    }
}

impl TryFrom<serde_bytes::ByteBuf> for Picture {
    type Error = PartError;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, PartError> {
        Self::parse(bytes.into_vec())
    }
}

impl From<Picture> for serde_bytes::ByteBuf {
    fn from(picture: Picture) -> Self {
        Self::from(picture.bytes)
    }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
