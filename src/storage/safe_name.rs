//! The only place where a name from somebody else becomes a name on this disk.

use crate::wire::ids::FileName;

/// One path component that a local file system takes and that names nothing but a file in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeName(String);

/// Names that some systems take for devices, with any extension; `com` and `lpt` with one digit are such, too.
const DEVICES: [&str; 7] = ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"];

/// What every file system takes as one component.
const COMPONENT_BYTES_MAX: usize = 255;

/// What ends the name of a part file.
const PART_ENDING: &str = ".qpart";

/// What follows the last dot of a name and is longer is no extension, and is cut like the rest of a name.
const EXTENSION_BYTES_MAX: usize = 32;

impl SafeName {
    /// Makes a local name: what a file system may not hold becomes `_`, and so does a leading `-` that a shell command
    /// would take for an option, and the dot of what would pass for the part file of another transfer.
    ///
    /// Letters stay as they were sent, composed or not: a folder comes over with equal names, and where two of them are one
    /// to the file system, the second one finds that it exists.
    #[must_use]
    pub fn from_remote(name: &FileName) -> Self {
        let mut safe: String = name.as_str().chars().map(|c| if ":*?\"<>|".contains(c) { '_' } else { c }).collect();
        if safe.starts_with('-') || is_part_file(&safe) {
            safe.replace_range(..1, "_");
        }
        if is_device(&safe) {
            safe.insert(0, '_');
            safe.truncate(cut(&safe, COMPONENT_BYTES_MAX).len());
        }
        if safe.ends_with(['.', ' ']) {
            safe.pop();
            safe.push('_');
        }
        Self(safe)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the part file: `.NAME.qpart`; of a name too long for that its beginning and a number of its own.
    #[must_use]
    pub fn partial(&self) -> String {
        let room = COMPONENT_BYTES_MAX - ".".len() - PART_ENDING.len();
        if self.0.len() <= room {
            return format!(".{}{PART_ENDING}", self.0);
        }
        let number = format!("~{:08x}", fnv(&self.0));
        format!(".{}{number}{PART_ENDING}", cut(&self.0, room - number.len()))
    }

    /// The name with a number before its extension: `name (1).txt`.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let (stem, extension) = match self.0.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() && extension.len() <= EXTENSION_BYTES_MAX => {
                (stem, format!(".{extension}"))
            }
            _ => (self.0.as_str(), String::new()),
        };
        let number = format!(" ({number})");
        let room = COMPONENT_BYTES_MAX.saturating_sub(number.len() + extension.len());
        Self(format!("{}{number}{extension}", cut(stem, room)))
    }
}

fn is_part_file(name: &str) -> bool {
    name.starts_with('.') && name.to_ascii_lowercase().ends_with(PART_ENDING)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let digits = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt")).unwrap_or_default();
    let mut digits = digits.chars();
    let has_one_digit = matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None));
    has_one_digit || DEVICES.contains(&stem.as_str())
}

/// Fowler, Noll and Vo's hash (FNV-1a): tells names apart, and stays the same for ever.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The beginning of a text, of at most this many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(remote: &str, local: &str) {
        assert_eq!(SafeName::from_remote(&FileName::parse(remote).unwrap()).as_str(), local);
    }

    #[test]
    fn remote_names_become_harmless_local_ones() {
        check("Grüße aus Köln.txt", "Grüße aus Köln.txt");
        check(".bashrc", ".bashrc");
        check("a:b*c?.txt", "a_b_c_.txt");
        check("-rf", "_rf");
        check("trailing.", "trailing_");
        check("NUL.txt", "_NUL.txt");
        check("com1 .txt", "_com1 .txt");
        check("COM¹", "_COM¹");
        check("lpt³.tar.gz", "_lpt³.tar.gz");
        check("CONIN$", "_CONIN$");
        check("com", "com");
        check("com12", "com12");
        check("aux ", "_aux_");
        check("file::$DATA", "file__$DATA");
    }

    #[test]
    fn no_name_passes_for_a_part_file() {
        check(".big.iso.qpart", "_big.iso.qpart");
        check(".BIG.QPart", "_BIG.QPart");
        check("big.qpart", "big.qpart");
    }

    #[test]
    fn names_stay_as_long_as_file_systems_take() {
        let long_device = format!("nul.{}", "x".repeat(251));
        check(&long_device, &format!("_nul.{}", "x".repeat(250)));
        let cut_at_a_space = format!("nul.{} x", "x".repeat(249));
        check(&cut_at_a_space, &format!("_nul.{}_", "x".repeat(249)));
    }

    #[test]
    fn numbers_go_before_the_extension() {
        let numbered = |name: &str| SafeName::from_remote(&FileName::parse(name).unwrap()).numbered(2).0;
        assert_eq!(numbered("a.tar.gz"), "a.tar (2).gz");
        assert_eq!(numbered("README"), "README (2)");
        assert_eq!(numbered(".profile"), ".profile (2)");
    }

    #[test]
    fn part_files_fit_every_file_system() {
        let long = SafeName("ä".repeat(127));
        assert!(long.partial().len() <= 255);
        assert!(long.numbered(9_999).as_str().len() <= 255);
        let all_extension = SafeName(format!("a.{}", "x".repeat(253)));
        let other = SafeName(format!("a.{}y", "x".repeat(252)));
        assert!(all_extension.partial() != other.partial(), "two files would share a part file");
        assert_eq!(other.partial().len(), 255);
        assert_eq!(all_extension.numbered(u32::MAX).as_str().len(), 255);
    }
}
