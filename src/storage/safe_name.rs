//! The only place where a name from somebody else becomes a name on this disk.

use crate::wire::ids::FileName;

/// One path component that a local file system takes and that names nothing but a file in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeName(String);

/// Names that some systems take for devices, with any extension.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// What follows the last dot of a name and is longer is no extension, and is cut like the rest of a name.
const EXTENSION_BYTES_MAX: usize = 32;

impl SafeName {
    /// Makes a local name: what a file system may not hold becomes `_`, and so does a leading `-` that a shell command
    /// would take for an option.
    #[must_use]
    pub fn from_remote(name: &FileName) -> Self {
        let mut safe: String = name.as_str().chars().map(|c| if ":*?\"<>|".contains(c) { '_' } else { c }).collect();
        if safe.starts_with('-') {
            safe.replace_range(..1, "_");
        }
        if safe.ends_with(['.', ' ']) {
            safe.pop();
            safe.push('_');
        }
        let stem = safe.split('.').next().unwrap_or_default().trim_end().to_lowercase();
        if DEVICES.contains(&stem.as_str()) && safe.len() < 255 {
            safe.insert(0, '_');
        }
        Self(safe)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the part file: `.NAME.qpart`, cut where a file system would not hold it.
    #[must_use]
    pub fn partial(&self) -> String {
        format!(".{}.qpart", cut(&self.0, 248))
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
        let room = 255_usize.saturating_sub(number.len() + extension.len());
        Self(format!("{}{number}{extension}", cut(stem, room)))
    }
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
        assert_eq!(all_extension.numbered(u32::MAX).as_str().len(), 255);
    }
}
