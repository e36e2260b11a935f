//! The bytes of files on their way between old programs and qchat: small ones, held in memory or in a scratch folder.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::FileName;

/// Puts a published file under its name into the folder of its owner.
pub(super) async fn write(folder: PathBuf, name: FileName, bytes: Vec<u8>) -> Result<PathBuf, Failure> {
    off_the_async_threads(move || {
        fs::create_dir_all(&folder)?;
        let path = folder.join(name.as_str());
        // A file that is being fetched keeps its bytes: the new ones come under the name only when they are complete.
        let mut partial = tempfile::NamedTempFile::new_in(&folder)?;
        std::io::Write::write_all(&mut partial, &bytes)?;
        partial.as_file().sync_all()?;
        partial.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    })
    .await
}

/// Removes a published file; it is no error when it is gone already.
pub(super) async fn remove(folder: PathBuf, name: FileName) -> Result<(), Failure> {
    off_the_async_threads(move || match fs::remove_file(folder.join(name.as_str())) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
    .await
}

/// Removes a folder with all that is in it; it is no error when it is gone already.
pub(super) async fn remove_folder(folder: PathBuf) -> Result<(), Failure> {
    off_the_async_threads(move || match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
    .await
}

/// A folder that is gone when it is dropped.
pub(super) async fn scratch() -> Result<TempDir, Failure> {
    off_the_async_threads(|| tempfile::Builder::new().prefix("qchat-gateway-").tempdir()).await
}

/// Reads a file that was fetched into a scratch folder, which goes with it.
pub(super) async fn read(scratch: TempDir, path: PathBuf) -> Result<Vec<u8>, Failure> {
    off_the_async_threads(move || {
        let bytes = fs::read(path)?;
        scratch.close()?;
        Ok(bytes)
    })
    .await
}

async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::new(FailureKind::Disk, format!("the gateway's disk: {error}"))),
        Err(error) => Err(Failure::new(FailureKind::Other, error.to_string())),
    }
}
