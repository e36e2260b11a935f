//! Account passwords as the directory keeps them: Argon2id (RFC 9106) in a PHC string, which carries its own settings.
//! Takes tens of milliseconds and 19 MiB on purpose: call it off the async threads, and few at once.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use super::random::{self, Random};
use crate::wire::ids::Password;

// OWASP's first recommendation with one lane: m = 19 MiB, t = 2, p = 1 (Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Bytes of a salt (RFC 9106, section 3.1).
const SALT_BYTES: usize = 16;

/// Why a password could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The memory for hashing was not to be had.
    #[error("there is not enough memory to hash a password")]
    OutOfMemory,
    /// What is stored is not a hash that this version can check.
    #[error("the stored password hash cannot be used: {0}")]
    StoredHash(Error),
}

impl From<Error> for PasswordError {
    fn from(error: Error) -> Self {
        if error == Error::OutOfMemory { Self::OutOfMemory } else { Self::StoredHash(error) }
    }
}

/// Hashes a password with a new salt, into a PHC string of about 100 characters.
///
/// # Errors
/// [`PasswordError::OutOfMemory`].
pub fn hash(password: &Password, random: &mut dyn Random) -> Result<String, PasswordError> {
    let salt: [u8; SALT_BYTES] = random::array(random);
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are within Argon2's bounds");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Ok(argon2.hash_password_with_salt(password.expose(), &salt)?.to_string())
}

/// Whether a password is the one that was hashed, with the settings that the PHC string names.
///
/// # Errors
/// [`PasswordError`] when it could not be compared.
pub fn verify(password: &Password, phc: &str) -> Result<bool, PasswordError> {
    let stored = PasswordHash::new(phc).map_err(Error::from)?;
    // The library calls every password wrong when there is nothing to compare it with.
    if stored.salt.is_none() || stored.hash.is_none() {
        return Err(PasswordError::StoredHash(Error::EncodingInvalid));
    }
    match Argon2::default().verify_password(password.expose(), &stored) {
        Ok(()) => Ok(true),
        Err(Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[test]
    fn only_the_password_that_was_hashed_fits() {
        let phc = hash(&password("hunter2"), &mut OsRandom).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_eq!(verify(&password("hunter2"), &phc), Ok(true));
        assert_eq!(verify(&password("hunter3"), &phc), Ok(false));
    }

    #[test]
    fn the_same_password_has_another_hash_each_time() {
        let password = password("hunter2");
        assert_ne!(hash(&password, &mut OsRandom).unwrap(), hash(&password, &mut OsRandom).unwrap());
    }

    #[test]
    fn a_spoilt_hash_is_an_error_and_not_a_wrong_password() {
        for phc in ["", "hunter2", "$argon2id$v=19$m=19456,t=2,p=1", "$scrypt$ln=1$c2FsdHNhbHQ$aGFzaGhhc2g"] {
            assert!(verify(&password("hunter2"), phc).is_err(), "{phc:?} should be refused");
        }
    }
}
