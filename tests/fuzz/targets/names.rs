//! Names that others give: of people, and of files that are written to this disk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::safe_name::SafeName;
use qchat_fuzz::wire::ids::{FileName, PeerName};

/// What file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = PeerName::parse(text) {
        assert_eq!(PeerName::parse(name.as_str()).as_ref(), Ok(&name), "another person when read again");
    }
    if let Ok(name) = FileName::parse(text) {
        let safe = SafeName::from_remote(&name);
        for local in [safe.as_str(), &safe.partial(), safe.numbered(1).as_str(), safe.numbered(u32::MAX).as_str()] {
            check_component(local);
        }
        assert!(!(safe.as_str().starts_with('.') && safe.as_str().ends_with(".qpart")), "passes for a part file");
        let again = FileName::parse(safe.as_str()).expect("what is written here can be shared again");
        assert_eq!(SafeName::from_remote(&again), safe, "another name when it is received again");
    }
});

/// One part of a path, which names nothing but a file in its folder.
fn check_component(local: &str) {
    assert!(!matches!(local, "" | "." | ".."), "{local:?} is no file");
    assert!(!local.contains(['/', '\\', '\0', ':']), "{local:?} names another folder");
    assert!(!local.starts_with('-'), "{local:?} is an option");
    assert!(local.len() <= COMPONENT_BYTES_MAX, "{} bytes are too many", local.len());
}
