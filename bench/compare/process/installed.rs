//! Where the programs of others are: in the folder of `bench/install-others`, or in the search path.

use std::path::PathBuf;

/// Beside the folder of the build that this program is of.
const OTHERS: &str = "others/bin";

/// Where distributions put what only root would start.
const OF_ROOT: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Finds a program.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let others = std::env::current_exe().ok().and_then(|this| Some(this.ancestors().nth(3)?.join(OTHERS)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = others.into_iter().chain(std::env::split_paths(&path)).chain(OF_ROOT.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Finds all of these, or says which are not here.
pub(crate) fn find_all<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N], String> {
    let found = names.map(find);
    let absent: Vec<&str> =
        names.into_iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(name, _)| name).collect();
    if absent.is_empty() {
        Ok(found.map(Option::unwrap_or_default))
    } else {
        Err(format!("{} not installed", is_or_are(&absent)))
    }
}

fn is_or_are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}
