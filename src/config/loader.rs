//! Reads what the configuration names, chooses between origins, and gathers what is
//! wrong, each problem with its place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::outline::Outline;
use super::startup::Built;
use super::units::Span;
use super::{AddressFile, Config, Origin, Place, Problem, Problems, Setting, raw};
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

    pub fn file(&mut self) -> Option<raw::File> {
        let Some(path) = &self.given.args.config else { return Some(raw::File::default()) };
        let text = match files::read(path).map(String::from_utf8) {
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
        let file = serde_saphyr::from_str::<Option<raw::File>>(&text);
        match file.and_then(|file| Ok((file, Outline::of(&text)?))) {
            Ok((file, outline)) => {
                self.outline = outline;
                Some(file.unwrap_or_default())
            }
            Err(error) => {
                let place = error.location().map(|at| Place {
                    file: path.clone(),
                    line: at.line(),
                    column: at.column(),
                });
                self.problems.push(Problem { place, key: String::new(), message: yaml_message(&error) });
                None
            }
        }
    }
    /// Flag or environment, else file, else default.
    pub fn pick<T: fmt::Display>(
        &mut self,
        key: &str,
        flag: &str,
        given: Option<T>,
        file: Option<T>,
        default: T,
    ) -> T {
        let (value, origin) = match (given, file) {
            (Some(value), _) => (value, self.given.origin(flag)),
            (None, Some(value)) => (value, Origin::File),
            (None, None) => (default, Origin::Default),
        };
        self.setting(key, &value, origin);
        value
    }

    pub fn list<T: fmt::Display + Clone>(
        &mut self,
        key: &str,
        flag: &str,
        given: Option<Vec<T>>,
        file: Option<Vec<T>>,
        default: &[T],
    ) -> Vec<T> {
        let (value, origin) = match (given, file) {
            (Some(value), _) => (value, self.given.origin(flag)),
            (None, Some(value)) => (value, Origin::File),
            (None, None) => (default.to_vec(), Origin::Default),
        };
        self.setting(key, join(&value), origin);
        value
    }

    pub fn span_or_zero(
        &mut self,
        key: &str,
        given: Option<Span>,
        file: Option<Span>,
        default: &str,
    ) -> Duration {
        self.pick(key, key, given, file, default.parse().expect("a constant")).0
    }

    pub fn span(&mut self, key: &str, given: Option<Span>, file: Option<Span>, default: &str) -> Duration {
        let span = self.span_or_zero(key, given, file, default);
        if span.is_zero() {
            self.problem(key, "0 would let nothing finish: write for example 10s");
        }
        span
    }

    /// A value of the flags or of the file, with its place.
    pub fn at<T>(&self, flag: &str, given: Option<T>, file: Option<Spanned<T>>) -> Option<Located<T>> {
        match (given, file) {
            (Some(value), _) => {
                Some(Located { key: flag.to_owned(), value, origin: self.given.origin(flag), place: None })
            }
            (None, Some(at)) => {
                let place = self.place(at.referenced);
                Some(Located { key: flag.to_owned(), value: at.value, origin: Origin::File, place })
            }
            (None, None) => None,
        }
    }

    /// A value of a route. One that a flag was lowered into has no place in the file.
    pub fn located<T: Clone>(&self, key: &str, flag: &str, at: &Spanned<T>) -> Located<T> {
        let place = self.place(at.referenced);
        let origin = if place.is_some() { Origin::File } else { self.given.origin(flag) };
        Located { key: key.to_owned(), value: at.value.clone(), origin, place }
    }

    pub fn place(&self, at: serde_saphyr::Location) -> Option<Place> {
        let file = self.given.args.config.clone().filter(|_| at.line() > 0)?;
        Some(Place { file, line: at.line(), column: at.column() })
    }

    /// Reads a file that the configuration names, and remembers its content for the fingerprint.
    pub fn read(&mut self, path: &Located<PathBuf>) -> Option<Vec<u8>> {
        match files::read(&path.value) {
            Ok(bytes) => {
                self.digest.update((bytes.len() as u64).to_be_bytes());
                self.digest.update(&bytes);
                Some(bytes)
            }
            Err(error) => {
                self.located_problem(path, unreadable(&path.value, &error));
                None
            }
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

    pub fn located_problem<T>(&mut self, at: &Located<T>, message: impl Into<String>) {
        self.problem_at(at.place.clone(), &at.key, message);
    }
}

/// A value, its key, and where it came from.
#[derive(Clone)]
pub struct Located<T> {
    pub key: String,
    pub value: T,
    pub origin: Origin,
    pub place: Option<Place>,
}

impl<T> Located<T> {
    pub fn default(key: String, value: T) -> Self {
        Located { key, value, origin: Origin::Default, place: None }
    }
}

/// A flag's value in the words of the file: it stands nowhere in it.
pub fn flag_value<T>(value: T) -> Spanned<T> {
    Spanned::new(value, serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN)
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

/// The reader's message without its own mention of the place, with a hint for a misspelt key.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let message = match text.find(" at line ") {
        Some(at) => &text[..at],
        None => text,
    };
    let quoted = message.split('`').nth(1).or_else(|| message.split('\'').nth(1));
    match quoted.filter(|_| message.contains("unknown")) {
        Some(unknown) => {
            let words: Vec<_> =
                message.split(['`', '\'', ',', ' ']).filter(|w| !w.is_empty() && *w != unknown).collect();
            closest(unknown, &words)
                .map_or_else(|| message.to_owned(), |hint| format!("{message}; did you mean {hint}?"))
        }
        None => message.to_owned(),
    }
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
