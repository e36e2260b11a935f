//! Names, keys and numbers that cannot exist unless they are valid: each is parsed once, at the edge.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

use super::limits::{FILE_BYTES_MAX, FILE_NAME_BYTES_MAX, PASSWORD_BYTES_MAX, PATTERN_BYTES_MAX};

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a name of an account.
    #[error("{0:?} is not a name: 1 to 32 of a-z 0-9 . _ -, starting with a letter or digit")]
    Name(String),
    /// A word that the program itself uses.
    #[error("the name {0:?} is reserved: nobody can have it")]
    ReservedName(String),
    /// Not hexadecimal of the right length.
    #[error("{text:?} is not {bytes} bytes in hexadecimal")]
    Hex {
        /// What was given, shortened.
        text: String,
        /// How many bytes it should be.
        bytes: usize,
    },
    /// Not usable as the name of a file.
    #[error("{0:?} cannot be a file name: {1}")]
    FileName(String, &'static str),
    /// Larger than a transfer can be.
    #[error("{0} bytes are more than a file may have ({FILE_BYTES_MAX})")]
    FileSize(u64),
    /// An empty or over-long password.
    #[error("a password is not empty, and not longer than {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// Not the token of an invitation.
    #[error("the invitation's token is damaged")]
    Token,
    /// An over-long search pattern.
    #[error("a search pattern has at most {PATTERN_BYTES_MAX} bytes")]
    Pattern,
}

/// Words that would be mistaken for a command, a group or the program itself.
const RESERVED_NAMES: [&str; 14] = [
    "admin",
    "all",
    "anonymous",
    "broadcast",
    "directory",
    "everyone",
    "everybody",
    "me",
    "nobody",
    "qchat",
    "root",
    "server",
    "system",
    "you",
];

/// The name of an account at a directory: `[a-z0-9][a-z0-9._-]{0,31}`, ASCII lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerName(String);

impl PeerName {
    /// Parses a name; upper-case ASCII letters are lowered.
    ///
    /// # Errors
    /// [`IdError::Name`] or [`IdError::ReservedName`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let name = text.to_ascii_lowercase();
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !first || name.len() > 32 || !name.bytes().all(inner) {
            return Err(IdError::Name(shortened(text)));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(IdError::ReservedName(name));
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The label of a file as one person shows it to another: never a path, always printable.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// Parses a file name: 1 to 255 bytes without separators, control, bidirectional or invisible characters.
    ///
    /// # Errors
    /// [`IdError::FileName`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let refuse = |why| Err(IdError::FileName(shortened(text), why));
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > FILE_NAME_BYTES_MAX {
            return refuse("it is longer than 255 bytes");
        }
        if text == "." || text == ".." {
            return refuse("it means a folder");
        }
        if text.contains(['/', '\\']) {
            return refuse("it contains a path separator");
        }
        if text.chars().any(is_unprintable) {
            return refuse("it contains a control or invisible character");
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character could move the cursor, reorder the line or hide in it.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A size in bytes that a transfer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct FileSize(u64);

impl FileSize {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for FileSize {
    type Error = IdError;
    fn try_from(bytes: u64) -> Result<Self, IdError> {
        if bytes > FILE_BYTES_MAX { Err(IdError::FileSize(bytes)) } else { Ok(Self(bytes)) }
    }
}

impl From<FileSize> for u64 {
    fn from(size: FileSize) -> Self {
        size.0
    }
}

/// Text to search file names for; empty matches all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Parses a pattern of at most 255 bytes.
    ///
    /// # Errors
    /// [`IdError::Pattern`] when it is longer.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > PATTERN_BYTES_MAX { Err(IdError::Pattern) } else { Ok(Self(text.to_owned())) }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password on its way to the directory. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(try_from = "String", into = "String")]
pub struct Password(String);

impl Password {
    /// Parses a password of 1 to 1,024 bytes.
    ///
    /// # Errors
    /// [`IdError::Password`] when it is empty or longer.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > PASSWORD_BYTES_MAX {
            return Err(IdError::Password);
        }
        Ok(Self(text.to_owned()))
    }

    /// The password's bytes, for the hash function only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        password.0.clone()
    }
}

impl TryFrom<String> for Password {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

/// Admits one new account to a directory that wants invitations: 16 random bytes. Wiped when dropped, never shown but in
/// the link it is for.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct InviteToken([u8; 16]);

impl InviteToken {
    /// Takes the random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The token's bytes, for the hash function only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses the 26 base32 characters of a link.
    ///
    /// # Errors
    /// [`IdError::Token`] when it is anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| IdError::Token)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::Token)?))
    }

    /// How a link writes it: 26 characters of lower-case base32.
    #[must_use]
    pub fn link_text(&self) -> String {
        BASE32_NOPAD.encode(&self.0).to_ascii_lowercase()
    }
}

impl fmt::Debug for InviteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteToken(..)")
    }
}

impl Serialize for InviteToken {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for InviteToken {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(<[u8; 16]>::deserialize(from)?))
    }
}

/// Admits one address to a place at the directory's UDP ports: 16 random bytes, a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket([u8; 16]);

impl Ticket {
    /// Takes the random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the datagram that shows them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

macro_rules! text_id {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }
    };
}

text_id!(PeerName);
text_id!(FileName);

impl TryFrom<String> for Pattern {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $type:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type([u8; $bytes]);

        impl $type {
            /// Takes the raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Parses hexadecimal.
            ///
            /// # Errors
            /// [`IdError::Hex`] when it is not hexadecimal of the right length.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| <[u8; $bytes]>::try_from(bytes).ok())
                    .map(Self)
                    .ok_or_else(|| IdError::Hex { text: shortened(text), bytes: $bytes })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
                } else {
                    Ok(Self(<[u8; $bytes]>::deserialize(from)?))
                }
            }
        }
    };
}

byte_id!(
    /// A person's identity: the Ed25519 public key (RFC 8032).
    PeerKey, 32
);
byte_id!(
    /// A directory's identity: SHA-256 of its certificate's SubjectPublicKeyInfo.
    DirectoryFingerprint, 32
);
byte_id!(
    /// What a file is: its BLAKE3 root.
    FileDigest, 32
);
byte_id!(
    /// One message for ever: 16 random bytes drawn once, before the first send.
    MessageId, 16
);
byte_id!(
    /// One transfer of a peer: 16 random bytes, or those of the offer it is for. Never on the wire.
    TransferId, 16
);
byte_id!(
    /// One announced dial: 16 random bytes drawn by the directory.
    DialId, 16
);
byte_id!(
    /// One prekey of an account.
    PrekeyId, 16
);

/// An Ed25519 signature (RFC 8032): 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes the raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

// serde has arrays up to 32 elements only: two halves are the same 64 bytes on the wire.
impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (low, high) = self.0.split_at(32);
        let half = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("64 bytes were split in the middle");
        (half(low), half(high)).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(from)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(Self(bytes))
    }
}

/// Which login of an account is meant: each resident login gets a higher one, so that late requests of an older
/// session are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Milliseconds since 1970-01-01 UTC, by the clock of whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus a number of milliseconds.
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl DialId {
    /// The server name a dialler puts into its ClientHello: 26 base32 letters under a domain that cannot exist.
    #[must_use]
    pub fn server_name(&self) -> String {
        format!("{}{DIAL_DOMAIN}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }

    /// Reads the dial back from a server name.
    #[must_use]
    pub fn from_server_name(name: &str) -> Option<Self> {
        let label = name.strip_suffix(DIAL_DOMAIN)?;
        let bytes = BASE32_NOPAD.decode(label.to_ascii_uppercase().as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// RFC 6761 keeps `.invalid` out of every name service.
const DIAL_DOMAIN: &str = ".qchat.invalid";

/// At most 64 characters of a text for an error message.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 64 { text.to_owned() } else { text.chars().take(61).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_odd_ones_refused() {
        assert_eq!(PeerName::parse("Alice").unwrap().as_str(), "alice");
        for bad in ["", "-a", ".a", "a b", "ä", "server", "ALL", &"x".repeat(33)] {
            assert!(PeerName::parse(bad).is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn file_names_are_labels_and_never_paths() {
        for good in ["a", "Grüße aus Köln.txt", ".hidden", "a  b", &"x".repeat(255)] {
            assert!(FileName::parse(good).is_ok(), "{good:?} should be accepted");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "a\0", "a\u{202e}b", "a\nb", "\u{1b}[2J", &"x".repeat(256)] {
            assert!(FileName::parse(bad).is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn a_dial_survives_its_server_name() {
        let dial = DialId::from_bytes([7; 16]);
        assert_eq!(DialId::from_server_name(&dial.server_name()), Some(dial));
        assert_eq!(DialId::from_server_name("example.org"), None);
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(format!("{:?}", Password::parse("hunter2").unwrap()), "Password(..)");
    }

    /// Every text of up to three characters out of those that matter: what is a name stays the same when it is parsed
    /// again, and nothing else is one.
    #[test]
    fn a_name_is_its_own_spelling_and_holds_nothing_else() {
        let alphabet =
            ['a', 'z', '0', '9', 'A', '.', '_', '-', '/', ' ', '\n', '\u{0}', 'ä', 'ſ', '\u{212a}', '\u{202e}'];
        let longer = |texts: &[String]| -> Vec<String> {
            texts.iter().flat_map(|text| alphabet.iter().map(move |c| format!("{text}{c}"))).collect()
        };
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            texts = longer(&texts);
            for text in &texts {
                let inner = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
                let is_name = inner && text.starts_with(|c: char| c.is_ascii_alphanumeric());
                match PeerName::parse(text) {
                    Ok(name) => {
                        assert!(is_name, "{text:?}");
                        assert_eq!(name.as_str(), text.to_ascii_lowercase());
                        assert_eq!(PeerName::parse(name.as_str()), Ok(name));
                    }
                    Err(_) => assert!(!is_name, "{text:?}"),
                }
            }
        }
    }
}
