//! WHAT IS SECRET: keys, signatures, sealed envelopes, file digests and password hashes.
//! Knows no network, no file and no clock; random bytes are passed in, so that a test can repeat them.

pub mod cookie;
pub mod random;
pub mod safety_number;
pub mod token;

pub mod identity;
pub mod prekey;

pub mod announcement;
pub mod envelope;
pub mod profile;
pub mod receipt;

pub mod digest;
pub mod password;
pub mod sealed_file;
