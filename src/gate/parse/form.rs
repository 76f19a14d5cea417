//! Queries and `application/x-www-form-urlencoded` bodies, decoded as the URL standard says
//! (url.spec.whatwg.org, "application/x-www-form-urlencoded parsing"), but to bytes: two
//! values that differ stay different. An escape that is none is not read as text, because readers
//! differ in what they make of it.

use std::borrow::Cow;

use super::Unreadable;

/// Name and value.
pub type Pair<'t> = (Cow<'t, [u8]>, Cow<'t, [u8]>);

/// More fields than any webhook has; a longer form is not read at all.
const MAX_PAIRS: usize = 1024;

/// A query or form. Its values are decoded when they are asked for.
#[derive(Debug, Default)]
pub struct Form<'t> {
    fields: Vec<(Cow<'t, [u8]>, &'t [u8])>,
}

impl<'t> Form<'t> {
    pub fn parse(text: &'t [u8]) -> Result<Self, Unreadable> {
        let mut fields = Vec::new();
        for field in text.split(|b| *b == b'&').filter(|field| !field.is_empty()) {
            if fields.len() == MAX_PAIRS {
                return Err(Unreadable);
            }
            let assign = field.iter().position(|b| *b == b'=');
            let (name, value) = assign.map_or((field, &[][..]), |at| (&field[..at], &field[at + 1..]));
            fields.push((decode(name)?, value));
        }
        Ok(Form { fields })
    }

    /// Every field, in the order of the text.
    pub fn pairs(&self) -> Result<Vec<Pair<'t>>, Unreadable> {
        self.fields.iter().map(|(name, value)| Ok((name.clone(), decode(value)?))).collect()
    }

    /// The value of a name that must not come twice; `Ok(None)` if it does not come.
    pub fn single(&self, name: &str) -> Result<Option<Cow<'t, [u8]>>, Unreadable> {
        let mut values = self.fields.iter().filter(|(key, _)| **key == *name.as_bytes());
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => decode(value).map(Some),
            (Some(_), Some(_)) => Err(Unreadable),
        }
    }

    /// The pairs in the order of their names, then values.
    pub fn sorted(&self) -> Result<Vec<Pair<'t>>, Unreadable> {
        let mut sorted = self.pairs()?;
        sorted.sort();
        Ok(sorted)
    }
}

fn decode(text: &[u8]) -> Result<Cow<'_, [u8]>, Unreadable> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                out.push(hex_byte(after).ok_or(Unreadable)?);
                rest = &after[2..];
            }
            plain => out.push(plain),
        }
    }
    Ok(Cow::Owned(out))
}

/// The byte that the two hexadecimal digits at the start of `text` write.
pub fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |n: usize| char::from(*text.get(n)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(String, Vec<u8>)>, Unreadable> {
        let pairs = Form::parse(text.as_bytes())?.pairs()?;
        Ok(pairs.iter().map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.to_vec())).collect())
    }

    #[test]
    fn forms_are_read_as_the_url_standard_says() {
        assert_eq!(
            pairs("a=1&b=x+y%2Bz&&c&d=%ff"),
            Ok(vec![
                ("a".into(), b"1".to_vec()),
                ("b".into(), b"x y+z".to_vec()),
                ("c".into(), vec![]),
                ("d".into(), vec![0xff])
            ])
        );
        assert_eq!(pairs("=x"), Ok(vec![(String::new(), b"x".to_vec())]));
        assert_eq!(pairs("a=b=c"), Ok(vec![("a".into(), b"b=c".to_vec())]));
    }

    #[test]
    fn an_escape_that_is_none_is_not_read() {
        for bad in ["a=%", "a=%4", "a=%zz", "a=%+1", "%=1", "a=1&%g0=2"] {
            assert_eq!(pairs(bad), Err(Unreadable), "{bad}");
        }
        let form = Form::parse(b"a=1&b=%zz").unwrap();
        assert_eq!(form.single("a"), Ok(Some(Cow::Borrowed(&b"1"[..]))), "another value is not asked for");
        assert_eq!(form.single("b"), Err(Unreadable));
    }

    #[test]
    fn a_name_that_comes_twice_decides_nothing() {
        let form = Form::parse(b"a=1&b=2&%61=3").unwrap();
        assert_eq!(form.single("a"), Err(Unreadable));
        assert_eq!(form.single("b"), Ok(Some(Cow::Borrowed(&b"2"[..]))));
        assert_eq!(form.single("c"), Ok(None));
    }

    #[test]
    fn a_form_of_many_fields_is_not_read() {
        assert!(Form::parse("a&".repeat(MAX_PAIRS).as_bytes()).is_ok());
        assert_eq!(Form::parse("a&".repeat(MAX_PAIRS + 1).as_bytes()).err(), Some(Unreadable));
    }
}
