//! What of a refused request is written down: its head as it came, without what lets somebody in. A secret that
//! is shown, as by a token scheme, is blanked whatever becomes of the request; a signature stays, because it
//! vouches for this one request and nothing else.

use http::HeaderName;

use super::delivery::Head;
use super::filter::signature::Scheme;
use super::parse::form::Form;
use super::route::Route;
use super::scheme::Recipe;
use super::scheme::algorithm::Algorithm;
use super::scheme::source::Source;

/// What stands where something was blanked.
pub const BLANKED: &str = "[blanked]";

/// Names that hold such words hold credentials, unless a scheme of the route signs with them.
const WORDS: [&str; 8] =
    ["api-key", "apikey", "authentic", "authoriz", "cookie", "passw", "secret", "session"];
/// The same where they stand between hyphens.
const WHOLE_WORDS: [&str; 4] = ["auth", "credential", "credentials", "token"];

/// A head without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// In the form in which it was sent, with the length of its body.
    pub head: Vec<u8>,
    /// What would have judged it is blanked, so that nobody can judge it any more.
    pub of_proof: bool,
    /// The secret is in the body, of which nothing is to be written.
    pub in_body: bool,
}

/// Whether what goes by that name is not for a screen.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    WORDS.iter().any(|word| name.contains(word)) || name.split('-').any(|word| WHOLE_WORDS.contains(&word))
}

/// The head without what was blanked in it.
pub fn without_blanks(head: &[u8]) -> Vec<u8> {
    let blank = format!(": {BLANKED}\r\n");
    let lines = head.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.ends_with(blank.as_bytes())).flatten().copied().collect()
}

impl Route {
    /// The head of a request for this route, without what lets somebody in; `length` is that of its body.
    pub fn withheld(&self, head: &Head<'_>, length: usize) -> Withheld {
        let schemes = || self.signature.every_scheme().map(Scheme::recipe);
        let shown: Vec<&Source> = schemes()
            .filter(|recipe| recipe.algorithm == Algorithm::Token)
            .flat_map(|recipe| &recipe.signature.from)
            .collect();
        let signs: Vec<HeaderName> = schemes()
            .filter(|recipe| recipe.algorithm != Algorithm::Token)
            .flat_map(Recipe::headers)
            .collect();
        let is = |known: &HeaderName, name: &[u8]| known.as_str().as_bytes().eq_ignore_ascii_case(name);
        let mut of_proof = false;

        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(head.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(head.path);
        if let Some(query) = head.query {
            let tokens = shown.iter().filter_map(|source| match source {
                Source::Query(name) => Some(&**name),
                _ => None,
            });
            let tokens: Vec<&str> = tokens.collect();
            let is_read = schemes().any(Recipe::reads_query);
            out.push(b'?');
            of_proof |= put_query(&mut out, query, &tokens, is_read);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in head.headers.iter() {
            if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing.as_bytes())) {
                continue;
            }
            let is_shown = shown.iter().filter_map(|source| source.header()).any(|known| is(known, name));
            let signs = signs.iter().any(|known| is(known, name));
            let blank = is_shown || (!signs && is_credential(&String::from_utf8_lossy(name)));
            of_proof |= is_shown;
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(if blank { BLANKED.as_bytes() } else { value });
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
        let in_body = shown.iter().any(|source| source.is_in_body());
        Withheld { head: out, of_proof: of_proof || in_body, in_body }
    }
}

/// What says where a body ends: it is told anew.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "expect"];

/// Whether one of the tokens was blanked. What else is called like a credential is blanked where no scheme reads
/// the query.
fn put_query(out: &mut Vec<u8>, query: &[u8], tokens: &[&str], is_read: bool) -> bool {
    let mut of_proof = false;
    for (n, part) in query.split(|byte| *byte == b'&').enumerate() {
        if n > 0 {
            out.push(b'&');
        }
        let end = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        // Whoever writes the name in another way means the same; what cannot be read may be it.
        let name = Form::parse(&part[..end]).and_then(|form| form.pairs()).map(|pairs| {
            pairs.first().map_or_else(String::new, |(name, _)| String::from_utf8_lossy(name).into_owned())
        });
        let is_token = name.as_ref().map_or(!tokens.is_empty(), |name| tokens.contains(&&**name));
        let is_called_so = !is_read && name.as_ref().map_or(true, |name| is_credential(name));
        of_proof |= is_token;
        if is_token || is_called_so {
            out.extend_from_slice(&part[..end]);
            out.extend_from_slice(b"=blanked");
        } else {
            out.extend_from_slice(part);
        }
    }
    of_proof
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_by_many_names_and_signatures_by_others() {
        for name in [
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "X-Api-Key",
            "x_api_key",
            "X-Auth",
            "X-Gitlab-Token",
            "X-Amz-Security-Token",
            "cf-webhook-auth",
            "X-Webhook-Secret",
            "access_token",
            "X-Session-Id",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "X-Hub-Signature-256",
            "webhook-id",
            "webhook-signature",
            "stripe-signature",
            "X-Author",
            "Idempotency-Key",
            "tokenizer",
            "Content-Type",
            "X-GitHub-Event",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn what_was_blanked_does_not_come_back() {
        let head = b"POST /a HTTP/1.1\r\nhost: b\r\ncookie: [blanked]\r\nx: [blanked] not\r\n\r\n";
        assert_eq!(without_blanks(head), b"POST /a HTTP/1.1\r\nhost: b\r\nx: [blanked] not\r\n\r\n");
    }

    #[test]
    fn a_query_keeps_what_is_signed_and_loses_what_lets_somebody_in() {
        for (query, tokens, is_read, expected, of_proof) in [
            ("a=1&secret=x&b", &["secret"][..], true, "a=1&secret=blanked&b", true),
            ("a=1&%73ecret=x", &["secret"], true, "a=1&%73ecret=blanked", true),
            ("token=x&a=1", &[], false, "token=blanked&a=1", false),
            ("token=x&a=1", &[], true, "token=x&a=1", false),
            ("%zz=x", &["secret"], true, "%zz=blanked", true),
            ("", &["secret"], true, "", false),
        ] {
            let mut out = Vec::new();
            let told = put_query(&mut out, query.as_bytes(), tokens, is_read);
            assert_eq!((String::from_utf8(out).unwrap().as_str(), told), (expected, of_proof), "{query}");
        }
    }
}
