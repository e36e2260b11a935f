//! Tests of folders that are shared: what is kept of them, who is served what of it, and what goes when they are not.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::seal::digest::HashTree;
use crate::storage::schema::MIGRATIONS;
use crate::storage::shares::{self, Audience};
use crate::storage::walk::{self, Filter};
use crate::wire::ids::{FileName, MessageId};

/// A profile's folder with its database, and a folder to share beside it.
struct Disk {
    folder: TempDir,
    database: Database,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        fs::create_dir_all(folder.path().join("photos/sub")).unwrap();
        Self { folder, database }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("photos")
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.root().join(path), bytes).unwrap();
    }

    /// Walks and keeps the folder as it is now; shares it with these people.
    async fn share(&self, audiences: &[Audience]) -> (FileDigest, SharedFolder) {
        let mut cache = DigestCache::below(&self.database, &self.root()).await.unwrap();
        let mut builder = FolderBuilder::new(&self.root()).unwrap();
        for (path, kind) in walk::walk(&self.root(), &Filter::default()).unwrap().entries {
            builder.add(path, kind, &mut cache, &mut |_| {}).unwrap();
        }
        let (file, folder) = builder.keep(&self.database, self.folder.path()).await.unwrap();
        for audience in audiences {
            let name = FileName::parse("photos").unwrap();
            let share = SharedFile { name, audience: *audience, file: file.clone(), folder: Some(folder.clone()) };
            shares::put(&self.database, share).await.unwrap();
        }
        (file.digest, folder)
    }

    /// The paths of the small files among these entries, a page at a time.
    async fn small(&self, folder: &SharedFolder, entries: std::ops::Range<u64>, limit: usize) -> Vec<String> {
        let found = small_files(&self.database, folder, entries, limit).await.unwrap();
        found.into_iter().map(|(_, member)| member.path).collect()
    }

    async fn member_names(&self, bytes: &[u8], asker: PeerKey) -> Vec<String> {
        let digest = HashTree::of_reader(&mut &*bytes, &mut |_| {}).unwrap().0;
        let found = members(&self.database, digest, asker).await.unwrap();
        found.into_iter().map(|share| share.name.to_string()).collect()
    }

    fn manifests(&self) -> Vec<String> {
        let found = fs::read_dir(manifests(self.folder.path())).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn rows(&self) -> i64 {
        let count = "SELECT count(*) FROM folder_file";
        self.database.run(move |sql| Ok::<_, DatabaseError>(sql.query_row(count, [], |row| row.get(0))?)).await.unwrap()
    }
}

const EVERYONE: Audience = Audience::Everyone { hides_address: false };
const BOB: PeerKey = PeerKey::from_bytes([1; 32]);
const CAROL: PeerKey = PeerKey::from_bytes([2; 32]);

fn offered_to(recipient: PeerKey) -> Audience {
    Audience::One { recipient, offer: MessageId::from_bytes([3; 16]) }
}

/// A file of more than one group.
fn large() -> Vec<u8> {
    vec![7; usize::try_from(GROUP_BYTES).unwrap() + 1]
}

#[tokio::test]
async fn what_is_in_a_folder_is_kept_in_the_order_of_its_manifest() {
    let disk = Disk::new();
    for (path, bytes) in [("a", &b"a"[..]), ("b", b""), ("large", &large()), ("sub/c", b"c"), ("z", b"z")] {
        disk.write(path, bytes);
    }
    let (digest, folder) = disk.share(&[EVERYONE]).await;
    assert_eq!((folder.entries, folder.files, folder.bytes.bytes()), (6, 5, 3 + GROUP_BYTES + 1));
    assert_eq!(disk.manifests(), [digest.to_string()]);
    let bytes = fs::read(manifests(disk.folder.path()).join(digest.to_string())).unwrap();
    let manifest = Manifest::from_bytes(&bytes).unwrap();
    assert_eq!(digest_of(&bytes), digest);
    assert_eq!((manifest.files(), manifest.entries().len()), (5, 6));
    assert_eq!(disk.small(&folder, 0..6, 10).await, ["a", "sub/c", "z"], "neither the empty one nor the large one");
    assert_eq!(disk.small(&folder, 1..5, 10).await, ["sub/c"]);
    assert_eq!(disk.small(&folder, 0..6, 2).await, ["a", "sub/c"]);
}

#[tokio::test]
async fn members_are_served_to_those_whom_the_folder_is_for() {
    let disk = Disk::new();
    disk.write("sub/large", &large());
    disk.write("small", b"small");
    disk.share(&[offered_to(BOB)]).await;
    for (bytes, name) in [(&large()[..], "large"), (b"small", "small")] {
        assert_eq!(disk.member_names(bytes, BOB).await, [name]);
        assert_eq!(disk.member_names(bytes, CAROL).await, [""; 0], "carol was not offered it");
    }
    disk.share(&[EVERYONE]).await;
    assert_eq!(disk.member_names(b"small", CAROL).await, ["small"]);
    assert_eq!(disk.member_names(b"nothing of it", CAROL).await, [""; 0]);
}

#[tokio::test]
async fn a_folder_that_is_shared_again_takes_the_place_of_what_it_was() {
    let disk = Disk::new();
    disk.write("same", b"same");
    disk.write("other", b"before");
    let (before, _) = disk.share(&[EVERYONE]).await;
    let (again, folder) = disk.share(&[EVERYONE]).await;
    assert_eq!((before, disk.rows().await), (again, 2), "nothing is kept twice");
    disk.write("other", b"and after");
    let (after, _) = disk.share(&[EVERYONE]).await;
    assert_ne!(before, after);
    assert_eq!(disk.rows().await, 2);
    assert_eq!(disk.small(&folder, 0..3, 10).await, [""; 0], "rows of the old one are left");
    assert_eq!(disk.member_names(b"before", BOB).await, [""; 0]);
    assert_eq!(disk.member_names(b"same", BOB).await, ["same"], "an unchanged file is served by its own digest");

    remove_old_manifests(&disk.database, disk.folder.path()).await.unwrap();
    assert_eq!(disk.manifests(), [after.to_string()]);
    shares::remove_published(&disk.database, &FileName::parse("photos").unwrap()).await.unwrap();
    remove_old_manifests(&disk.database, disk.folder.path()).await.unwrap();
    assert_eq!((disk.rows().await, disk.manifests()), (0, vec![]));
}

#[tokio::test]
async fn what_was_begun_and_never_shared_is_forgotten_by_the_next() {
    let disk = Disk::new();
    disk.write("a", b"a");
    let (begun, _) = disk.share(&[]).await;
    assert_eq!(disk.rows().await, 1);
    disk.write("b", b"b");
    let (shared, folder) = disk.share(&[EVERYONE]).await;
    assert_eq!((disk.rows().await, disk.small(&folder, 0..3, 10).await.len()), (2, 2));
    assert_eq!(disk.manifests().len(), 2);
    remove_old_manifests(&disk.database, disk.folder.path()).await.unwrap();
    assert_eq!(disk.manifests(), [shared.to_string()], "{begun} is no folder any more");
}

#[tokio::test]
async fn a_member_is_read_as_it_was_shared_or_not_at_all() {
    let disk = Disk::new();
    for name in ["kept", "grows", "is replaced", "becomes a link", "goes", "sub/moves away"] {
        disk.write(name, b"bytes");
    }
    let (_, folder) = disk.share(&[EVERYONE]).await;
    disk.write("grows", b"bytes and more");
    fs::rename(disk.root().join("kept"), disk.root().join("moved")).unwrap();
    fs::copy(disk.root().join("moved"), disk.root().join("is replaced.new")).unwrap();
    fs::rename(disk.root().join("is replaced.new"), disk.root().join("is replaced")).unwrap();
    fs::rename(disk.root().join("moved"), disk.root().join("kept")).unwrap();
    fs::remove_file(disk.root().join("becomes a link")).unwrap();
    symlink("kept", disk.root().join("becomes a link")).unwrap();
    fs::remove_file(disk.root().join("goes")).unwrap();
    fs::rename(disk.root().join("sub"), disk.folder.path().join("outside")).unwrap();
    symlink(disk.folder.path().join("outside"), disk.root().join("sub")).unwrap();

    let root = FolderRoot::open(&folder.root).unwrap();
    let mut bytes = Vec::new();
    let mut read = Vec::new();
    for (_, member) in small_files(&disk.database, &folder, 0..folder.entries, 10).await.unwrap() {
        if root.read(&member, &mut bytes).is_ok() {
            assert_eq!(bytes, b"bytes");
            read.push(member.path);
        }
    }
    assert_eq!(read, ["kept"]);
    fs::remove_dir_all(disk.root()).unwrap();
    assert!(matches!(FolderRoot::open(&folder.root), Err(ShareError::Read { .. })));
}
