//! From where a key may be fetched: an exact grammar of addresses, written as a URL with named holes.
//! Nothing else is ever dialled, whatever a delivery says.

use std::fmt;
use std::str::FromStr;

/// `https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{hex32}.pem`: a host that is fixed, and
/// a path whose holes take one form of text each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// In lower case; with a port only where it is not 443.
    host: String,
    path: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(Hole),
}

/// What may stand in a hole. None of them holds what would end a path or leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// Thirty-two digits, in lower case.
    Hex32,
    /// Groups of hexadecimal digits, as in a UUID, of any number.
    Hex,
    /// RFC 9562, section 4.
    Uuid,
    /// Letters, digits, `_` and `-`.
    Word,
    /// The same, and dots; not only dots.
    Name,
    /// Names with slashes between them, to the end.
    Path,
}

const HOLES: [(Hole, &str); 6] = [
    (Hole::Hex32, "hex32"),
    (Hole::Hex, "hex"),
    (Hole::Uuid, "uuid"),
    (Hole::Word, "word"),
    (Hole::Name, "name"),
    (Hole::Path, "path"),
];

/// No address or id that a provider uses comes near it.
const MAX_LEN: usize = 512;

impl Address {
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The only URL that it stands for, if it has no holes.
    pub fn fixed(&self) -> Option<String> {
        let is_text = |part: &Part| matches!(part, Part::Text(_));
        self.path.iter().all(is_text).then(|| self.to_string())
    }

    /// The URL with `id` in its hole; `None` if the id is not of the hole's form.
    pub fn of(&self, id: &str) -> Option<String> {
        let mut url = format!("https://{}", self.host);
        for part in &self.path {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Hole(hole) => {
                    (!id.is_empty() && hole.run(id) == id.len()).then_some(())?;
                    url.push_str(id);
                }
            }
        }
        Some(url)
    }

    /// How many holes it has.
    pub fn holes(&self) -> usize {
        self.path.iter().filter(|part| matches!(part, Part::Hole(_))).count()
    }

    /// The same where a delivery names the path alone.
    pub fn matching_path(&self, path: &str) -> Option<String> {
        path.starts_with('/').then(|| self.matching(&format!("https://{}{path}", self.host)))?
    }

    /// The URL that `named` is, put together from its parts; `None` if it is not one of these. The port may
    /// be written out, and a host's letters are of either case.
    pub fn matching(&self, named: &str) -> Option<String> {
        if named.len() > MAX_LEN {
            return None;
        }
        let rest = named.strip_prefix("https://")?;
        let (host, mut path) = rest.split_at(rest.find('/')?);
        let host = host.strip_suffix(":443").unwrap_or(host);
        if !host.eq_ignore_ascii_case(&self.host) {
            return None;
        }
        let mut url = format!("https://{}", self.host);
        for part in &self.path {
            let taken = match part {
                Part::Text(text) => path.starts_with(text.as_str()).then_some(text.len())?,
                Part::Hole(hole) => Some(hole.run(path)).filter(|taken| *taken > 0)?,
            };
            url.push_str(&path[..taken]);
            path = &path[taken..];
        }
        path.is_empty().then_some(url)
    }
}

impl Hole {
    /// How much of the text's beginning fits into it; 0 if nothing does.
    fn run(self, text: &str) -> usize {
        let while_all = |fits: fn(&u8) -> bool| text.bytes().take_while(fits).count();
        let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let is_name = |text: &str| !text.is_empty() && text.bytes().any(|b| b != b'.');
        match self {
            Hole::Hex32 => Some(while_all(hex)).filter(|len| *len == 32).unwrap_or(0),
            Hole::Hex => while_all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')).min(128),
            Hole::Uuid => {
                let is_uuid = |text: &str| {
                    text.bytes().enumerate().all(|(n, b)| match n {
                        8 | 13 | 18 | 23 => b == b'-',
                        _ => b.is_ascii_hexdigit(),
                    })
                };
                let ends =
                    |text: &str| !text[36..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
                let fits = text.is_char_boundary(36.min(text.len())) && text.len() >= 36;
                if fits && is_uuid(&text[..36]) && ends(text) { 36 } else { 0 }
            }
            Hole::Word => while_all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
            Hole::Name => Some(while_all(name)).filter(|len| is_name(&text[..*len])).unwrap_or(0),
            Hole::Path => {
                let len = while_all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
                if text[..len].split('/').all(is_name) { len } else { 0 }
            }
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = || format!("\"{text}\" is no address to fetch a key from: write https://host/path");
        let rest = text.strip_prefix("https://").ok_or_else(|| {
            format!("\"{text}\": a key is fetched over HTTPS only: write https://host/path")
        })?;
        let (host, path) = rest.split_at(rest.find('/').ok_or_else(remedy)?);
        let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
        let (name, port) = host.split_once(':').map_or((&*host, None), |(name, port)| (name, Some(port)));
        let plain = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == port);
        if !name.split('.').all(plain) || !port.is_none_or(is_port) {
            return Err(remedy());
        }
        let mut parts = Vec::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, behind) = after.split_once('}').ok_or_else(remedy)?;
            let hole = HOLES.iter().find(|(_, name)| *name == word).map(|(hole, _)| *hole);
            let hole = hole.ok_or_else(|| {
                let names: Vec<_> = HOLES.iter().map(|(_, name)| format!("{{{name}}}")).collect();
                format!("\"{text}\": {{{word}}} is unknown: use {}", names.join(", "))
            })?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Hole(hole));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let printable = |part: &Part| match part {
            Part::Text(text) => text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'),
            Part::Hole(_) => true,
        };
        if parts.iter().all(printable) { Ok(Address { host, path: parts }) } else { Err(remedy()) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)?;
        self.path.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Hole(hole) => {
                let name = HOLES.iter().find(|(known, _)| known == hole).map_or("", |(_, name)| name);
                write!(f, "{{{name}}}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNS: &str = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{hex32}.pem";

    fn matching(pattern: &str, named: &str) -> Option<String> {
        pattern.parse::<Address>().unwrap().matching(named)
    }

    #[test]
    fn only_the_pinned_addresses_are_addresses() {
        let hex = "7506a1e35b36ef5a444dd1a8e7cc3ed8";
        let good = format!("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-{hex}.pem");
        assert_eq!(matching(SNS, &good), Some(good.clone()));
        assert_eq!(
            matching(SNS, &good.replace(".com/", ".com:443/")),
            Some(good.clone()),
            "the port of HTTPS"
        );
        assert_eq!(
            matching(SNS, &good.replace("sns.us", "SNS.us")),
            Some(good.clone()),
            "a host in capitals"
        );
        for bad in [
            good.replace("https", "http"),
            good.replace(".com/", ".com.evil.example/"),
            good.replace("sns.us", "evil.example/sns.us"),
            good.replace("https://", "https://sns.us-east-1.amazonaws.com@evil.example/"),
            good.replace("https://", "https://user@"),
            good.replace(".com/", ".com:8443/"),
            good.replace(".com/", ".com:/"),
            good.replace(".com/", ".com./"),
            good.replace(".com/", ".com\\@evil.example/"),
            good.replace("us-east-1", "us-east-2"),
            good.replace(".pem", ".pem?x=.pem"),
            good.replace(".pem", ".pem#"),
            good.replace(".pem", ".pem/../x"),
            good.replace("/Simple", "//Simple"),
            good.replace("/Simple", "/./Simple"),
            good.replace(hex, &hex.to_uppercase()),
            good.replace(hex, &hex[1..]),
            good.replace(hex, &format!("{hex}0")),
            good.replace(hex, &format!("{hex}%00")),
            format!("{good}\n"),
            format!(" {good}"),
            String::new(),
        ] {
            assert_eq!(matching(SNS, &bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_id_cannot_leave_its_hole() {
        let uuid: Address = "https://api.example/keys/{uuid}".parse().unwrap();
        let id = "9936261a-7d7b-4621-a0f1-96ccb428af49";
        assert_eq!(uuid.of(id), Some(format!("https://api.example/keys/{id}")));
        for bad in
            ["", "..", "../x", "9936261a", &format!("{id}/.."), &format!("{id}0"), &id.replace('-', "/")]
        {
            assert_eq!(uuid.of(bad), None, "{bad}");
        }
        let name: Address = "https://api.example/keys/{name}".parse().unwrap();
        assert!(name.of("PUB_KEY-1.a").is_some());
        for bad in ["", ".", "..", "a/b", "a?b", "a%2fb", "ä", "a b"] {
            assert_eq!(name.of(bad), None, "{bad}");
        }
        let path = "https://s3.amazonaws.com/echo.api/{path}";
        assert!(matching(path, "https://s3.amazonaws.com/echo.api/a/echo-api-cert-4.pem").is_some());
        for bad in ["../x.pem", "a/../../x.pem", "a//x.pem", "%2e%2e/x.pem", "a/", "/a", ""] {
            assert_eq!(matching(path, &format!("https://s3.amazonaws.com/echo.api/{bad}")), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_with_the_remedy() {
        for (bad, says) in [
            ("http://a.example/k", "over HTTPS only"),
            ("https://a.example", "write https://host/path"),
            ("https://user@a.example/k", "write https://host/path"),
            ("https://a..example/k", "write https://host/path"),
            ("https://a.example:0/k", "write https://host/path"),
            ("https://a.example:044/k", "write https://host/path"),
            ("https://a.example/{hex33}", "{hex33} is unknown"),
            ("https://a.example/a b", "write https://host/path"),
            ("https://[::1]/k", "write https://host/path"),
        ] {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
        for good in ["https://a.example/k", "https://localhost:8443/jwks.json", SNS] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
    }
}
