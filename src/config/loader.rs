//! Reads what the configuration names, chooses between origins, and gathers what is
//! wrong, each problem with its place.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Location;
use sha2::{Digest, Sha256};

use super::located::Located;
use super::outline::Outline;
use super::pod::{Found, PodFiles};
use super::secret::Secret;
use super::units::Span;
use super::{AddressFile, Origin, Place, Print, Problem, Problems, Setting};
use crate::files;

pub struct Loader {
    /// The configuration file.
    file: Option<Located<PathBuf>>,
    /// The files of a gate that will run elsewhere.
    pod: Option<PodFiles>,
    outline: Outline,
    problems: Vec<Problem>,
    /// Secrets that are not there, which stop their own route only.
    missing: Vec<Problem>,
    settings: Vec<Setting>,
    /// Digests of what is in effect and not shown, by their keys.
    contents: Vec<(String, Print)>,
    /// The flag or the variable that each setting came by, if it did.
    given_as: HashMap<String, Arc<str>>,
    notices: Vec<String>,
    address_files: Vec<AddressFile>,
    digest: Sha256,
}

/// What is told of a configuration, whatever is in it.
pub struct Gathered {
    pub settings: Vec<Setting>,
    pub contents: Vec<(String, Print)>,
    pub notices: Vec<String>,
    pub address_files: Vec<AddressFile>,
    pub fingerprint: Print,
}

impl Loader {
    /// Whether there is a file at all.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub fn new(file: Option<&Located<PathBuf>>, pod: Option<&PodFiles>) -> Self {
        Loader {
            file: file.cloned(),
            pod: pod.cloned(),
            outline: Outline::default(),
            problems: Vec::new(),
            missing: Vec::new(),
            settings: Vec::new(),
            contents: Vec::new(),
            given_as: HashMap::new(),
            notices: Vec::new(),
            address_files: Vec::new(),
            digest: Sha256::new(),
        }
    }

    /// What was gathered, or all that is wrong.
    pub fn finish(mut self) -> Result<Gathered, Problems> {
        if !self.problems.is_empty() {
            self.problems.append(&mut self.missing);
            return Err(Problems(self.problems));
        }
        Ok(Gathered {
            settings: self.settings,
            contents: self.contents,
            notices: self.notices,
            address_files: self.address_files,
            fingerprint: self.digest.finalize().into(),
        })
    }

    /// The text of the configuration file; without one, none. `None` if it cannot be read.
    pub fn text(&mut self) -> Option<String> {
        let Some(file) = self.file.clone() else { return Some(String::new()) };
        let path = &file.value;
        let of_pod = self.pod.as_ref().and_then(|pod| pod.known.get(path));
        let bytes = of_pod.map_or_else(|| files::read(path), |bytes| Ok(bytes.clone()));
        match bytes.map(String::from_utf8) {
            Ok(Ok(text)) => {
                self.digest(text.as_bytes());
                Some(text)
            }
            Ok(Err(error)) => {
                let place = error.utf8_error().valid_up_to();
                let message = format!("{} is no UTF-8 at byte {place}: write it as text", path.display());
                self.located_problem("--config", &file, message);
                None
            }
            Err(error) => {
                self.located_problem("--config", &file, unreadable(path, &error));
                None
            }
        }
    }

    /// Where its keys stand.
    pub fn outlined(&mut self, outline: Outline) {
        self.outline = outline;
    }

    /// Flag or environment, else file, else default.
    pub fn pick<T: fmt::Display + Clone>(&mut self, key: &str, given: Option<&Located<T>>, default: T) -> T {
        if let Some(given) = given {
            self.given(key, &given.value, given);
            return given.value.clone();
        }
        self.setting(key, &default, Origin::Default);
        default
    }

    pub fn list<T: fmt::Display + Clone>(
        &mut self,
        key: &str,
        given: Option<&Vec<Located<T>>>,
        default: &[T],
    ) -> Vec<T> {
        let Some(given) = given else {
            self.setting(key, join(default), Origin::Default);
            return default.to_vec();
        };
        let values: Vec<T> = given.iter().map(|at| at.value.clone()).collect();
        self.given_list(key, join(&values), given);
        values
    }

    pub fn span_or_zero(&mut self, key: &str, given: Option<&Located<Span>>, default: &str) -> Duration {
        self.pick(key, given, default.parse().expect("a constant")).0
    }

    pub fn span(&mut self, key: &str, given: Option<&Located<Span>>, default: &str) -> Duration {
        let span = self.span_or_zero(key, given, default);
        if span.is_zero() {
            self.problem(key, "0 would let nothing finish: write for example 10s");
        }
        span
    }

    pub fn place(&self, at: Location) -> Option<Place> {
        let file = self.file.as_ref().filter(|_| at.line() > 0)?.value.clone();
        Some(Place { file, line: at.line(), column: at.column() })
    }

    /// A path at which the gate makes a file: its folder must be there.
    pub fn file_to_make(&mut self, key: &str, path: Option<&Located<PathBuf>>) -> Option<PathBuf> {
        let Some(path) = path else {
            self.setting(key, "none", Origin::Default);
            return None;
        };
        let shown = path.value.display();
        self.given(key, &shown, path);
        let folder = path.value.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.value.file_name().is_none() || (self.pod.is_none() && path.value.is_dir()) {
            self.located_problem(key, path, format!("{shown} names no file: write its name too"));
        } else if folder.is_some_and(|folder| !self.has_folder(folder)) {
            let message = format!("{shown}: there is no such folder: mount it or correct the path");
            self.located_problem(key, path, message);
        }
        Some(path.value.clone())
    }

    /// A folder that the gate makes if it is not there: the one that it stands in must be.
    pub fn folder_to_make(&mut self, key: &str, path: Option<&Located<PathBuf>>) -> Option<PathBuf> {
        let Some(path) = path else {
            self.setting(key, "none", Origin::Default);
            return None;
        };
        let (shown, folder) = (path.value.display(), &path.value);
        self.given(key, &shown, path);
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
        if folder.as_os_str().is_empty() {
            self.located_problem(key, path, "names no folder: write one, or leave the key out");
        } else if self.pod.is_none() && folder.exists() && !folder.is_dir() {
            self.located_problem(key, path, format!("{shown} is no folder: name one"));
        } else if !self.has_folder(folder) && above.is_some_and(|above| !self.has_folder(above)) {
            let message =
                format!("{shown}: there is no folder that it could be made in: mount it or correct the path");
            self.located_problem(key, path, message);
        }
        Some(folder.clone())
    }

    /// Whether the gate will run in a pod that is only described here.
    pub fn is_for_elsewhere(&self) -> bool {
        self.pod.is_some()
    }

    /// Why a folder that the gate reads is not there.
    pub fn folder(&self, folder: &Path) -> Result<(), String> {
        let shown = folder.display();
        if folder.as_os_str().is_empty() {
            return Err("names no folder: write one".to_owned());
        }
        match &self.pod {
            Some(pod) if pod.has_folder(folder) => Ok(()),
            Some(_) => Err(format!(
                "{shown} will not be there: nothing is mounted there: name a volume with --mount"
            )),
            None => match std::fs::read_dir(folder) {
                Ok(_) => Ok(()),
                Err(error) => {
                    Err(format!("cannot read {shown}: {error}; mount the folder or correct the path"))
                }
            },
        }
    }

    fn has_folder(&self, folder: &Path) -> bool {
        self.pod.as_ref().map_or_else(|| folder.is_dir(), |pod| pod.has_folder(folder))
    }

    /// Reads a file that the configuration names, and remembers its content for the fingerprint.
    pub fn read(&mut self, key: &str, path: &Located<PathBuf>) -> Option<Vec<u8>> {
        match self.try_read(key, path) {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// The same, of a file without which something else goes on. `None` is a file of a gate that will run
    /// elsewhere, which cannot be seen from here.
    pub fn try_read(&mut self, key: &str, path: &Located<PathBuf>) -> Result<Option<Vec<u8>>, Problem> {
        let found = match self.pod.as_ref().map(|pod| pod.find(&path.value)) {
            None => files::read(&path.value),
            Some(Found::Known(bytes)) => Ok(bytes.to_vec()),
            Some(Found::Unseen) => return Ok(None),
            Some(Found::Missing(remedy)) => {
                let message = format!("{} will not be there: {remedy}", path.value.display());
                return Err(self.problem_of(key, path, message));
            }
        };
        match found {
            Ok(bytes) => {
                self.digest.update((bytes.len() as u64).to_be_bytes());
                self.digest.update(&bytes);
                self.content(key, &bytes);
                Ok(Some(bytes))
            }
            Err(error) => Err(self.problem_of(key, path, unreadable(&path.value, &error))),
        }
    }

    /// Remembers what is in effect and is not shown, so that a change of it can be told.
    pub fn content(&mut self, key: &str, bytes: &[u8]) {
        self.contents.push((key.to_owned(), Sha256::digest(bytes).into()));
    }

    /// A secret that is not there: its own route waits for it.
    pub fn missing(&mut self, problem: Problem) {
        self.missing.push(problem);
    }

    /// Nothing waits for secrets that are not there: they are problems.
    pub fn demand_the_missing(&mut self) {
        self.problems.append(&mut self.missing);
    }

    /// What stands for a secret that is in the cluster, and not here.
    pub fn unseen_secret(&self, path: &Path) -> Option<Secret> {
        let found = self.pod.as_ref()?.find(path);
        matches!(found, Found::Unseen).then(|| Secret::unseen(path))
    }

    /// A setting that was given.
    pub fn given<T>(&mut self, key: &str, shown: impl fmt::Display, given: &Located<T>) {
        if let Some(name) = &given.given_as {
            self.given_as.insert(key.to_owned(), Arc::clone(name));
        }
        self.setting(key, shown, given.origin);
    }

    /// A list that a flag names has a value; an empty one stands in the file.
    pub fn given_list<T>(&mut self, key: &str, shown: impl fmt::Display, given: &[Located<T>]) {
        match given.first() {
            Some(first) => self.given(key, shown, first),
            None => self.setting(key, shown, Origin::File),
        }
    }

    pub fn setting(&mut self, key: &str, value: impl fmt::Display, origin: Origin) {
        let value = value.to_string();
        // It would become a header, a line of the log or of what `check` prints.
        let is_odd = value.contains(|c: char| c.is_control());
        self.settings.push(Setting { key: key.to_owned(), value, origin });
        if is_odd {
            self.problem(key, "holds a control character, such as a line end: write it without");
        }
    }

    pub fn notice(&mut self, text: impl Into<String>) {
        self.notices.push(text.into());
    }

    pub fn address_file(&mut self, file: AddressFile) {
        self.address_files.push(file);
    }

    pub fn digest(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// Where the value of a setting came from that was told already.
    pub fn origin_of(&self, key: &str) -> Option<Origin> {
        self.settings.iter().rev().find(|s| s.key == key).map(|s| s.origin)
    }

    /// The flag or the variable that gave a setting that was told already.
    pub fn given_as(&self, key: &str) -> Option<Arc<str>> {
        self.given_as.get(key).cloned()
    }

    /// Something is wrong with the value of `key`: of the flag if it came from there, else
    /// where the file has the key.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        match self.given_as(key) {
            Some(flag) => self.problem_at(None, &flag, message),
            None => self.problem_at(self.outline.find(key).and_then(|at| self.place(at)), key, message),
        }
    }

    pub fn problem_at(&mut self, place: Option<Place>, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { place, key: key.to_owned(), message: message.into() });
    }

    /// Something is wrong with a value that was given: it is told at the value, or of the flag.
    pub fn located_problem<T>(&mut self, key: &str, given: &Located<T>, message: impl Into<String>) {
        let problem = self.problem_of(key, given, message);
        self.problems.push(problem);
    }

    pub fn problem_of<T>(&self, key: &str, given: &Located<T>, message: impl Into<String>) -> Problem {
        let key = given.given_as.as_deref().unwrap_or(key).to_owned();
        Problem { place: self.place(given.at), key, message: message.into() }
    }
}

pub fn join<T: fmt::Display>(values: &[T]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    if path.as_os_str().is_empty() {
        return "names no file: write one, or leave the key out".to_owned();
    }
    let remedy = match error.kind() {
        _ if path == Path::new("-") => "a reload reads it again, and standard input comes once: name a file",
        std::io::ErrorKind::NotFound => "mount the file or correct the path",
        std::io::ErrorKind::PermissionDenied => "let the user that hookgate runs as read it",
        _ if path.is_dir() => "it is a folder: name the file in it",
        // A reload reads it again, and what comes through a pipe comes once.
        _ => "name a regular file, which can be read again",
    };
    format!("cannot read {}: {error}; {remedy}", path.display())
}

/// The candidate that differs in the fewest letters, if it is few.
pub fn closest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let scored = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    scored.min().filter(|(d, candidate)| *d <= candidate.len() / 3).map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
