//! Reads what the configuration names, chooses between origins, and gathers what is
//! wrong, each problem with its place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Location;
use sha2::{Digest, Sha256};

use super::file::{File, FileFault};
use super::located::Located;
use super::outline::Outline;
use super::pod::Found;
use super::secret::Secret;
use super::startup::Built;
use super::units::Span;
use super::{AddressFile, Config, Origin, Place, Problem, Problems, Setting};
use crate::config::flags::Given;
use crate::files;

pub struct Loader<'g> {
    pub given: &'g Given,
    outline: Outline,
    problems: Vec<Problem>,
    settings: Vec<Setting>,
    notices: Vec<String>,
    address_files: Vec<AddressFile>,
    digest: Sha256,
}

impl<'g> Loader<'g> {
    pub fn new(given: &'g Given) -> Self {
        Loader {
            given,
            outline: Outline::default(),
            problems: Vec::new(),
            settings: Vec::new(),
            notices: Vec::new(),
            address_files: Vec::new(),
            digest: Sha256::new(),
        }
    }

    /// The configuration, or all that is wrong with it.
    pub fn finish(self, built: Option<Built>) -> Result<Config, Problems> {
        match built {
            Some(Built { startup, policy, secrets, tls }) if self.problems.is_empty() => Ok(Config {
                startup,
                policy,
                secrets,
                tls,
                settings: self.settings,
                notices: self.notices,
                address_files: self.address_files,
                fingerprint: self.digest.finalize().into(),
            }),
            Some(_) | None => Err(Problems(self.problems)),
        }
    }

    pub fn file(&mut self) -> Option<File> {
        let Some(path) = &self.given.args.config else { return Some(File::default()) };
        let of_pod = self.given.pod.as_ref().and_then(|pod| pod.known.get(path));
        let bytes = of_pod.map_or_else(|| files::read(path), |bytes| Ok(bytes.clone()));
        let text = match bytes.map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                let place = error.utf8_error().valid_up_to();
                let message = format!("{} is no UTF-8 at byte {place}: write it as text", path.display());
                self.problem_at(None, "--config", message);
                return None;
            }
            Err(error) => {
                self.problem_at(None, "--config", unreadable(path, &error));
                return None;
            }
        };
        self.digest.update(&text);
        match File::read(&text) {
            Ok((file, outline)) => {
                self.outline = outline;
                Some(file)
            }
            Err(faults) => {
                for FileFault { at, message } in faults {
                    let place = at.and_then(|at| self.place(at));
                    self.problem_at(place, "", message);
                }
                None
            }
        }
    }

    /// Flag or environment, else file, else default.
    pub fn pick<T: fmt::Display + Clone>(&mut self, key: &str, given: Option<&Located<T>>, default: T) -> T {
        let (value, origin) = match given {
            Some(given) => (given.value.clone(), given.origin),
            None => (default, Origin::Default),
        };
        self.setting(key, &value, origin);
        value
    }

    pub fn list<T: fmt::Display + Clone>(
        &mut self,
        key: &str,
        given: Option<&Vec<Located<T>>>,
        default: &[T],
    ) -> Vec<T> {
        let (values, origin) = match given {
            Some(given) => (given.iter().map(|at| at.value.clone()).collect(), origin_of_list(given)),
            None => (default.to_vec(), Origin::Default),
        };
        self.setting(key, join(&values), origin);
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
        let file = self.given.args.config.clone().filter(|_| at.line() > 0)?;
        Some(Place { file, line: at.line(), column: at.column() })
    }

    /// A path at which the gate makes a file: its folder must be there.
    pub fn file_to_make(
        &mut self,
        setting: &str,
        key: &str,
        path: Option<&Located<PathBuf>>,
    ) -> Option<PathBuf> {
        let Some(path) = path else {
            self.setting(setting, "none", Origin::Default);
            return None;
        };
        let shown = path.value.display();
        self.setting(setting, &shown, path.origin);
        let folder = path.value.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.value.file_name().is_none() || (self.given.pod.is_none() && path.value.is_dir()) {
            self.located_problem(key, path, format!("{shown} names no file: write its name too"));
        } else if folder.is_some_and(|folder| !self.has_folder(folder)) {
            let message = format!("{shown}: there is no such folder: mount it or correct the path");
            self.located_problem(key, path, message);
        }
        Some(path.value.clone())
    }

    fn has_folder(&self, folder: &Path) -> bool {
        self.given.pod.as_ref().map_or_else(|| folder.is_dir(), |pod| pod.has_folder(folder))
    }

    /// Reads a file that the configuration names, and remembers its content for the fingerprint.
    pub fn read(&mut self, key: &str, path: &Located<PathBuf>) -> Option<Vec<u8>> {
        let found = match self.given.pod.as_ref().map(|pod| pod.find(&path.value)) {
            None => files::read(&path.value),
            Some(Found::Known(bytes)) => Ok(bytes.to_vec()),
            Some(Found::Unseen) => return None,
            Some(Found::Missing(remedy)) => {
                let message = format!("{} will not be there: {remedy}", path.value.display());
                self.located_problem(key, path, message);
                return None;
            }
        };
        match found {
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

    /// What stands for a secret that is in the cluster, and not here.
    pub fn unseen_secret(&self, path: &Path) -> Option<Secret> {
        let found = self.given.pod.as_ref()?.find(path);
        matches!(found, Found::Unseen).then(|| Secret::unseen(path))
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

    /// Something is wrong with the value of `key`: of the flag if it came from there, else
    /// where the file has the key.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let origin = self.origin_of(key);
        let name = key.rsplit('.').next().unwrap_or(key);
        let (place, key) = match origin {
            Some(Origin::Flag | Origin::Env) => (None, format!("--{}", name.replace('_', "-"))),
            _ => (self.outline.find(key).and_then(|at| self.place(at)), key.to_owned()),
        };
        self.problem_at(place, &key, message);
    }

    pub fn problem_at(&mut self, place: Option<Place>, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { place, key: key.to_owned(), message: message.into() });
    }

    /// Something is wrong with a value that was given: it is told at the value.
    pub fn located_problem<T>(&mut self, key: &str, given: &Located<T>, message: impl Into<String>) {
        self.problem_at(self.place(given.at), key, message);
    }
}

/// A list that a flag names has a value; an empty one stands in the file.
pub fn origin_of_list<T>(list: &[Located<T>]) -> Origin {
    list.first().map_or(Origin::File, |first| first.origin)
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
