//! The directory's X.509 certificate and key in a folder: made on first start, or brought by its operator.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
            (false, true) => return Err(CertificateError::Half { present: key, missing: certificate }),
        }
        Self::load(&certificate, &key)
    }

    /// Loads `cert.pem` and `key.pem` from a folder that must have both.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what is wrong with it.
    pub fn reload(folder: &Path) -> Result<Self, CertificateError> {
        Self::load(&folder.join("cert.pem"), &folder.join("key.pem"))
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
        let fingerprint = fingerprint_of_certificate(first).map_err(|error| malformed(certificate, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| malformed(key, &error))?;
        Ok(Self { chain, key, fingerprint })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::File { action: "read", path: path.to_owned(), source })
}

/// Makes a self-signed P-256 certificate, which browsers accept too.
fn create(folder: &Path, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let key_pair = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![super::endpoint::DIRECTORY_SERVER_NAME.to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "qchat directory");
    let signed = params.self_signed(&key_pair)?;
    fs::create_dir_all(folder).map_err(|source| CertificateError::File {
        action: "write",
        path: folder.to_owned(),
        source,
    })?;
    write(key, key_pair.serialize_pem().as_bytes(), 0o600)?;
    write(certificate, signed.pem().as_bytes(), 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertificateError> {
    let attempt = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    attempt().map_err(|source| CertificateError::File { action: "write", path: path.to_owned(), source })
}
