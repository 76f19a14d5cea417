//! The URL that a provider was given: what it signs, whatever a proxy in between made of it.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// `public_url` of a route. What stands behind the origin is optional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: Scheme,
    /// Host and port, with credentials if the provider was given some.
    authority: String,
    /// `None`: the path of the request.
    path: Option<String>,
    query: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Whether the default port is written out in what was signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Port {
    #[default]
    AsGiven,
    /// Written out if it was left out, left out if it was written.
    OtherWay,
}

/// Which query is signed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SignedQuery {
    /// The one in `public_url`; a request with another one is refused.
    #[default]
    AsGiven,
    /// The one of the request: the provider adds parameters of its own.
    AsReceived,
}

impl PublicUrl {
    pub fn has_path(&self) -> bool {
        self.path.is_some()
    }

    /// With the default port written out if it was left out, left out if it was written.
    #[must_use]
    pub fn with_other_port(&self) -> Self {
        PublicUrl { authority: self.authority(Port::OtherWay).into_owned(), ..self.clone() }
    }

    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Passes the parts of the URL to `sink`: origin, path, and the query if there is one.
    pub fn write(&self, port: Port, received_path: &[u8], query: Option<&[u8]>, mut sink: impl FnMut(&[u8])) {
        sink(self.scheme.name().as_bytes());
        sink(b"://");
        sink(self.authority(port).as_bytes());
        // A URL that was given without a path is signed without one, and asked for as `/`.
        let received_path = if received_path == b"/" { b"" } else { received_path };
        self.target(received_path, query, sink);
    }

    /// Path and query.
    pub fn target(&self, received_path: &[u8], query: Option<&[u8]>, mut sink: impl FnMut(&[u8])) {
        sink(self.path.as_ref().map_or(received_path, |path| path.as_bytes()));
        if let Some(query) = query {
            sink(b"?");
            sink(query);
        }
    }

    fn authority(&self, port: Port) -> Cow<'_, str> {
        let default = self.scheme.default_port();
        match (port, self.authority.strip_suffix(default)) {
            (Port::AsGiven, _) => Cow::Borrowed(&self.authority),
            (Port::OtherWay, Some(without)) => Cow::Borrowed(without),
            (Port::OtherWay, None) if self.has_port() => Cow::Borrowed(&self.authority),
            (Port::OtherWay, None) => Cow::Owned(format!("{}{default}", self.authority)),
        }
    }

    fn has_port(&self) -> bool {
        let host = self.authority.rsplit('@').next().unwrap_or_default();
        let port = host.rsplit(']').next().unwrap_or_default();
        port.contains(':')
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> &'static str {
        match self {
            Scheme::Http => ":80",
            Scheme::Https => ":443",
        }
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("\"{text}\" {why}: write https://example.com/hooks, as the provider was given it")
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(wrong("is no URL")),
        };
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err(wrong("holds a space, a '#' or something beyond ASCII"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = match rest.find('/') {
            Some(slash) => (&rest[..slash], Some(rest[slash..].to_owned())),
            None => (rest, None),
        };
        if !names_host(authority.rsplit('@').next().unwrap_or_default()) {
            return Err(wrong("names no host"));
        }
        Ok(PublicUrl { scheme, authority: authority.to_owned(), path, query: query.map(str::to_owned) })
    }
}

/// A name or an address, IPv6 in brackets, and perhaps a port.
fn names_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '[', ']']),
    };
    host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority, self.path.as_deref().unwrap_or_default())?;
        self.query.iter().try_for_each(|query| write!(f, "?{query}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(url: &str, port: Port, query: Option<&str>) -> String {
        written_for(url, port, "/received", query)
    }

    fn written_for(url: &str, port: Port, path: &str, query: Option<&str>) -> String {
        let mut out = Vec::new();
        let url: PublicUrl = url.parse().unwrap();
        url.write(port, path.as_bytes(), query.map(str::as_bytes), |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_given_wins_over_what_was_received() {
        assert_eq!(written("https://h", Port::AsGiven, None), "https://h/received");
        assert_eq!(written_for("https://h", Port::AsGiven, "/", None), "https://h");
        assert_eq!(written_for("https://h/", Port::AsGiven, "/", None), "https://h/");
        assert_eq!(written("https://h/given", Port::AsGiven, Some("a=1")), "https://h/given?a=1");
        assert_eq!(written("https://h/", Port::AsGiven, Some("")), "https://h/?");
    }

    #[test]
    fn the_default_port_may_be_written_out_or_not() {
        for (given, other) in [
            ("https://h/", "https://h:443/"),
            ("http://h/", "http://h:80/"),
            ("https://u:p@h/", "https://u:p@h:443/"),
            ("https://[::1]/", "https://[::1]:443/"),
        ] {
            assert_eq!(written(given, Port::OtherWay, None), other);
            assert_eq!(written(other, Port::OtherWay, None), given);
        }
        assert_eq!(written("https://h:8443/", Port::OtherWay, None), "https://h:8443/");
        assert_eq!(written("https://[::1]:8443/", Port::OtherWay, None), "https://[::1]:8443/");
    }

    #[test]
    fn what_no_provider_was_given_is_refused() {
        for (bad, says) in [
            ("example.com/hooks", "is no URL"),
            ("ftp://h", "is no URL"),
            ("https://", "names no host"),
            ("https:///p", "names no host"),
            ("https://user@/p", "names no host"),
            ("https://h:/p", "names no host"),
            ("https://h:80x/p", "names no host"),
            ("https://h:80:443/p", "names no host"),
            ("https://[h]/p", "names no host"),
            ("https://h/a b", "holds a space"),
            ("https://h/#a", "holds a space"),
        ] {
            let error = bad.parse::<PublicUrl>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
        for good in ["https://h", "http://u:p@h:80/p/q?x=1&y", "https://[::1]:8443/"] {
            assert_eq!(good.parse::<PublicUrl>().unwrap().to_string(), good);
        }
    }
}
