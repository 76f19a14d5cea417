//! Whose delivery it is, on a route that many customers share. What names the tenant is not proven: it only
//! chooses by which keys the delivery is judged, and the keys then prove it.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use super::delivery::Head;
use super::parse::json::{self, Pointer, Scalar};
use super::route::PathPattern;
use super::scheme::source::header_name;

/// Where a delivery names its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantPlace {
    /// In the segment of the path that the route leaves open.
    Path,
    Header(HeaderName),
    /// In the body, which is read as JSON for it.
    Json(Pointer),
}

/// The longest name.
pub const LONGEST: usize = 128;

/// Whether it can name a tenant: `[A-Za-z0-9._-]{1,128}`. A name that begins with two dots is none: so
/// folders name their parent, and Kubernetes the versions of what it mounts.
pub fn is_tenant(name: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=LONGEST).contains(&name.len()) && name.iter().all(plain) && name != b"." && !name.starts_with(b"..")
}

/// The same as text.
pub fn tenant(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok().filter(|name| is_tenant(name.as_bytes()))
}

impl TenantPlace {
    pub fn is_in_body(&self) -> bool {
        matches!(self, TenantPlace::Json(_))
    }

    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            TenantPlace::Header(name) => Some(name),
            TenantPlace::Path | TenantPlace::Json(_) => None,
        }
    }

    /// The tenant that the head names. What comes twice, or can be no tenant, names none.
    pub fn in_head<'r>(&self, head: &Head<'r>, path: &PathPattern) -> Option<&'r str> {
        match self {
            TenantPlace::Path => tenant(path.open_segment(head.path)?),
            TenantPlace::Header(name) => tenant(head.single(name).ok()??),
            TenantPlace::Json(_) => None,
        }
    }

    /// The tenant that the body names.
    pub fn in_body(&self, body: &[u8]) -> Option<String> {
        let TenantPlace::Json(pointer) = self else { return None };
        let name = match json::pick(body, &[pointer]).ok()?.pop()?? {
            Scalar::Text(text) => text.into_owned(),
            Scalar::Integer(number) => number.to_string(),
            Scalar::Bool(_) | Scalar::Other => return None,
        };
        is_tenant(name.as_bytes()).then_some(name)
    }
}

impl FromStr for TenantPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) => Ok(TenantPlace::Header(header_name(name)?)),
            Some(("json", pointer)) => Ok(TenantPlace::Json(pointer.parse()?)),
            _ => Err(format!(
                "\"{text}\" is no place of a tenant: write header:X-Name or json:/pointer, or {{tenant}} as a \
                 segment of the path"
            )),
        }
    }
}

impl fmt::Display for TenantPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TenantPlace::Path => f.write_str("path"),
            TenantPlace::Header(name) => write!(f, "header:{name}"),
            TenantPlace::Json(pointer) => write!(f, "json:{pointer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_plain_name_that_leads_nowhere_else() {
        for name in ["a", "acct_1A2b", "shop.example.com", "A-b_c.9", ".well-known", "-", &"x".repeat(128)] {
            assert!(is_tenant(name.as_bytes()), "{name}");
        }
        for none in [
            "",
            ".",
            "..",
            "..data",
            "..2026_11_26",
            "a/b",
            "a b",
            "a%2fb",
            "a\\b",
            "\u{e9}",
            "a\0",
            "a:b",
            "a~",
            "*",
            "{tenant}",
            &"x".repeat(129),
        ] {
            assert!(!is_tenant(none.as_bytes()), "{none}");
        }
        assert!(!is_tenant(b"\xff"));
    }

    #[test]
    fn a_body_names_one_tenant_or_none() {
        let place: TenantPlace = "json:/account".parse().unwrap();
        let named = |body: &str| place.in_body(body.as_bytes());
        assert_eq!(named(r#"{"account":"acct_1"}"#).as_deref(), Some("acct_1"));
        assert_eq!(named(r#"{"account":17}"#).as_deref(), Some("17"));
        for none in [
            r#"{"account":"acct_1","account":"acct_2"}"#,
            r#"{"account":"../x"}"#,
            r#"{"account":null}"#,
            r#"{"account":["a"]}"#,
            r#"{"accounts":"a"}"#,
            "account=a",
            "",
            "{",
        ] {
            assert_eq!(named(none), None, "{none}");
        }
    }

    #[test]
    fn only_heads_and_json_bodies_name_tenants() {
        for text in ["header:X-Shop-Domain", "json:/account"] {
            assert!(text.parse::<TenantPlace>().unwrap().to_string().eq_ignore_ascii_case(text));
        }
        for wrong in
            ["path", "query:shop", "form:shop", "header:", "header:a b", "json:account", "X-Shop", ""]
        {
            assert!(wrong.parse::<TenantPlace>().is_err(), "{wrong}");
        }
    }
}
