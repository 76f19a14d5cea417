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
use super::units::Span;
use super::{AddressFile, Origin, Place, Problem, Problems, Setting};
use crate::files;

pub struct Loader {
    /// The configuration file.
    file: Option<Located<PathBuf>>,
    outline: Outline,
    problems: Vec<Problem>,
    settings: Vec<Setting>,
    /// The flag or the variable that each setting came by, if it did.
    given_as: HashMap<String, Arc<str>>,
    notices: Vec<String>,
    address_files: Vec<AddressFile>,
    digest: Sha256,
}

/// What is told of a configuration, whatever is in it.
pub struct Gathered {
    pub settings: Vec<Setting>,
    pub notices: Vec<String>,
    pub address_files: Vec<AddressFile>,
    pub fingerprint: [u8; 32],
}

impl Loader {
    /// Whether there is a file at all.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub fn new(file: Option<&Located<PathBuf>>) -> Self {
        Loader {
            file: file.cloned(),
            outline: Outline::default(),
            problems: Vec::new(),
            settings: Vec::new(),
            given_as: HashMap::new(),
            notices: Vec::new(),
            address_files: Vec::new(),
            digest: Sha256::new(),
        }
    }

    /// What was gathered, or all that is wrong.
    pub fn finish(self) -> Result<Gathered, Problems> {
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        Ok(Gathered {
            settings: self.settings,
            notices: self.notices,
            address_files: self.address_files,
            fingerprint: self.digest.finalize().into(),
        })
    }

    /// The text of the configuration file; without one, none. `None` if it cannot be read.
    pub fn text(&mut self) -> Option<String> {
        let Some(file) = self.file.clone() else { return Some(String::new()) };
        let path = &file.value;
        match files::read(path).map(String::from_utf8) {
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
        if path.value.file_name().is_none() || path.value.is_dir() {
            self.located_problem(key, path, format!("{shown} names no file: write its name too"));
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            let message = format!("{shown}: there is no such folder: mount it or correct the path");
            self.located_problem(key, path, message);
        }
        Some(path.value.clone())
    }

    /// Reads a file that the configuration names, and remembers its content for the fingerprint.
    pub fn read(&mut self, key: &str, path: &Located<PathBuf>) -> Option<Vec<u8>> {
        match files::read(&path.value) {
            Ok(bytes) => {
                self.digest.update((bytes.len() as u64).to_be_bytes());
                self.digest.update(&bytes);
                Some(bytes)
            }
            Err(error) => {
                self.located_problem(key, path, unreadable(&path.value, &error));
                None
            }
        }
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
        self.problem_at(self.place(given.at), given.given_as.as_deref().unwrap_or(key), message);
    }
}

pub fn join<T: fmt::Display>(values: &[T]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
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
