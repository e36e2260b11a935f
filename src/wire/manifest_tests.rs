//! Tests of manifests: what a folder can hold survives its encoding, and nothing else can be decoded.

use super::*;

fn path(text: &str) -> RelativePath {
    RelativePath::parse(text).unwrap()
}

fn folder(text: &str) -> ManifestEntry {
    ManifestEntry { path: path(text), what: Content::Folder }
}

fn file(text: &str, size: u64) -> ManifestEntry {
    let size = FileSize::try_from(size).unwrap();
    let digest = FileDigest::from_bytes([7; 32]);
    ManifestEntry {
        path: path(text),
        what: Content::File(FileContent { size, digest, executable: false, modified_nanos: -1 }),
    }
}

fn manifest(entries: Vec<ManifestEntry>) -> Result<Manifest, EntryFault> {
    let mut manifest = Manifest::default();
    entries.into_iter().try_for_each(|entry| manifest.push(entry)).map(|()| manifest)
}

/// Entries as somebody encodes them who does not look at their order.
fn decode(entries: &[ManifestEntry]) -> Result<Manifest, ManifestError> {
    let mut bytes = codec::encode_within::<MANIFEST_BYTES_MAX, _>(&entries).unwrap();
    bytes.insert(0, MANIFEST_VERSION);
    Manifest::from_bytes(&bytes)
}

#[test]
fn a_manifest_reads_back_with_its_sums() {
    let entries = vec![
        file(".hidden", 0),
        folder("a"),
        file("a-b", 3),
        folder("a/b"),
        file("a/b/Grüße", 262_144),
        file("z", 262_145),
    ];
    let made = manifest(entries.clone()).unwrap();
    let read = Manifest::from_bytes(&made.to_bytes().unwrap()).unwrap();
    assert_eq!((read.entries(), read.files(), read.bytes()), (&entries[..], 4, 524_292));
    let small: Vec<bool> = read.entries().iter().map(ManifestEntry::is_small).collect();
    assert_eq!(small, [true, false, true, false, true, false]);
    assert_eq!(Manifest::from_bytes(&Manifest::default().to_bytes().unwrap()).unwrap(), Manifest::default());
}

#[test]
fn what_no_folder_can_hold_is_no_manifest() {
    let check = |entries: Vec<ManifestEntry>, fault: EntryFault| {
        let text = decode(&entries).unwrap_err().to_string();
        assert!(text.contains(&fault.to_string()), "{text}");
        assert_eq!(manifest(entries), Err(fault));
    };
    check(vec![file("a", 1), file("a", 1)], EntryFault::Order(path("a")));
    check(vec![file("b", 1), file("a", 1)], EntryFault::Order(path("a")));
    check(vec![file("a", 1), file("a/b", 1)], EntryFault::NoFolder(path("a/b")));
    check(vec![file("a/b", 1)], EntryFault::NoFolder(path("a/b")));
    check(vec![folder("a"), file("a/b/c", 1)], EntryFault::NoFolder(path("a/b/c")));
    check(vec![file("a", 1 << 40), file("b", 1)], EntryFault::TooLarge);
}

#[test]
fn no_path_leads_out_of_its_folder() {
    let deep = |names: usize| vec!["x"; names].join("/");
    for bad in
        ["", "/", "/etc/passwd", "a/", "a//b", "../x", "a/../b", "./a", "a\\b", "a/\u{202e}b", "a/b\0", &deep(65)]
    {
        assert!(RelativePath::parse(bad).is_err(), "{bad:?} is a path");
    }
    let name = "n".repeat(255);
    let long = vec![name.as_str(); 17].join("/");
    assert!(matches!(RelativePath::parse(&long), Err(PathError::TooLong { bytes: 4_351, names: 17 })));
    for good in ["a", ".hidden/..x", &deep(64), &long[..4_095]] {
        assert_eq!(RelativePath::parse(good).unwrap().as_str(), good);
    }
    let nested = RelativePath::of(Some(&path("a/b")), &FileName::parse("c").unwrap()).unwrap();
    assert_eq!((nested.as_str(), nested.folder(), nested.name().as_str()), ("a/b/c", Some("a/b"), "c"));
    assert_eq!((path("a").folder(), path("a").name().as_str()), (None, "a"));
}

#[test]
fn a_path_that_leads_out_cannot_be_decoded() {
    // What `ManifestEntry` looks like on the wire, without its checks.
    for bad in ["../x", "/x", "a/../../x"] {
        let mut bytes = codec::encode_within::<MANIFEST_BYTES_MAX, _>(&vec![(bad.to_owned(), 0_u32)]).unwrap();
        bytes.insert(0, MANIFEST_VERSION);
        assert!(Manifest::from_bytes(&bytes).is_err(), "{bad:?} was decoded");
    }
}

#[test]
fn other_versions_and_claims_without_bytes_are_refused() {
    assert!(matches!(Manifest::from_bytes(&[]), Err(ManifestError::Version { found: None })));
    assert!(matches!(Manifest::from_bytes(&[2, 0]), Err(ManifestError::Version { found: Some(2) })));
    // A claim of 2^32 - 1 entries.
    assert!(matches!(Manifest::from_bytes(&[1, 252, 255, 255, 255, 255]), Err(ManifestError::Malformed(_))));
    let mut trailing = manifest(vec![file("a", 1)]).unwrap().to_bytes().unwrap();
    trailing.push(0);
    assert!(matches!(Manifest::from_bytes(&trailing), Err(ManifestError::Malformed(CodecError::Trailing(1)))));
}

/// Every set of paths of up to three names out of two letters, in every choice of files and folders: a manifest takes
/// exactly those that a disk could hold.
#[test]
fn exactly_the_trees_that_a_disk_can_hold_are_manifests() {
    let paths = ["a", "a-", "a/a", "a/a/a", "a/b", "b", "b/a"];
    for choice in 0..3_usize.pow(7) {
        let kinds: Vec<usize> = (0..7).map(|place| choice / 3_usize.pow(place) % 3).collect();
        let is_folder = |folder: &str| paths.iter().position(|path| *path == folder).is_some_and(|at| kinds[at] == 2);
        let entries: Vec<ManifestEntry> = std::iter::zip(paths, &kinds)
            .filter_map(|(text, kind)| [None, Some(file(text, 1)), Some(folder(text))][*kind].clone())
            .collect();
        let possible = entries.iter().all(|entry| entry.path.folder().is_none_or(is_folder));
        assert_eq!(decode(&entries).is_ok(), possible, "{entries:?}");
    }
}
