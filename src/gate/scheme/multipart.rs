//! One field of a `multipart/form-data` body (RFC 7578), for providers that send their
//! JSON in one.

/// The content of the only part with this name; `None` if there is none, or more than one.
pub fn field<'b>(content_type: &[u8], body: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let delimiter = [b"--", boundary(content_type)?].concat();
    let mut found = None;
    for part in parts(body, &delimiter)? {
        let (head, content) = split(part, b"\r\n\r\n")?;
        if part_name(head)? == name && found.replace(content).is_some() {
            return None;
        }
    }
    found
}

fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let mut words = content_type.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    if !words.next()?.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    let named = words.find_map(|word| {
        let (name, value) = word.split_at_checked(b"boundary=".len())?;
        name.eq_ignore_ascii_case(b"boundary=").then_some(value)
    })?;
    let bare = named.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(named);
    (1..=70).contains(&bare.len()).then_some(bare) // RFC 2046, section 5.1.1
}

/// What stands between the delimiters, each without its line end; `None` if the last one is missing.
fn parts<'b>(body: &'b [u8], delimiter: &[u8]) -> Option<Vec<&'b [u8]>> {
    let between = [b"\r\n", delimiter].concat();
    let mut parts = Vec::new();
    let mut rest = body.strip_prefix(delimiter)?;
    while !rest.starts_with(b"--") {
        let (part, after) = split(rest.strip_prefix(b"\r\n")?, &between)?;
        parts.push(part);
        rest = after;
    }
    Some(parts)
}

fn part_name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let named = disposition.split(';').find_map(|word| word.trim().strip_prefix("name="))?;
    let quoted = named.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let name = quoted.unwrap_or(named);
    (!name.contains('"')).then(|| name.to_owned())
}

fn split<'t>(text: &'t [u8], mark: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    Some((&text[..at], &text[at + mark.len()..]))
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
        assert_eq!(field(TYPE, body.as_bytes(), "json"), Some(&b"{}"[..]));
        assert_eq!(field(TYPE, body.as_bytes(), "a"), Some(&b"1\r\n2"[..]));
        assert_eq!(field(TYPE, body.as_bytes(), "b"), None);
        assert_eq!(field(b"multipart/form-data; Boundary=xyz", body.as_bytes(), "json"), Some(&b"{}"[..]));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        let twice = format!("{}{}--xyz--\r\n", part("json", "{}"), part("json", "[]"));
        let open = part("json", "{}");
        let early = format!("junk\r\n{}--xyz--", part("json", "{}"));
        let half = part("json", "{}").replace("json\"", "json");
        for body in [twice, open, early, half + "--xyz--", String::new()] {
            assert_eq!(field(TYPE, body.as_bytes(), "json"), None, "{body}");
        }
        let body = format!("{}--xyz--", part("json", "{}"));
        assert_eq!(field(b"application/json", body.as_bytes(), "json"), None);
        assert_eq!(field(b"multipart/form-data", body.as_bytes(), "json"), None);
    }
}
