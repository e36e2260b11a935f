//! The files that read what strangers send, and nothing else of qchat: so the targets need neither cryptography nor a
//! database, and are built in a minute. Compiled from where they are; that they name no other layer is what makes it work.

#[path = "../../src/wire/mod.rs"]
pub mod wire;

#[path = "../../src/storage/safe_name.rs"]
pub mod safe_name;

#[path = "../../src/compat/dialect/mod.rs"]
pub mod dialect;

#[path = "../../src/compat/python_json.rs"]
pub mod python_json;
#[path = "../../src/compat/strict_json.rs"]
pub mod strict_json;

/// Where the dialects look for each other.
pub mod compat {
    pub use crate::{dialect, python_json, strict_json};
}
