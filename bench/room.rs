//! Where files are made and fetched: in memory, so that no disk is measured.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use tempfile::TempDir;

/// What Linux says of a file system that lies in memory.
const TMPFS: u64 = 0x0102_1994;

/// Left free beside a file and its copy: other programs need memory too.
const LEFT_FREE: u64 = 1 << 30;

/// A folder that is removed at the end.
pub(crate) struct Room {
    folder: TempDir,
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
        Ok(Self { folder: tempfile::tempdir_in(base)?, is_memory })
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

/// Fails unless both are the same, byte by byte.
pub(crate) fn compare(original: &Path, copy: &Path) -> anyhow::Result<()> {
    if original.is_dir() {
        let names = |folder| Ok::<_, std::io::Error>(fs::read_dir(folder)?.count());
        ensure!(names(original)? == names(copy)?, "{} is not complete", copy.display());
        for entry in fs::read_dir(original)? {
            let entry = entry?;
            compare(&entry.path(), &copy.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let (mut one, mut other) = (File::open(original)?, File::open(copy)?);
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
