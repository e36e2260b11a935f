//! Where files are made and fetched: in memory, so that no disk is measured.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

/// What Linux says of a file system that lies in memory.
const TMPFS: u64 = 0x0102_1994;

/// Left free beside a file and its copy: for those who make another one, and other programs need memory too.
const LEFT_FREE: u64 = 2 << 30;

/// What programs take themselves, and folders.
const WARMED_UP_MORE: u64 = 256 << 20;

/// Names of folders in a tree, again and again from the top to the bottom.
const FOLDERS: [&str; 6] = ["plain", ".hidden", "with space", "été", "наука", "資料"];

/// Files in each folder of a tree, and how large they are: none, some that share a stream, one that has its own.
const FILES: [(&str, u64); 6] = [
    ("empty.txt", 0),
    ("one", 1),
    (".dotfile", 200),
    ("große Datei.bin", 70_000),
    ("写真.jpg", 20_000),
    ("a b.c", 4_096),
];

/// A folder that is removed at the end.
pub(crate) struct Room {
    folder: TempDir,
    /// Removes it when this process is killed: it is memory that nobody else would free. It ends with its standard input.
    _remover: Child,
    is_memory: bool,
}

impl Room {
    /// Makes one in `$TMPDIR`, else in `/dev/shm`.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let base = match std::env::var_os("TMPDIR") {
            Some(folder) => PathBuf::from(folder),
            None if Path::new("/dev/shm").is_dir() => PathBuf::from("/dev/shm"),
            None => std::env::temp_dir(),
        };
        let is_memory = u64::try_from(rustix::fs::statfs(&base)?.f_type)? == TMPFS;
        let folder = tempfile::tempdir_in(base)?;
        let mut remover = Command::new("sh");
        remover.args(["-c", r#"cat; rm -rf -- "$0""#]).arg(folder.path()).stdin(Stdio::piped());
        Ok(Self { folder, _remover: remover.process_group(0).spawn()?, is_memory })
    }

    /// Writes as much as it takes to fetch what lies there, and removes it. What has been free for a second a virtual machine
    /// may have given back to its host, from where it comes at a tenth of the speed: by chance, for one side and not for
    /// another.
    pub(crate) fn warm_up(&self, original: &Path) -> anyhow::Result<()> {
        let metadata = fs::metadata(original)?;
        let bytes = if metadata.is_file() { metadata.len() + WARMED_UP_MORE } else { WARMED_UP_MORE };
        let path = self.path().join("warm");
        io::copy(&mut io::repeat(1).take(bytes), &mut File::create(&path)?)?;
        Ok(fs::remove_file(path)?)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a file of bytes that nobody can compress.
    pub(crate) fn file(&self, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
        self.check_free(bytes)?;
        let path = self.path().join(name);
        fill(&path, name, bytes)?;
        Ok(path)
    }

    /// Makes a folder of so many files, all different.
    pub(crate) fn folder_of_files(&self, name: &str, files: usize, bytes: u64) -> anyhow::Result<PathBuf> {
        self.check_free(u64::try_from(files)? * bytes)?;
        let folder = self.path().join(name);
        fs::create_dir(&folder)?;
        for number in 0..files {
            let name = format!("file-{number:05}");
            fill(&folder.join(&name), &name, bytes)?;
        }
        Ok(folder)
    }

    /// Makes folders in each other, so deep, each with some files and an empty folder, under names of all kinds.
    pub(crate) fn tree(&self, name: &str, depth: usize) -> anyhow::Result<PathBuf> {
        let top = self.path().join(name);
        let mut folder = top.clone();
        for (level, name) in (0..depth).zip(FOLDERS.iter().cycle()) {
            fs::create_dir_all(folder.join("empty"))?;
            for (name, bytes) in FILES {
                fill(&folder.join(name), &format!("{level} {name}"), bytes)?;
            }
            folder.push(name);
        }
        Ok(top)
    }

    pub(crate) fn remove(&self, path: &Path) -> anyhow::Result<()> {
        if path.is_dir() {
            fs::remove_dir_all(path)?
        } else {
            fs::remove_file(path)?
        }
        Ok(())
    }

    fn check_free(&self, bytes: u64) -> anyhow::Result<()> {
        let free = rustix::fs::statvfs(self.path())?;
        let free = free.f_bavail * free.f_frsize;
        let needed = 2 * bytes + LEFT_FREE;
        ensure!(
            free >= needed,
            "{} has {free} bytes free, {needed} are needed: name another $TMPDIR",
            self.path().display()
        );
        Ok(())
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_memory { "in memory" } else { "ON A DISK, which is measured too" };
        let base = self.path().parent().unwrap_or(self.path());
        write!(f, "files in {} ({kind}), over loopback", base.display())
    }
}

/// Fills a file with what BLAKE3 makes of its name.
fn fill(path: &Path, seed: &str, bytes: u64) -> anyhow::Result<()> {
    let mut random = blake3::Hasher::new().update(seed.as_bytes()).finalize_xof();
    let (mut file, mut left) = (File::create(path)?, bytes);
    let mut piece = vec![0; 1 << 20];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        random.fill(&mut piece[..length]);
        file.write_all(&piece[..length])?;
        left -= u64::try_from(length)?;
    }
    Ok(())
}

/// Fails unless all files are there and the same, byte by byte, and nothing else is. Says how many folders without a file
/// are missing.
pub(crate) fn compare(original: &Path, copy: &Path) -> anyhow::Result<usize> {
    if !original.is_dir() {
        compare_files(original, copy)?;
        return Ok(0);
    }
    if !copy.exists() && fs::read_dir(original)?.next().is_none() {
        return Ok(1);
    }
    let mut missing = 0;
    for entry in fs::read_dir(original)? {
        let entry = entry?;
        missing += compare(&entry.path(), &copy.join(entry.file_name()))?;
    }
    for entry in fs::read_dir(copy)? {
        let entry = entry?;
        ensure!(original.join(entry.file_name()).exists(), "{} is not in the original", entry.path().display());
    }
    Ok(missing)
}

fn compare_files(original: &Path, copy: &Path) -> anyhow::Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| path.display().to_string());
    let (mut one, mut other) = (open(original)?, open(copy)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            ensure!(other.read(&mut right)? == 0, "{} is longer than its original", copy.display());
            return Ok(());
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            bail!("{} is not its original", copy.display());
        }
    }
}
