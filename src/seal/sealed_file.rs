//! A file that only a passphrase opens: a line that says what it is, then the age format (age-encryption.org/v1) with
//! scrypt. The only file that names age.

use std::io::{Read as _, Write as _};
use std::iter;

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt};
use zeroize::Zeroizing;

use crate::wire::ids::Password;

/// What every such file begins with; the version and a line break follow.
const MAGIC: &[u8] = b"qchat identity v";

/// The version that is written, and the only one there is.
const VERSION: &[u8] = b"1\n";

/// N = 2^18 takes about a second and 256 MiB, for us and for each guess of whoever finds the file (age's own default).
const WORK_FACTOR: u8 = 18;

/// A file that asks for more is meant to keep this machine busy: 2^20 takes 1 GiB.
const WORK_FACTOR_MAX: u8 = 20;

/// Why a file was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedFileError {
    /// It is something else.
    #[error("it is not an exported identity")]
    Foreign,
    /// A newer program has written it.
    #[error("a newer version of qchat has written it")]
    Newer,
    /// The passphrase is another one.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// A part of it is missing or changed.
    #[error("it is damaged or not complete")]
    Damaged,
}

/// Seals bytes with a passphrase. Takes a second.
#[must_use]
pub fn seal(passphrase: &Password, plain: &[u8]) -> Vec<u8> {
    seal_with_work(passphrase, plain, WORK_FACTOR)
}

fn seal_with_work(passphrase: &Password, plain: &[u8], work_factor: u8) -> Vec<u8> {
    let mut recipient = scrypt::Recipient::new(secret(passphrase));
    recipient.set_work_factor(work_factor);
    let encryptor = Encryptor::with_recipients(iter::once(&recipient as _)).expect("there is one recipient");
    let mut sealed = [MAGIC, VERSION].concat();
    let mut writer = encryptor.wrap_output(&mut sealed).expect("memory takes every write");
    writer.write_all(plain).expect("memory takes every write");
    writer.finish().expect("memory takes every write");
    sealed
}

/// Opens what [`seal`] made. Takes a second.
///
/// # Errors
/// [`SealedFileError`].
pub fn open(passphrase: &Password, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedFileError> {
    let versioned = sealed.strip_prefix(MAGIC).ok_or(SealedFileError::Foreign)?;
    let sealed = versioned.strip_prefix(VERSION).ok_or_else(|| version_error(versioned))?;
    let mut identity = scrypt::Identity::new(secret(passphrase));
    identity.set_max_work_factor(WORK_FACTOR_MAX);
    let decryptor = Decryptor::new_buffered(sealed).map_err(|error| reason(&error))?;
    let mut reader = decryptor.decrypt(iter::once(&identity as _)).map_err(|error| reason(&error))?;
    // As large as it can become, so that no copy of a part is left where it grew.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plain).map_err(|_| SealedFileError::Damaged)?;
    Ok(plain)
}

fn version_error(versioned: &[u8]) -> SealedFileError {
    let digits = versioned.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 && versioned.get(digits) == Some(&b'\n') { SealedFileError::Newer } else { SealedFileError::Damaged }
}

fn reason(error: &DecryptError) -> SealedFileError {
    match error {
        // Also when the wrapped key itself is damaged: the two look the same.
        DecryptError::DecryptionFailed => SealedFileError::WrongPassphrase,
        _ => SealedFileError::Damaged,
    }
}

fn secret(passphrase: &Password) -> SecretString {
    SecretString::from(String::from_utf8_lossy(passphrase.expose()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    /// Little work, so that a test can open many.
    fn sealed() -> Vec<u8> {
        seal_with_work(&passphrase("four words or so"), &[7; 1_000], 4)
    }

    #[test]
    fn only_the_passphrase_opens_it() {
        assert_eq!(*open(&passphrase("four words or so"), &sealed()).unwrap(), [7; 1_000]);
        assert_eq!(open(&passphrase("other words"), &sealed()), Err(SealedFileError::WrongPassphrase));
    }

    #[test]
    fn what_is_missing_or_changed_anywhere_is_noticed() {
        let (good, passphrase) = (sealed(), passphrase("four words or so"));
        for index in (0..good.len()).step_by(7) {
            assert!(open(&passphrase, &good[..index]).is_err(), "cut at {index}");
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(open(&passphrase, &bad).is_err(), "changed at {index}");
        }
        assert_eq!(open(&passphrase, &good[..good.len() - 1]), Err(SealedFileError::Damaged));
        assert_eq!(open(&passphrase, &[&good[..], b"x"].concat()), Err(SealedFileError::Damaged));
    }

    #[test]
    fn other_files_and_newer_versions_are_told_apart() {
        let check = |bytes: &[u8], error| assert_eq!(open(&passphrase("any"), bytes), Err(error));
        check(b"", SealedFileError::Foreign);
        check(b"age-encryption.org/v1\n", SealedFileError::Foreign);
        check(b"qchat identity v2\nwhatever", SealedFileError::Newer);
        check(b"qchat identity v1\n", SealedFileError::Damaged);
        check(b"qchat identity v", SealedFileError::Damaged);
    }

    #[test]
    fn a_file_that_asks_for_too_much_work_is_not_opened() {
        let mut greedy = sealed();
        let at = greedy.windows(3).position(|bytes| bytes == b" 4\n").unwrap();
        greedy.splice(at..at + 3, *b" 40\n");
        assert_eq!(open(&passphrase("four words or so"), &greedy), Err(SealedFileError::Damaged));
    }
}
