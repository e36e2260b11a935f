//! The directory's X.509 certificate and key in a folder: made on first start, or brought by its operator.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::verify::fingerprint_of_certificate;
use crate::seal::identity::reset_key;
use crate::wire::ids::DirectoryFingerprint;

/// A directory's certificate chain with its key.
#[derive(Debug)]
pub struct DirectoryCertificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    fingerprint: DirectoryFingerprint,
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only one of the two files is there.
    #[error("{present} is there but {missing} is not: put both there, or remove both to have new ones made")]
    Half {
        /// The file that exists.
        present: PathBuf,
        /// The file that does not.
        missing: PathBuf,
    },
    /// Everybody on this machine can read the key.
    #[error("everybody can read {path} (mode {mode:03o}): run `chmod 600` on it, and think of the key as copied")]
    KeyReadableByOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} is not usable: {reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

impl DirectoryCertificate {
    /// Loads `cert.pem` and `key.pem` from a folder; makes folder and files when there are none.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what is wrong with it.
    pub fn load_or_create(folder: &Path) -> Result<Self, CertificateError> {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => create(folder, &certificate, &key)?,
            (true, false) => return Err(CertificateError::Half { present: certificate, missing: key }),
            (false, true) => certify_existing(&certificate, &key)?,
        }
        let loaded = Self::load(&certificate, &key)?;
        check_key_is_private(&key)?;
        Ok(loaded)
    }

    /// Loads `cert.pem` and `key.pem` from a folder that must have both.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what is wrong with it.
    pub fn reload(folder: &Path) -> Result<Self, CertificateError> {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let loaded = Self::load(&certificate, &key)?;
        check_key_is_private(&key)?;
        Ok(loaded)
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what peers pin, so that a renewed certificate with the same key stays
    /// trusted.
    #[must_use]
    pub fn fingerprint(&self) -> DirectoryFingerprint {
        self.fingerprint
    }

    /// The key of stateless resets: derived from the private key, so that it is the same after a restart.
    pub(super) fn reset_key(&self) -> impl quinn::crypto::HmacKey + 'static {
        reset_key(self.key.secret_der())
    }

    fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let malformed = |path: &Path, reason: &dyn std::fmt::Display| CertificateError::Malformed {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| malformed(certificate, &error))?;
        let first = chain.first().ok_or_else(|| malformed(certificate, &"it holds no certificate"))?;
        let fingerprint = fingerprint_of_certificate(first)
            .map_err(|error| malformed(certificate, &format!("it is no X.509 version 3 certificate ({error})")))?;
        let key = PrivateKeyDer::from_pem_slice(&Zeroizing::new(read(key)?)).map_err(|error| malformed(key, &error))?;
        Ok(Self { chain, key, fingerprint })
    }
}

/// Whoever has the key can pose as this directory. A group may read it, because CA clients hand keys out that way.
fn check_key_is_private(path: &Path) -> Result<(), CertificateError> {
    let found = fs::metadata(path).map_err(|source| CertificateError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let mode = found.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(CertificateError::KeyReadableByOthers { path: path.to_owned(), mode });
    }
    if mode & 0o070 != 0 {
        tracing::warn!(path = %path.display(), mode = %format!("{mode:03o}"), "a group can read the directory's key");
    }
    Ok(())
}

/// Reads a regular file: a pipe would hold up the directory that takes a renewed certificate.
fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return Err(CertificateError::Malformed { path: path.to_owned(), reason: "it is not a file".to_owned() });
    }
    fs::read(path).map_err(|source| CertificateError::File { action: "read", path: path.to_owned(), source })
}

/// Makes a self-signed P-256 certificate, which browsers accept too.
fn create(folder: &Path, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let key_pair = rcgen::KeyPair::generate()?;
    fs::create_dir_all(folder).map_err(|source| CertificateError::File {
        action: "write",
        path: folder.to_owned(),
        source,
    })?;
    write(key, Zeroizing::new(key_pair.serialize_pem()).as_bytes(), 0o600)?;
    certify(&key_pair, certificate)
}

/// Makes the certificate of a key that has none: the first start was cut short between the two.
fn certify_existing(certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let pem = Zeroizing::new(read(key)?);
    let malformed = |reason: String| CertificateError::Malformed { path: key.to_owned(), reason };
    let text = std::str::from_utf8(&pem).map_err(|error| malformed(error.to_string()))?;
    certify(&rcgen::KeyPair::from_pem(text).map_err(|error| malformed(error.to_string()))?, certificate)
}

fn certify(key_pair: &rcgen::KeyPair, certificate: &Path) -> Result<(), CertificateError> {
    let mut params = rcgen::CertificateParams::new(vec![super::endpoint::DIRECTORY_SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "qchat directory");
    let signed = params.self_signed(key_pair)?;
    write(certificate, signed.pem().as_bytes(), 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertificateError> {
    // Beside its final name first, so that a crash leaves no half file.
    let partial = path.with_extension("new");
    let attempt = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    attempt().map_err(|source| CertificateError::File { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode_is_accepted(mode: u32) -> bool {
        let folder = tempfile::tempdir().unwrap();
        DirectoryCertificate::load_or_create(folder.path()).unwrap();
        fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
        match DirectoryCertificate::load_or_create(folder.path()) {
            Ok(_) => true,
            Err(CertificateError::KeyReadableByOthers { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_that_everybody_can_read_is_refused_and_one_for_a_group_is_not() {
        assert!(mode_is_accepted(0o600) && mode_is_accepted(0o400) && mode_is_accepted(0o640));
        assert!(!mode_is_accepted(0o644) && !mode_is_accepted(0o604) && !mode_is_accepted(0o602));
    }

    #[test]
    fn a_certificate_never_shows_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let shown = format!("{:?}", DirectoryCertificate::load_or_create(folder.path()).unwrap().key);
        assert!(shown.contains("elided") && shown.len() < 200, "{shown}");
    }
}
