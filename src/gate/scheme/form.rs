//! Queries and `application/x-www-form-urlencoded` bodies, decoded as the URL standard says
//! (url.spec.whatwg.org, "application/x-www-form-urlencoded parsing"), but to bytes: two
//! values that differ stay different.

use std::borrow::Cow;

/// Name and value.
pub type Pair<'t> = (Cow<'t, [u8]>, Cow<'t, [u8]>);

/// More fields than any webhook has; a longer form is not read at all.
const MAX_PAIRS: usize = 1024;

/// A query or form.
#[derive(Debug, Default)]
pub struct Form<'t> {
    pairs: Vec<Pair<'t>>,
}

/// A name that decides something came twice, so it decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

impl<'t> Form<'t> {
    /// `None` if it has too many fields to be one.
    pub fn parse(text: &'t [u8]) -> Option<Self> {
        let fields = text.split(|b| *b == b'&').filter(|field| !field.is_empty());
        let mut pairs = Vec::new();
        for field in fields {
            if pairs.len() == MAX_PAIRS {
                return None;
            }
            let assign = field.iter().position(|b| *b == b'=');
            let (name, value) = assign.map_or((field, &[][..]), |at| (&field[..at], &field[at + 1..]));
            pairs.push((decode(name), decode(value)));
        }
        Some(Form { pairs })
    }

    pub fn pairs(&self) -> &[Pair<'t>] {
        &self.pairs
    }

    pub fn single(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        let mut values = self.pairs.iter().filter(|(key, _)| **key == *name.as_bytes());
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value)),
            (Some(_), Some(_)) => Err(Repeated),
        }
    }

    /// The pairs in the order of their names, then values.
    pub fn sorted(&self) -> Vec<&Pair<'t>> {
        let mut sorted: Vec<_> = self.pairs.iter().collect();
        sorted.sort();
        sorted
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => out.push(b' '),
            b'%' => match hex_byte(after) {
                Some(escaped) => {
                    out.push(escaped);
                    rest = &after[2..];
                }
                None => out.push(b'%'),
            },
            plain => out.push(plain),
        }
    }
    Cow::Owned(out)
}

/// The byte that the two hexadecimal digits at the start of `text` write.
pub fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |n: usize| char::from(*text.get(n)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, Vec<u8>)> {
        let form = Form::parse(text.as_bytes()).unwrap();
        form.pairs().iter().map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.to_vec())).collect()
    }

    #[test]
    fn forms_are_read_as_the_url_standard_says() {
        assert_eq!(
            pairs("a=1&b=x+y%2Bz&&c"),
            [("a".into(), b"1".to_vec()), ("b".into(), b"x y+z".to_vec()), ("c".into(), vec![])]
        );
        assert_eq!(
            pairs("a=%&b=%4&c=%zz&d=%ff"),
            [
                ("a".into(), b"%".to_vec()),
                ("b".into(), b"%4".to_vec()),
                ("c".into(), b"%zz".to_vec()),
                ("d".into(), vec![0xff])
            ]
        );
        assert_eq!(pairs("=x"), [(String::new(), b"x".to_vec())]);
        assert_eq!(pairs("a=b=c"), [("a".into(), b"b=c".to_vec())]);
    }

    #[test]
    fn a_name_that_comes_twice_decides_nothing() {
        let form = Form::parse(b"a=1&b=2&%61=3").unwrap();
        assert_eq!(form.single("a"), Err(Repeated));
        assert_eq!(form.single("b"), Ok(Some(&b"2"[..])));
        assert_eq!(form.single("c"), Ok(None));
    }

    #[test]
    fn a_form_of_many_fields_is_not_read() {
        assert!(Form::parse("a&".repeat(MAX_PAIRS).as_bytes()).is_some());
        assert!(Form::parse("a&".repeat(MAX_PAIRS + 1).as_bytes()).is_none());
    }
}
