//! Reads the files that a configuration names: secrets, certificates, lists, the configuration
//! itself. Only regular files of a bounded size are read, and opening one never waits: a FIFO
//! without a writer would hold up the start, and a device might have no end. And replaces a file of the
//! gate's own.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The most that is read of a file: room for half a million networks.
pub const LARGEST: usize = 16 << 20;

/// For opening what may be a FIFO, a terminal or another device.
pub const WITHOUT_WAITING: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

/// The file's bytes. Symbolic links are followed: Kubernetes mounts are made of them.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    // Asked before as well: some devices act when they are opened.
    if let Ok(there) = path.metadata() {
        regular(&there)?;
    }
    let file = OpenOptions::new().read(true).custom_flags(WITHOUT_WAITING).open(path)?;
    let there = file.metadata()?;
    regular(&there)?;
    let size = usize::try_from(there.len()).unwrap_or(LARGEST);
    // In one piece if the size is true, so that no copy of a secret is left where it grew.
    let mut bytes = Vec::with_capacity(size.min(LARGEST) + 1);
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST {
        return Err(Error::other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(bytes)
}

/// Puts a file there in one step: whoever reads it, and whatever happens, has the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

/// Whether what is written below the path goes with the machine or the pod, in words.
pub fn passing(path: &Path) -> Option<&'static str> {
    let there = path.ancestors().find_map(|folder| folder.canonicalize().ok())?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Of the mounts that hold it the longest is meant, and of two on one place the later one.
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        there.starts_with(at).then_some((at.len(), root, kind))
    });
    let (_, root, kind) = mounts.max_by_key(|(length, ..)| *length)?;
    match kind {
        "tmpfs" | "ramfs" => Some("in memory (tmpfs)"),
        _ if root.contains("/kubernetes.io~empty-dir/") => Some("an emptyDir, which goes with its pod"),
        _ => None,
    }
}

fn regular(there: &Metadata) -> Result<()> {
    if there.is_file() { Ok(()) } else { Err(Error::other("it is no regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = std::env::temp_dir().join(format!("hookgate-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (fifo, link, socket) = (folder.join("fifo"), folder.join("link"), folder.join("socket"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&*fifo, &link, &socket, &folder, Path::new("/dev/zero"), Path::new("/dev/tty")] {
            let error = read(path).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file", "{}", path.display());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_is_read_whole_through_a_link_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("hookgate-sizes-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, link) = (folder.join("file"), folder.join("link"));
        std::os::unix::fs::symlink("file", &link).unwrap();
        for (size, is_read) in [(0, true), (1, true), (LARGEST, true), (LARGEST + 1, false)] {
            fs::File::create(&path).unwrap().set_len(size as u64).unwrap();
            match read(&link) {
                Ok(bytes) => assert_eq!((bytes.len(), is_read), (size, true)),
                Err(error) => {
                    assert_eq!((error.to_string().as_str(), is_read), ("it is larger than 16 MiB", false));
                }
            }
        }
        // What says that it is empty and is not, as under /proc.
        assert!(!read(Path::new("/proc/self/status")).unwrap().is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
