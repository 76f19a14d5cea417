//! One field of a `multipart/form-data` body (RFC 7578), for providers that send their
//! JSON in one.

use super::Unreadable;

/// The content of the part with this name; `Ok(None)` if there is none.
pub fn field<'b>(content_type: &[u8], body: &'b [u8], name: &str) -> Result<Option<&'b [u8]>, Unreadable> {
    let delimiter = [b"--", boundary(content_type)?].concat();
    let mut found = None;
    for part in parts(body, &delimiter)? {
        let (head, content) = split(part, b"\r\n\r\n")?;
        if part_name(head)? == name && found.replace(content).is_some() {
            return Err(Unreadable);
        }
    }
    Ok(found)
}

fn boundary(content_type: &[u8]) -> Result<&[u8], Unreadable> {
    let mut words = content_type.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let form_data = words.next().is_some_and(|media| media.eq_ignore_ascii_case(b"multipart/form-data"));
    let mut named = words.filter_map(|word| {
        let (name, value) = word.split_at_checked(b"boundary=".len())?;
        name.eq_ignore_ascii_case(b"boundary=").then_some(value)
    });
    let (Some(named), None, true) = (named.next(), named.next(), form_data) else { return Err(Unreadable) };
    let bare = named.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(named);
    // RFC 2046, section 5.1.1
    if (1..=70).contains(&bare.len()) { Ok(bare) } else { Err(Unreadable) }
}

/// What stands between the delimiters, each without its line end; nothing may stand before the first
/// and the last must be there.
fn parts<'b>(body: &'b [u8], delimiter: &[u8]) -> Result<Vec<&'b [u8]>, Unreadable> {
    let between = [b"\r\n", delimiter].concat();
    let mut parts = Vec::new();
    let mut rest = body.strip_prefix(delimiter).ok_or(Unreadable)?;
    while !rest.starts_with(b"--") {
        let (part, after) = split(rest.strip_prefix(b"\r\n").ok_or(Unreadable)?, &between)?;
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

/// The only name in the only disposition, where every reader finds it.
fn part_name(head: &[u8]) -> Result<String, Unreadable> {
    let head = std::str::from_utf8(head).map_err(|_| Unreadable)?;
    let mut dispositions = head.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let (Some(disposition), None) = (dispositions.next(), dispositions.next()) else {
        return Err(Unreadable);
    };
    let mut names = disposition
        .split(';')
        .filter_map(|word| word.split_once('='))
        .filter(|(name, _)| name.trim().trim_end_matches('*').eq_ignore_ascii_case("name"));
    let (Some((name, value)), None) = (names.next(), names.next()) else { return Err(Unreadable) };
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    // A backslash escapes for some readers and not for others.
    if name.trim() == "name" && !value.contains(['"', '\\']) { Ok(value.to_owned()) } else { Err(Unreadable) }
}

fn split<'t>(text: &'t [u8], mark: &[u8]) -> Result<(&'t [u8], &'t [u8]), Unreadable> {
    let at = text.windows(mark.len()).position(|window| window == mark).ok_or(Unreadable)?;
    Ok((&text[..at], &text[at + mark.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=\"xyz\"";

    fn part(name: &str, content: &str) -> String {
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        let body = format!("{}{}--xyz--\r\n", part("a", "1\r\n2"), part("json", "{}"));
        assert_eq!(field(TYPE, body.as_bytes(), "json"), Ok(Some(&b"{}"[..])));
        assert_eq!(field(TYPE, body.as_bytes(), "a"), Ok(Some(&b"1\r\n2"[..])));
        assert_eq!(field(TYPE, body.as_bytes(), "b"), Ok(None));
        let bare = b"multipart/form-data; Boundary=xyz";
        assert_eq!(field(bare, body.as_bytes(), "json"), Ok(Some(&b"{}"[..])));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        let twice = format!("{}{}--xyz--\r\n", part("json", "{}"), part("json", "[]"));
        let open = part("json", "{}");
        let early = format!("junk\r\n{}--xyz--", part("json", "{}"));
        let other = |name: &str| part("json", "{}").replace("name=\"json\"", name) + "--xyz--";
        for body in [
            twice,
            open,
            early,
            other("name=\"json"),
            other("name=\"json\"; name=\"a\""),
            other("name=\"a\"; name*=utf-8''json"),
            other("NAME=\"json\""),
            other("name=\"js\\on\""),
            other("filename=\"json\""),
            other("name=\"a\"\r\nContent-Disposition: form-data; name=\"json\""),
            String::new(),
        ] {
            assert_eq!(field(TYPE, body.as_bytes(), "json"), Err(Unreadable), "{body}");
        }
        let body = format!("{}--xyz--", part("json", "{}"));
        for content_type in [
            "application/json",
            "multipart/form-data",
            "multipart/mixed; boundary=xyz",
            "multipart/form-data; boundary=xyz; boundary=abc",
        ] {
            assert_eq!(field(content_type.as_bytes(), body.as_bytes(), "json"), Err(Unreadable));
        }
    }
}
