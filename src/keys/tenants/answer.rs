//! What a source says of a tenant in JSON: `{"secrets":[{"id":"2026-11","secret":"…","not_after":"2027-01-31"}]}`.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{MOST_SECRETS, MOST_TEXT};
use crate::config::provider::NamedSecret;
use crate::config::route::is_name;
use crate::config::secret::Secret;
use crate::config::units::Moment;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    secrets: Vec<One<'a>>,
}

#[derive(Deserialize)]
struct One<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    secret: Text<'a>,
    #[serde(default)]
    not_after: Option<Moment>,
}

/// Its text, wiped if the parser had to copy it.
struct Text<'a>(std::borrow::Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let std::borrow::Cow::Owned(text) = &mut self.0 {
            zeroize::Zeroize::zeroize(text);
        }
    }
}

/// The secrets in such an answer, in its order; `None` if it names none.
pub fn secrets(json: &[u8]) -> Result<Option<Vec<NamedSecret>>, String> {
    // Whatever is quoted of it could be a secret.
    let answer: Answer<'_> = serde_json::from_slice(json).map_err(|error| {
        format!(
            "what it answers is not {{\"secrets\":[{{\"id\",\"secret\",\"not_after\"}}]}} at byte {}",
            error.column()
        )
    })?;
    if answer.secrets.len() > MOST_SECRETS {
        return Err(format!("it names more than {MOST_SECRETS} secrets"));
    }
    let mut secrets = Vec::<NamedSecret>::with_capacity(answer.secrets.len());
    for (n, One { id, secret: text, not_after }) in answer.secrets.into_iter().enumerate() {
        let id = id.unwrap_or_else(|| (n + 1).to_string());
        if !is_name(&id) || secrets.iter().any(|known| *known.id == *id) {
            return Err(format!("the id of its secret {} is no name, or is used twice", n + 1));
        }
        if text.0.is_empty() || text.0.len() > MOST_TEXT {
            return Err(format!("its secret {id} is empty, or larger than {} KiB", MOST_TEXT >> 10));
        }
        let bytes = Zeroizing::new(text.0.as_bytes().to_vec());
        let (secret, _) = Secret::from_bytes(bytes.to_vec());
        secrets.push(NamedSecret { id: id.into(), secret, not_after_ms: not_after.map(|end| end.ms) });
    }
    Ok(Some(secrets).filter(|secrets| !secrets.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_secrets_or_none_and_what_is_wrong_is_neither() {
        let read = |json: &str| {
            let told = |s: NamedSecret| {
                (s.id.to_string(), String::from_utf8(s.secret.expose().to_vec()).unwrap(), s.not_after_ms)
            };
            secrets(json.as_bytes())
                .map(|found| found.map(|list| list.into_iter().map(told).collect::<Vec<_>>()))
        };
        let json = r#"{"secrets":[{"id":"b","secret":"tw\u006f","not_after":"2027-01-31"},
                       {"id":"a","secret":"one","not_after":null,"more":1},{"secret":"three\n"}],"more":[]}"#;
        assert_eq!(
            read(json).unwrap().unwrap(),
            [
                ("b".to_owned(), "two".to_owned(), Some(1_801_439_999_999)),
                ("a".to_owned(), "one".to_owned(), None),
                ("3".to_owned(), "three".to_owned(), None)
            ]
        );
        assert_eq!(read(r#"{"secrets":[]}"#), Ok(None));
        for wrong in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"secrets":null}"#,
            r#"{"secrets":[{"id":"a"}]}"#,
            r#"{"secrets":[{"id":"a","secret":""}]}"#,
            r#"{"secrets":[{"id":"a b","secret":"canary"}]}"#,
            r#"{"secrets":[{"id":"a","secret":"canary"},{"id":"a","secret":"canary"}]}"#,
            r#"{"secrets":[{"id":"a","secret":"canary","not_after":"soon"}]}"#,
            r#"{"secrets":[{"id":"a","secret":"canary"}]"#,
            r#"{"secrets":"canary"}"#,
        ] {
            let why = read(wrong).unwrap_err();
            assert!(!why.contains("canary"), "{wrong}: {why}");
        }
        let many = format!(r#"{{"secrets":[{}]}}"#, vec![r#"{"secret":"x"}"#; MOST_SECRETS + 1].join(","));
        assert!(read(&many).is_err());
    }
}
