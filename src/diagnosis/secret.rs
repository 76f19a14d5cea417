//! A secret as its file may have been meant: what editors, shells and copying put around it.

use zeroize::Zeroizing;

/// Prefixes that providers write before their secrets, and that are part of some of them.
const PREFIXES: [&str; 4] = ["whsec_", "whsk_", "base64:", "sha256="];

/// A changed text, and what was wrong with the one before.
type Mended = (Zeroizing<Vec<u8>>, String);

/// A text can be wrapped in several things at once, such as `KEY="value"` behind a byte order mark.
const DEEPEST: usize = 4;

/// Every text that may have been meant, nearest first, and what the file has to be changed in.
pub fn readings(text: &[u8], strip: &[String]) -> Vec<Mended> {
    let mut found: Vec<Mended> = Vec::new();
    let mut last = vec![(Zeroizing::new(text.to_vec()), String::new())];
    for _ in 0..DEEPEST {
        let mut next: Vec<Mended> = Vec::new();
        for (text, before) in &last {
            for (mended, what) in unwrapped(text) {
                let known = found.iter().chain(&next).any(|(known, _)| **known == *mended);
                if !mended.is_empty() && !known {
                    let what =
                        if before.is_empty() { what.to_owned() } else { format!("{before}, and {what}") };
                    next.push((mended, what));
                }
            }
        }
        found.extend(next.iter().cloned());
        last = next;
    }
    let whole = (Zeroizing::new(text.to_vec()), String::new());
    let mut prefixed = Vec::new();
    for (text, before) in std::iter::once(&whole).chain(&found) {
        let and = if before.is_empty() { String::new() } else { format!("{before}, and ") };
        for prefix in PREFIXES.into_iter().chain(strip.iter().map(String::as_str)) {
            match text.strip_prefix(prefix.as_bytes()) {
                None => prefixed.push((
                    Zeroizing::new([prefix.as_bytes(), text].concat()),
                    format!("{and}lacks {prefix} at its front, which is part of it: store it as the provider shows it"),
                )),
                Some(rest) => prefixed.push((
                    Zeroizing::new(rest.to_vec()),
                    format!("{and}has {prefix} at its front, which is no part of it: store it as the provider shows it"),
                )),
            }
        }
    }
    found.extend(prefixed);
    found
}

/// One layer less.
fn unwrapped(text: &[u8]) -> Vec<(Zeroizing<Vec<u8>>, &'static str)> {
    let mut all = Vec::new();
    let mut add = |text: Option<Vec<u8>>, what| all.extend(text.map(|text| (Zeroizing::new(text), what)));
    let trimmed = text.trim_ascii();
    add(
        (trimmed.len() < text.len()).then(|| trimmed.to_vec()),
        "has white space around it: remove that from the file",
    );
    add(
        text.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec),
        "has a byte order mark before it: save the file as UTF-8 without one",
    );
    add(from_utf16(text), "is UTF-16: save the file as UTF-8");
    add(unquoted(text), "has quotes around it: remove them from the file");
    add(value(text), "stands behind a name and =: the file holds the secret alone, no KEY=VALUE");
    add(newlines(text), "holds \\n as two characters: write real line ends, or none at the end");
    let lines: Vec<_> =
        text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
    if lines.len() > 1 && !text.starts_with(b"-----") {
        for line in lines.iter().take(4) {
            add(Some(line.to_vec()), "is one line of several: the file holds one secret alone");
        }
    }
    all
}

fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    match text {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] | [b'`', inner @ .., b'`'] => {
            Some(inner.to_vec())
        }
        _ => None,
    }
}

/// What follows `NAME=`, `export NAME=` or `NAME: `.
fn value(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_prefix(b"export ").unwrap_or(text);
    let end = text.iter().position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'-' | b'.'))?;
    let value = text[end..].strip_prefix(b"=").or_else(|| text[end..].strip_prefix(b": "))?;
    // What ends in = is base64.
    (end > 0 && value.iter().any(|b| *b != b'=')).then(|| value.to_vec())
}

fn newlines(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.contains("\\n"))?;
    let plain = text.replace("\\r\\n", "\n").replace("\\n", "\n");
    Some(plain.strip_suffix('\n').unwrap_or(&plain).as_bytes().to_vec())
}

/// With or without a byte order mark; without one, every second byte of plain text is zero.
fn from_utf16(text: &[u8]) -> Option<Vec<u8>> {
    // A newline of two bytes has lost one of them as the newline at the file's end.
    let text = text.strip_suffix(&[0, b'\n']).or_else(|| text.strip_suffix(b"\0")).unwrap_or(text);
    let (text, little) = match text {
        [0xff, 0xfe, rest @ ..] => (rest, true),
        [0xfe, 0xff, rest @ ..] => (rest, false),
        [_, 0, ..] => (text, true),
        [0, _, ..] => (text, false),
        _ => return None,
    };
    let padded = if little && !text.len().is_multiple_of(2) { [text, b"\0"].concat() } else { text.to_vec() };
    let unit = |pair: &[u8]| match (pair, little) {
        ([a, b], true) => u16::from_le_bytes([*a, *b]),
        ([a, b], false) => u16::from_be_bytes([*a, *b]),
        _ => u16::MAX,
    };
    let units: Vec<_> = padded.chunks(2).map(unit).collect();
    String::from_utf16(&units).ok().map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_around_a_secret_is_found() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for (text, says) in [
            (b" s3cret ".to_vec(), "white space"),
            (b"\"s3cret\"".to_vec(), "quotes"),
            (b"'s3cret'".to_vec(), "quotes"),
            (b"\xef\xbb\xbfs3cret".to_vec(), "byte order mark"),
            (utf16("s3cret"), "UTF-16"),
            (utf16("\u{feff}s3cret\r\n"), "UTF-16"),
            (b"SECRET=s3cret".to_vec(), "KEY=VALUE"),
            (b"export SECRET='s3cret'".to_vec(), "KEY=VALUE, and has quotes"),
            (b"\xef\xbb\xbfSECRET=\"s3cret\"".to_vec(), "byte order mark"),
            (b"secret: s3cret".to_vec(), "KEY=VALUE"),
            (b"s3cret\\n".to_vec(), "two characters"),
            (b"# production\ns3cret".to_vec(), "one line of several"),
            (b"whsec_s3cret".to_vec(), "has whsec_"),
        ] {
            let hint = readings(&text, &[]).into_iter().find(|(text, _)| text.as_slice() == b"s3cret");
            assert!(hint.as_ref().is_some_and(|(_, hint)| hint.contains(says)), "{text:?}: {hint:?}");
        }
        let lacking = readings(b"\"s3cret\"", &["pdl_".to_owned()]);
        assert!(lacking.iter().any(|(text, hint)| text.as_slice() == b"pdl_s3cret"
            && hint.contains("quotes")
            && hint.contains("lacks pdl_")));
    }
}
