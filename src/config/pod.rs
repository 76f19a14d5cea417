//! The files of a gate that will run elsewhere. `inject` judges settings before the pod is there: what the
//! manifests hold is known, and of what a cluster holds only the place is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the gate will find in its file system, which has nothing but what is mounted.
#[derive(Clone, Debug, Default)]
pub struct PodFiles {
    /// Folders that something is mounted at.
    pub mounted: Vec<PathBuf>,
    /// What is known of them.
    pub known: BTreeMap<PathBuf, Vec<u8>>,
    /// Folders of which everything is known.
    pub complete: Vec<PathBuf>,
}

pub enum Found<'f> {
    Known(&'f [u8]),
    /// It may be there; the cluster knows.
    Unseen,
    /// Why it will not be there, and what to do.
    Missing(String),
}

impl PodFiles {
    pub fn find(&self, path: &Path) -> Found<'_> {
        if let Some(bytes) = self.known.get(path) {
            return Found::Known(bytes);
        }
        let under = |folder: &&PathBuf| path.starts_with(folder) && path != folder.as_path();
        if let Some(folder) = self.complete.iter().find(under) {
            let here = self.known.keys().filter(|known| known.starts_with(folder));
            let names: Vec<_> = here.filter_map(|known| known.file_name()?.to_str()).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            return Found::Missing(format!(
                "what is mounted at {} has {names}: correct one of them",
                folder.display()
            ));
        }
        if self.mounted.iter().any(|folder| under(&folder)) {
            return Found::Unseen;
        }
        Found::Missing("nothing is mounted there: name a volume with --mount".to_owned())
    }

    /// Whether a file can be made in it.
    pub fn has_folder(&self, path: &Path) -> bool {
        self.mounted.iter().any(|folder| path.starts_with(folder))
    }
}
