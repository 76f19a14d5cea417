//! What was fetched, in a folder that outlives the process: after a restart the keys that are known serve as
//! before, also while their host is away. One file for each address, written aside and moved to its place. It
//! holds the document as it came, so that it is read by the same rules again.
//!
//! Whoever can write there can say which keys are believed, as whoever can write to the configuration can.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fetch::MAX_BODY;
use crate::clock;
use crate::files::{self, WITHOUT_WAITING};
use crate::lock::lock;

/// More make room, the oldest first: 16 MiB at most.
const MOST: usize = 256;
/// Of the line before the document.
const LONGEST_HEAD: usize = 4096;
const ENDING: &str = "keys";
/// A clock can have been put right since.
const AHEAD_MS: i64 = 300_000;

/// The folder, and which addresses it has a document of that nobody has taken yet.
pub struct Cache {
    folder: PathBuf,
    waiting: Mutex<HashMap<Arc<str>, PathBuf>>,
}

/// A document as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    pub head: Head,
    pub body: Vec<u8>,
}

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub url: String,
    pub etag: Option<String>,
    pub fetched_ms: i64,
    /// Until when it is good, if it is not renewed.
    pub ends_ms: i64,
    /// Of the document, in hex.
    sha256: String,
}

impl Head {
    pub fn new(url: &str, etag: Option<String>, fetched_ms: i64, ends_ms: i64) -> Self {
        Head { url: url.to_owned(), etag, fetched_ms, ends_ms, sha256: String::new() }
    }
}

/// A file that is not believed, and why.
pub struct Refused {
    pub path: PathBuf,
    pub why: String,
}

impl Cache {
    /// Makes the folder if it is not there. What ended before `oldest_ms` is removed.
    pub fn open(folder: &Path, oldest_ms: i64) -> io::Result<(Self, Vec<Refused>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (mut waiting, mut refused) = (HashMap::new(), Vec::new());
        for path in listed(folder)? {
            match read(&path) {
                Ok(kept) if kept.head.ends_ms < oldest_ms => fs::remove_file(&path)?,
                Ok(kept) => _ = waiting.insert(kept.head.url.into(), path),
                Err(why) => refused.push(Refused { path, why }),
            }
        }
        let cache = Cache { folder: folder.to_owned(), waiting: Mutex::new(waiting) };
        Ok((cache, refused))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is a document of the address that nobody has taken.
    pub fn has(&self, url: &str) -> bool {
        lock(&self.waiting).contains_key(url)
    }

    /// Takes the document of an address, once.
    pub fn take(&self, url: &str) -> Option<Result<Kept, Refused>> {
        let path = lock(&self.waiting).remove(url)?;
        Some(read(&path).map_err(|why| Refused { path, why }))
    }

    /// Puts a document there. Without one it is the same as before, and only its times are new.
    pub fn put(&self, head: Head, body: Option<Vec<u8>>) -> io::Result<()> {
        let path = self.folder.join(name(&head.url));
        let body = match body {
            Some(body) => body,
            // It has made room for others since.
            None if !path.exists() => return Ok(()),
            None => read(&path).map_err(io::Error::other)?.body,
        };
        let head = Head { sha256: print(&body), ..head };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        bytes.extend(body);
        files::replace(&path, &bytes, 0o600)?;
        self.make_room()
    }

    fn make_room(&self) -> io::Result<()> {
        let paths = listed(&self.folder)?;
        let Some(more) = paths.len().checked_sub(MOST).filter(|more| *more > 0) else { return Ok(()) };
        let modified = |path: &PathBuf| path.metadata().and_then(|there| there.modified()).ok();
        let mut aged: Vec<_> = paths.into_iter().map(|path| (modified(&path), path)).collect();
        aged.sort();
        aged.into_iter().take(more).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// What lies in the folder and may be a document. Anything else is somebody else's.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn name(url: &str) -> String {
    format!("{}.{ENDING}", HEXLOWER.encode(&Sha256::digest(url)[..16]))
}

fn print(body: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(body))
}

fn read(path: &Path) -> Result<Kept, String> {
    let failed = |error: io::Error| error.to_string();
    let there = path.symlink_metadata().map_err(failed)?;
    if !there.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if there.mode() & 0o002 != 0 {
        return Err("everybody may write it".to_owned());
    }
    let most = LONGEST_HEAD + MAX_BODY;
    let mut bytes = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(WITHOUT_WAITING).open(path).map_err(failed)?;
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let line = bytes.iter().position(|byte| *byte == b'\n').filter(|at| *at <= LONGEST_HEAD);
    let Some(line) = line else { return Err("it is no document of keys".to_owned()) };
    let body = bytes.split_off(line + 1);
    let head: Head =
        serde_json::from_slice(&bytes).map_err(|error| format!("it is no document of keys: {error}"))?;
    if body.len() > MAX_BODY || head.sha256 != print(&body) {
        return Err("it is damaged: its content is not what was written".to_owned());
    }
    if path.file_name().is_none_or(|file| file != name(&head.url).as_str()) {
        return Err("it is the document of another address".to_owned());
    }
    if head.fetched_ms > clock::now().wall_ms + AHEAD_MS || head.ends_ms < head.fetched_ms {
        return Err("its times cannot be true: it comes from the future, or ends before it begins".to_owned());
    }
    Ok(Kept { head, body })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hookgate-kept-{name}-{}", std::process::id()));
            _ = fs::remove_dir_all(&path);
            Folder(path)
        }

        fn open(&self) -> (Cache, Vec<Refused>) {
            Cache::open(&self.0, 0).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn head(url: &str) -> Head {
        let now = clock::now().wall_ms;
        Head::new(url, Some("\"1\"".to_owned()), now, now + 1000)
    }

    #[test]
    fn what_was_put_is_there_after_a_restart_and_is_taken_once() {
        let folder = Folder::new("there");
        let (cache, _) = folder.open();
        cache.put(head("https://a.example/1"), Some(b"one\ntwo".to_vec())).unwrap();
        assert!(!cache.has("https://a.example/1"), "what was put is known to who put it");
        let later = Head { ends_ms: i64::MAX, ..head("https://a.example/1") };
        cache.put(later, None).unwrap();
        let (cache, refused) = folder.open();
        assert!(refused.is_empty() && cache.has("https://a.example/1"));
        let kept = cache.take("https://a.example/1").unwrap().ok().unwrap();
        assert_eq!((&*kept.body, kept.head.ends_ms), (&b"one\ntwo"[..], i64::MAX));
        assert!(cache.take("https://a.example/1").is_none() && cache.take("https://a.example/2").is_none());
        assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_damaged_is_refused_and_says_why() {
        let folder = Folder::new("damaged");
        let (cache, _) = folder.open();
        let urls: Vec<_> = (0..8).map(|n| format!("https://a.example/{n}")).collect();
        for url in &urls {
            cache.put(head(url), Some(b"a document of keys".to_vec())).unwrap();
        }
        let path = |n: usize| folder.0.join(name(&urls[n]));
        let whole = fs::read(path(0)).unwrap();
        let mut turned = whole.clone();
        *turned.last_mut().unwrap() ^= 1;
        fs::write(path(0), turned).unwrap();
        fs::write(path(1), &whole[..whole.len() - 3]).unwrap();
        fs::write(path(2), b"").unwrap();
        fs::write(path(3), vec![b'x'; 200_000]).unwrap();
        fs::write(path(4), &whole).unwrap();
        fs::set_permissions(path(5), fs::Permissions::from_mode(0o606)).unwrap();
        fs::remove_file(path(6)).unwrap();
        std::os::unix::fs::symlink(path(7), path(6)).unwrap();
        fs::write(folder.0.join("notes.txt"), "mine").unwrap();
        let (cache, refused) = folder.open();
        let why = |n: usize| refused.iter().find(|refused| refused.path == path(n)).map(|r| r.why.as_str());
        for (n, says) in [
            (0, "damaged"),
            (1, "damaged"),
            (2, "no document"),
            (3, "no document"),
            (4, "another address"),
            (5, "everybody"),
            (6, "no regular file"),
        ] {
            assert!(why(n).is_some_and(|why| why.contains(says)), "{n}: {:?}", why(n));
            assert!(!cache.has(&urls[n]), "{n}");
        }
        assert!(cache.has(&urls[7]) && refused.len() == 7);
        let future = Head { fetched_ms: clock::now().wall_ms + 3_600_000, ..head(&urls[7]) };
        cache.put(Head { ends_ms: i64::MAX, ..future }, Some(Vec::new())).unwrap();
        assert!(folder.open().1.iter().any(|refused| refused.why.contains("future")));
    }

    #[test]
    fn the_oldest_make_room_and_what_has_ended_goes() {
        let folder = Folder::new("room");
        let (cache, _) = folder.open();
        for n in 0..MOST + 5 {
            cache.put(head(&format!("https://a.example/{n}")), Some(Vec::new())).unwrap();
        }
        assert_eq!(listed(&folder.0).unwrap().len(), MOST);
        let (cache, _) = folder.open();
        assert!(cache.has(&format!("https://a.example/{}", MOST + 4)));
        Cache::open(&folder.0, i64::MAX).unwrap();
        assert!(listed(&folder.0).unwrap().is_empty());
    }
}
