//! Secrets of tenants in a folder: a file of the tenant's name, or a folder of that name with a file for each
//! secret. Whatever is opened lies beneath the folder: links are followed as long as they stay there, which
//! those of mounted Secrets do. A file is read when its tenant's delivery comes and the last reading is too
//! old, so that a hundred thousand of them cost nothing while nobody asks.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{MOST_SECRETS, MOST_TEXT, Trouble};
use crate::config::provider::NamedSecret;
use crate::config::route::is_name;
use crate::config::secret::Secret;
use crate::lock::lock;

pub struct Directory {
    path: PathBuf,
    /// Who was found last.
    last: Mutex<Option<Box<str>>>,
}

impl Directory {
    pub fn new(path: PathBuf) -> Self {
        Directory { path, last: Mutex::default() }
    }

    /// The tenant's secrets, newest first; `None` if there is no such tenant. It blocks.
    pub fn secrets(&self, tenant: &str) -> Result<Option<Vec<NamedSecret>>, Trouble> {
        self.of(&self.open()?, tenant)
    }

    /// The same for a name that a stranger gave, who is not to learn from the time that it takes whether there is
    /// such a tenant: for every name something is read, if need be that of another tenant, and something is looked
    /// for that is not there.
    pub fn secrets_evenly(&self, tenant: &str) -> Result<Option<Vec<NamedSecret>>, Trouble> {
        let folder = self.open()?;
        let found = self.of(&folder, tenant)?;
        let other = if found.is_some() {
            lock(&self.last).replace(tenant.into());
            Some(format!("~{}", &tenant[1..]).into()) // can be no tenant's
        } else {
            lock(&self.last).clone()
        };
        _ = other.map(|other| self.of(&folder, &other));
        Ok(found)
    }

    /// By its name each time: a folder that was replaced is the one that counts.
    fn open(&self) -> Result<OwnedFd, Trouble> {
        open_folder(&self.path)
            .map_err(|error| Trouble::Source(format!("cannot open {}: {error}", self.path.display())))
    }

    fn of(&self, folder: &OwnedFd, tenant: &str) -> Result<Option<Vec<NamedSecret>>, Trouble> {
        if is_hidden(tenant) {
            return Ok(None);
        }
        let unreadable = |error: io::Error| {
            Trouble::Tenant(format!("cannot read {}: {error}", self.path.join(tenant).display()))
        };
        let Some(opened) = self.beneath(folder, Path::new(tenant)).map_err(unreadable)? else {
            return Ok(None);
        };
        if kind(&opened).map_err(unreadable)? == FileType::Directory {
            return self.of_folder(folder, tenant, &opened).map_err(unreadable);
        }
        let secret = read(opened).map_err(unreadable)?;
        Ok(secret.map(|secret| vec![NamedSecret { id: tenant.into(), secret, not_after_ms: None }]))
    }

    /// One secret for each file of the tenant's folder. By their names the last is the newest.
    fn of_folder(
        &self,
        folder: &OwnedFd,
        tenant: &str,
        opened: &OwnedFd,
    ) -> io::Result<Option<Vec<NamedSecret>>> {
        let mut names = names_in(opened)?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut secrets = Vec::new();
        for name in names {
            let Some(file) = self.beneath(folder, &Path::new(tenant).join(&name))? else { continue };
            if kind(&file)? != FileType::RegularFile {
                continue;
            }
            if !is_name(&name) {
                return Err(io::Error::other(format!("the file's name {name:?} is no key id: rename it")));
            }
            if secrets.len() == MOST_SECRETS {
                return Err(io::Error::other(format!("there are more than {MOST_SECRETS} files")));
            }
            if let Some(secret) = read(file)? {
                secrets.push(NamedSecret { id: name.into(), secret, not_after_ms: None });
            }
        }
        Ok(Some(secrets).filter(|secrets| !secrets.is_empty()))
    }

    /// Opens what lies beneath the folder; `None` if it is not there.
    fn beneath(&self, folder: &OwnedFd, name: &Path) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(folder, name, flags, Mode::empty(), how) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::XDEV) => Err(io::Error::other("it is a link that leads out of the folder")),
            // Kernels before 5.6 do not have the call, and some sandboxes do not let it through.
            Err(Errno::NOSYS | Errno::PERM) => self.beneath_by_path(name, flags),
            Err(error) => Err(error.into()),
        }
    }

    /// The same without the kernel's help. Only who may write in the folder could change it in between.
    fn beneath_by_path(&self, name: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let real = match self.path.join(name).canonicalize() {
            Ok(real) => real,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if !real.starts_with(self.path.canonicalize()?) {
            return Err(io::Error::other("it is a link that leads out of the folder"));
        }
        Ok(Some(rustix::fs::openat(CWD, &real, flags | OFlags::NOFOLLOW, Mode::empty())?))
    }

    /// The names in the folder, but for hidden ones: what mounts keep for themselves.
    pub fn names(&self) -> io::Result<Vec<String>> {
        names_in(&open_folder(&self.path)?)
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn kind(opened: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(opened)?.st_mode))
}

/// What mounts, editors and tools keep for themselves: nobody meant it as a secret, and many know what is in it.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !is_hidden(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The secret in a file; `None` if the file is empty, as one is that is just being written.
fn read(file: OwnedFd) -> io::Result<Option<Secret>> {
    if kind(&file)? != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = File::from(file);
    // In one piece if the size is true, so that no copy of a secret is left where it grew.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(MOST_TEXT).min(MOST_TEXT);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(MOST_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST_TEXT {
        return Err(io::Error::other(format!("it is larger than {} KiB", MOST_TEXT >> 10)));
    }
    let (secret, _) = Secret::from_bytes(std::mem::take(&mut *bytes));
    Ok(Some(secret).filter(|secret| !secret.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, create_dir_all, remove_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hookgate-tenants-{name}-{}", std::process::id()));
            _ = remove_dir_all(&path);
            create_dir_all(path.join("in")).unwrap();
            Folder(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join("in").join(name)
        }

        /// Ids and texts.
        fn found(&self, tenant: &str) -> Result<Option<Vec<(String, String)>>, String> {
            let told =
                |s: NamedSecret| (s.id.to_string(), String::from_utf8(s.secret.expose().to_vec()).unwrap());
            let found = Directory::new(self.0.join("in")).secrets(tenant);
            match found {
                Ok(found) => Ok(found.map(|secrets| secrets.into_iter().map(told).collect())),
                Err(Trouble::Source(why) | Trouble::Tenant(why)) => Err(why),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = remove_dir_all(&self.0);
        }
    }

    fn one(id: &str, text: &str) -> Vec<(String, String)> {
        vec![(id.to_owned(), text.to_owned())]
    }

    #[test]
    fn a_tenant_is_a_file_or_a_folder_of_files() {
        let folder = Folder::new("files");
        write(folder.path("acme"), "secret of acme\n").unwrap();
        create_dir(folder.path("globex")).unwrap();
        for (name, text) in [("2026-05", "older"), ("2026-11", "newer"), (".hidden", "no")] {
            write(folder.path("globex").join(name), text).unwrap();
        }
        create_dir(folder.path("globex").join("nested")).unwrap();
        create_dir(folder.path("empty-folder")).unwrap();
        write(folder.path("empty"), "").unwrap();
        write(folder.path(".gitignore"), "what everybody knows is no secret").unwrap();
        assert_eq!(folder.found("acme"), Ok(Some(one("acme", "secret of acme"))));
        let both = [("2026-11", "newer"), ("2026-05", "older")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(folder.found("globex"), Ok(Some(both.to_vec())), "the newest first");
        for none in ["initech", "empty", "empty-folder", "acme.old", "acm", ".hidden", ".gitignore"] {
            assert_eq!(folder.found(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn what_is_read_besides_for_an_even_time_changes_no_answer() {
        let folder = Folder::new("even");
        for tenant in ["acme", "globex"] {
            write(folder.path(tenant), format!("secret of {tenant}")).unwrap();
        }
        write(folder.path("~cme"), "of nobody").unwrap();
        let directory = Directory::new(folder.0.join("in"));
        let found = |tenant: &str| {
            let found = directory.secrets_evenly(tenant).map_err(Trouble::into_words).unwrap();
            found.map(|secrets| String::from_utf8(secrets[0].secret.expose().to_vec()).unwrap())
        };
        let own = |tenant: &str| Some(format!("secret of {tenant}"));
        assert_eq!(found("initech"), None, "before anybody is found");
        for _ in 0..2 {
            assert_eq!(found("acme"), own("acme"));
            assert_eq!(found("initech"), None);
            assert_eq!(found("globex"), own("globex"));
            assert_eq!(found("initech"), None);
        }
        std::fs::remove_file(folder.path("globex")).unwrap();
        assert_eq!((found("initech"), found("globex"), found("acme")), (None, None, own("acme")));
    }

    #[test]
    fn a_mounted_secret_is_read_through_its_links_and_no_link_leads_out() {
        let folder = Folder::new("links");
        write(folder.0.join("outside"), "outside").unwrap();
        for (version, text) in [("..2026_1", "first"), ("..2026_2", "second")] {
            create_dir(folder.path(version)).unwrap();
            write(folder.path(version).join("acme"), text).unwrap();
        }
        symlink("..2026_1", folder.path("..data")).unwrap();
        symlink("..data/acme", folder.path("acme")).unwrap();
        assert_eq!(folder.found("acme"), Ok(Some(one("acme", "first"))));
        symlink("..2026_2", folder.path("..next")).unwrap();
        std::fs::rename(folder.path("..next"), folder.path("..data")).unwrap();
        assert_eq!(folder.found("acme"), Ok(Some(one("acme", "second"))), "as Kubernetes swaps it");
        symlink("../outside", folder.path("up")).unwrap();
        symlink(folder.0.join("outside"), folder.path("absolute")).unwrap();
        symlink("/proc/self/environ", folder.path("proc")).unwrap();
        symlink("up", folder.path("twice")).unwrap();
        create_dir(folder.path("globex")).unwrap();
        symlink("../../outside", folder.path("globex").join("k1")).unwrap();
        for out in ["up", "absolute", "proc", "twice", "globex"] {
            let why = folder.found(out).unwrap_err();
            assert!(why.contains("leads out") || why.contains("No such"), "{out}: {why}");
        }
        let by_path =
            |name: &str| Directory::new(folder.0.join("in")).beneath_by_path(Path::new(name), OFlags::RDONLY);
        assert!(by_path("acme").unwrap().is_some() && by_path("initech").unwrap().is_none());
        for out in ["up", "absolute", "proc", "twice", "globex/k1"] {
            assert!(by_path(out).is_err(), "{out}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_told_and_is_not_absent() {
        let folder = Folder::new("kinds");
        rustix::fs::mkfifoat(CWD, folder.path("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        let large = File::create(folder.path("large")).unwrap();
        large.set_len(MOST_TEXT as u64 + 1).unwrap();
        assert!(folder.found("fifo").unwrap_err().contains("no regular file"));
        assert!(folder.found("large").unwrap_err().contains("larger than"));
        create_dir(folder.path("many")).unwrap();
        for n in 0..=MOST_SECRETS {
            write(folder.path("many").join(n.to_string()), "text").unwrap();
        }
        assert!(folder.found("many").unwrap_err().contains("more than"));
        remove_dir_all(&folder.0).unwrap();
        assert!(
            folder.found("acme").unwrap_err().contains("cannot open"),
            "a folder that is away is no answer"
        );
    }
}
