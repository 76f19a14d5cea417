//! Where proxies name who sent a request: the nodes of `X-Forwarded-For`, and `Forwarded` (RFC 7239), in which
//! an element says what one proxy saw. A line of `Forwarded` is read from the left and whole, because only from
//! there is it known which commas stand in quotes; who cuts a line within quotes makes it unreadable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Unreadable;

/// What one proxy saw. The last element of a line is the nearest proxy's.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Element {
    seen: Option<Vec<u8>>,
    proto: Option<Vec<u8>>,
}

impl Element {
    /// The address that it was sent from. `unknown`, `_names` and nothing are none.
    pub fn address(&self) -> Option<IpAddr> {
        node(self.seen.as_ref()?)
    }

    pub fn is_https(&self) -> bool {
        self.proto.as_ref().is_some_and(|proto| proto.eq_ignore_ascii_case(b"https"))
    }

    fn set(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), Unreadable> {
        let place = match name {
            name if name.eq_ignore_ascii_case(b"for") => &mut self.seen,
            name if name.eq_ignore_ascii_case(b"proto") => &mut self.proto,
            _ => return Ok(()), // by, host, and extensions
        };
        // A parameter comes once (section 4).
        if place.replace(value).is_some() { Err(Unreadable) } else { Ok(()) }
    }
}

/// The elements of a line, without empty ones (RFC 9110, section 5.6.1.2).
pub fn elements(line: &[u8]) -> Result<Vec<Element>, Unreadable> {
    let mut elements = Vec::new();
    let mut element = None;
    let mut rest = line.trim_ascii_start();
    while let Some((&first, behind)) = rest.split_first() {
        rest = match first {
            b',' => {
                elements.extend(element.take());
                behind
            }
            b';' => {
                element.get_or_insert_default();
                behind
            }
            _ => {
                let (name, value, behind) = pair(rest)?;
                element.get_or_insert_with(Element::default).set(name, value)?;
                if !matches!(behind.first(), None | Some(b',' | b';')) {
                    return Err(Unreadable);
                }
                behind
            }
        }
        .trim_ascii_start();
    }
    elements.extend(element);
    Ok(elements)
}

/// Name, value, and what follows.
type Pair<'t> = (&'t [u8], Vec<u8>, &'t [u8]);

/// Name and value of a parameter, and what follows them and white space. Values that want quotes are taken
/// without them as well, because proxies write `for=192.0.2.1:80` and `host=a:80`.
fn pair(text: &[u8]) -> Result<Pair<'_>, Unreadable> {
    let assign = text.iter().position(|b| *b == b'=').ok_or(Unreadable)?;
    let (name, text) = (&text[..assign], &text[assign + 1..]);
    if name.is_empty() || !name.iter().all(|b| b.is_ascii_alphanumeric() || TOKEN_MARKS.contains(b)) {
        return Err(Unreadable);
    }
    let (value, behind) = match text.strip_prefix(b"\"") {
        Some(text) => quoted(text)?,
        None => {
            let end = text.iter().position(|b| b" \t,;\"\\".contains(b)).unwrap_or(text.len());
            (text[..end].to_vec(), &text[end..])
        }
    };
    Ok((name, value, behind.trim_ascii_start()))
}

const TOKEN_MARKS: &[u8] = b"!#$%&'*+-.^_`|~";

/// What stands up to the closing quote, and what follows that.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Unreadable> {
    let mut value = Vec::new();
    let mut bytes = text.iter();
    loop {
        match bytes.next().ok_or(Unreadable)? {
            b'"' => return Ok((value, bytes.as_slice())),
            b'\\' => value.push(*bytes.next().ok_or(Unreadable)?),
            byte => value.push(*byte),
        }
    }
}

/// An address as proxies write it: bare, with the port that it was sent from, or in the brackets that a
/// port makes IPv6 want. Zones and words are not addresses.
pub fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, behind) = text.split_once(']')?;
            let address = IpAddr::V6(address.parse::<Ipv6Addr>().ok()?);
            if behind.is_empty() {
                return Some(address.to_canonical());
            }
            (address, behind.strip_prefix(':')?)
        }
        None => {
            let (address, port) = text.split_once(':')?;
            (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
        }
    };
    is_port(port).then(|| address.to_canonical())
}

/// Up to five digits, or a name that hides them (RFC 7239, section 6.2).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each element of the line says: the address or `-`, and whether HTTPS.
    fn read(line: &str) -> Option<String> {
        let text = |element: &Element| {
            let address = element.address().map_or("-".to_owned(), |address| address.to_string());
            if element.is_https() { format!("{address} https") } else { address }
        };
        let elements = elements(line.as_bytes()).ok()?;
        Some(elements.iter().map(text).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn every_element_says_what_its_proxy_saw() {
        for (line, said) in [
            // The examples of RFC 7239, sections 4, 6.3 and 7.1.
            ("for=\"_gazonk\"", "-"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "192.0.2.43, 198.51.100.17"),
            ("for=_hidden, for=_SEVKISEK", "-, -"),
            ("for=unknown", "-"),
            ("for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown", "192.0.2.43, 2001:db8:cafe::17, -"),
            ("for=\"192.0.2.43:47011\"", "192.0.2.43"),
            ("for=\"192.0.2.43:_port\"", "192.0.2.43"),
            // Whatever the order, the case, the quotes and the white space.
            ("by=_a;PROTO=HTTPS;For=192.0.2.1", "192.0.2.1 https"),
            ("proto=\"https\" ; for=\"192.0.2.1\"\t,\tfor=\"192.0.2.2\"", "192.0.2.1 https, 192.0.2.2"),
            ("for=\"\\1\\9\\2.0.2.1\";host=\"a,b;for=x\\\"\"", "192.0.2.1"),
            ("for=192.0.2.1:80;host=a.example:8443", "192.0.2.1"),
            ("for=2001:db8::1", "2001:db8::1"),
            ("for=[2001:db8::1]:80", "2001:db8::1"),
            ("secret=s3;for=192.0.2.1", "192.0.2.1"),
            // Empty elements are none; an element of empty parameters is one that says nothing.
            ("", ""),
            (" , ,", ""),
            (",for=192.0.2.1,, for=192.0.2.2,", "192.0.2.1, 192.0.2.2"),
            (";for=192.0.2.1;", "192.0.2.1"),
            ("for=192.0.2.1,;", "192.0.2.1, -"),
            ("proto=https", "- https"),
            ("for=;proto=http", "-"),
        ] {
            assert_eq!(read(line).as_deref(), Some(said), "{line}");
        }
    }

    #[test]
    fn a_line_that_could_be_read_in_two_ways_is_not_read() {
        for line in [
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\\"",
            "for=\"192.0.2.1\\",
            // A sender's open quote in front of what a proxy appended.
            "for=\"192.0.2.1, for=198.51.100.9",
            "for=\"192.0.2.1, for=\"198.51.100.9\"",
            "for=\"192.0.2.1, for=\"[2001:db8::1]:80\";proto=https",
            "for=192.0.2.1;for=192.0.2.2",
            "proto=https;for=192.0.2.1;Proto=http",
            "for=192.0.2.1\"",
            "for=192.0.2.1\\, for=192.0.2.2",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\" for=192.0.2.2",
            "for 192.0.2.1",
            "for =192.0.2.1",
            "=192.0.2.1",
            "192.0.2.1",
            "\"for\"=192.0.2.1",
            "for=192.0.2.1 proto=https",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets_and_nothing_else() {
        for (text, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:51008", "203.0.113.7"),
            ("203.0.113.7:0", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(node(text.as_bytes()).map(|ip| ip.to_string()).as_deref(), Some(address), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "203.0.113",
            "203.0.113.007",
            "203.0.113.7:",
            "203.0.113.7:+80",
            "203.0.113.7:123456",
            "203.0.113.7:80:80",
            "203.0.113.7:http",
            "203.0.113.7:_",
            "203.0.113.7/32",
            "[203.0.113.7]",
            "[203.0.113.7]:80",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[2001:db8::1]]:80",
            "[[2001:db8::1]]",
            "fe80::1%eth0",
            "[fe80::1%1]:80",
            "\"203.0.113.7\"",
        ] {
            assert_eq!(node(text.as_bytes()), None, "{text}");
        }
    }
}
