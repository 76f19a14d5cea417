//! Which of the verified events a route takes. The others are answered and counted, and the application
//! is not asked: by the type, and by values that stand in the delivery.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::gate::parse::Unreadable;
use crate::gate::scheme::source::Source;

/// What a route takes: everything, unless something is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The types that are taken; all if there is none.
    pub take: Vec<Glob>,
    /// Those that are not, whatever else is said.
    pub drop: Vec<Glob>,
    /// Each must hold.
    pub when: Vec<Condition>,
}

/// A value that has to be one of these, where a delivery has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub source: Source,
    pub values: Vec<Glob>,
}

/// Text in which `*` stands for any characters, or for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// The most conditions of one route: each is judged for each delivery.
pub const MAX_CONDITIONS: usize = 16;

/// What an event is called: its type, and its type with the action that narrows it, such as
/// `pull_request` and `pull_request.opened`.
pub struct Kind<'k> {
    pub name: Option<&'k str>,
    pub narrowed: Option<String>,
}

impl Events {
    /// Whether an event is taken. One that does not have a value is not judged by it, and what cannot be
    /// read is taken: the application can still decide, and a lost event does not come back.
    pub fn take<'v>(
        &self,
        kind: &Kind<'_>,
        value: impl Fn(&Source) -> Result<Option<Cow<'v, [u8]>>, Unreadable>,
    ) -> bool {
        let named = |globs: &[Glob]| globs.iter().any(|glob| kind.fits(glob));
        let holds = |condition: &Condition| match value(&condition.source) {
            Ok(Some(value)) => condition.values.iter().any(|glob| glob.fits(&value)),
            Ok(None) | Err(Unreadable) => true,
        };
        (self.take.is_empty() || named(&self.take)) && !named(&self.drop) && self.when.iter().all(holds)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |globs: &[Glob]| globs.iter().map(|glob| &*glob.0).collect::<Vec<_>>().join(", ");
        let take = if self.take.is_empty() { "all".to_owned() } else { list(&self.take) };
        write!(f, "{take}")?;
        if !self.drop.is_empty() {
            write!(f, ", but not {}", list(&self.drop))?;
        }
        for condition in &self.when {
            write!(f, "; {} one of {}", condition.source, list(&condition.values))?;
        }
        Ok(())
    }
}

impl<'k> Kind<'k> {
    pub fn new(name: Option<&'k str>, action: Option<&str>) -> Self {
        let narrowed = name.zip(action).map(|(name, action)| format!("{name}.{action}"));
        Kind { name, narrowed }
    }

    fn fits(&self, glob: &Glob) -> bool {
        let names = self.name.into_iter().chain(self.narrowed.as_deref());
        names.into_iter().any(|name| glob.fits(name.as_bytes()))
    }
}

impl Glob {
    /// Whether the whole text is such a text.
    fn fits(&self, text: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut place) = (0, 0);
        // Where the last `*` stands, and where the text goes on behind what it has taken.
        let mut star: Option<(usize, usize)> = None;
        while let Some(next) = text.get(at) {
            match pattern.get(place) {
                Some(b'*') => {
                    star = Some((place, at));
                    place += 1;
                }
                Some(wanted) if wanted == next => {
                    place += 1;
                    at += 1;
                }
                Some(_) | None => {
                    let Some((before, taken)) = &mut star else { return false };
                    *taken += 1;
                    (place, at) = (*before + 1, *taken);
                }
            }
        }
        pattern[place..].iter().all(|rest| *rest == b'*')
    }
}

impl FromStr for Glob {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("is empty: write a name, or '*' for any"),
            text if text.len() > 256 => Err("is longer than 256 bytes"),
            text if text.matches('*').count() > 4 => Err("holds more than four '*'"),
            text => Ok(Glob(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (glob, fitting, other) in [
            ("push", &["push"][..], &["pushed", "pus", "", "PUSH"][..]),
            ("*", &["", "a", "a.b"], &[]),
            (
                "pull_request.*",
                &["pull_request.", "pull_request.opened"],
                &["pull_request", "pull_requests.x"],
            ),
            ("*.labeled", &["issues.labeled", ".labeled"], &["labeled", "issues.labeledx"]),
            (
                "refs/*/v*.0",
                &["refs/tags/v1.0", "refs/tags/v1.0.0", "refs//v.0"],
                &["refs/tags/1.0", "refs/v1.0"],
            ),
            ("a*b*c", &["abc", "axbbc", "abcbc"], &["acb", "ab", "abcd"]),
        ] {
            let parsed: Glob = glob.parse().unwrap();
            for text in fitting {
                assert!(parsed.fits(text.as_bytes()), "{glob} {text}");
            }
            for text in other {
                assert!(!parsed.fits(text.as_bytes()), "{glob} {text}");
            }
        }
        for bad in ["", "*a*a*a*a*", &"x".repeat(257)] {
            assert!(bad.parse::<Glob>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_is_taken_by_its_type_and_its_values() {
        let source: Source = "json:/ref".parse().unwrap();
        let condition = Condition { source, values: globs(&["refs/heads/main", "refs/tags/*"]) };
        let events = Events {
            take: globs(&["push", "pull_request.*"]),
            drop: globs(&["*.labeled"]),
            when: vec![condition],
        };
        for (name, action, value, taken) in [
            (Some("push"), None, Ok(Some("refs/heads/main")), true),
            (Some("push"), None, Ok(Some("refs/tags/v1")), true),
            (Some("push"), None, Ok(Some("refs/heads/other")), false),
            (Some("push"), None, Err(Unreadable), true),
            (Some("pull_request"), Some("opened"), Ok(None), true),
            (Some("pull_request"), Some("labeled"), Ok(None), false),
            (Some("pull_request"), None, Ok(None), false),
            (Some("issues"), Some("opened"), Ok(None), false),
            (None, Some("opened"), Ok(None), false),
        ] {
            let read = |_: &Source| value.map(|value| value.map(|text: &str| text.as_bytes().into()));
            assert_eq!(events.take(&Kind::new(name, action), read), taken, "{name:?} {action:?} {value:?}");
        }
        let any = Events { drop: globs(&["ping"]), ..Events::default() };
        let nothing = |_: &Source| Ok(None);
        assert!(any.take(&Kind::new(None, None), nothing), "nothing says that it is not wanted");
        assert!(!any.take(&Kind::new(Some("ping"), None), nothing));
    }
}
