//! Secrets: read from a file or the environment, never printed, wiped when dropped.

use std::fmt::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The text of a secret as the operator stored it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    /// Whether it is in a cluster, where only its path is known: then that stands for it.
    is_unseen: bool,
}

impl Secret {
    /// Drops one trailing newline, because editors and shells add one, and nothing else.
    /// The second value tells whether one was there.
    pub fn from_bytes(mut bytes: Vec<u8>) -> (Self, bool) {
        let newline = bytes.last() == Some(&b'\n');
        if newline {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        (Secret { bytes: Zeroizing::new(bytes), is_unseen: false }, newline)
    }

    /// These bytes, to the last one.
    pub fn exact(bytes: &[u8]) -> Self {
        Secret { bytes: Zeroizing::new(bytes.to_vec()), is_unseen: false }
    }

    /// Of a gate that will run elsewhere. It verifies nothing; the same file is the same secret.
    pub fn unseen(path: &Path) -> Self {
        Secret { bytes: Zeroizing::new(path.as_os_str().as_encoded_bytes().to_vec()), is_unseen: true }
    }

    pub fn is_unseen(&self) -> bool {
        self.is_unseen
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The one place where the bytes come out.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// What tells one secret from another, and nobody what it is.
    pub fn fingerprint(&self) -> String {
        let mut text = "sha256 ".to_owned();
        for byte in Sha256::digest(self.expose()).iter().take(2) {
            _ = write!(text, "{byte:02x}");
        }
        text.push('…');
        text
    }

    /// What an editor, a shell or a copy has put around it. Providers' secrets look like none of
    /// this; that this one is meant so is possible, and nothing here decides it.
    pub fn oddity(&self) -> Option<&'static str> {
        const LINES: &str = "holds several lines: the file holds one secret alone";
        let bytes = self.expose();
        let text = match bytes {
            [0xef, 0xbb, 0xbf, ..] => {
                return Some("begins with a byte order mark: save the file as UTF-8 without one");
            }
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
                return Some("is UTF-16: save the file as UTF-8");
            }
            [b'"', .., b'"'] | [b'\'', .., b'\''] | [b'`', .., b'`'] => {
                return Some("stands in quotes, which count as part of it: remove them from the file");
            }
            _ => std::str::from_utf8(bytes).ok()?,
        };
        match text {
            pem if pem.trim_start().starts_with("-----BEGIN ") => None,
            text if text.trim_ascii() != text => {
                Some("has white space around it, which counts as part of it: remove it from the file")
            }
            text if text.contains('\n') => Some(LINES),
            text if text.starts_with('{') && text.ends_with('}') => {
                Some("is JSON: the file holds the secret alone, without names and braces")
            }
            text if is_assignment(text) => {
                Some("stands behind a name, as in KEY=VALUE: the file holds the secret alone")
            }
            text if text.contains("\\n") => {
                Some("holds \\n as two characters: write none, or a real line end")
            }
            _ => None,
        }
    }
}

/// `NAME=value`, `export NAME=value` or `name: value`, with a name that speaks of secrets or is
/// written as variables are. What is random may hold a `=`, and what ends in `=` is base64.
fn is_assignment(text: &str) -> bool {
    const WORDS: [&str; 5] = ["secret", "key", "token", "hook", "password"];
    let text = text.strip_prefix("export ").unwrap_or(text);
    let Some((name, value)) = text.split_once('=').or_else(|| text.split_once(": ")) else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_variable =
        name.len() > 2 && name.contains('_') && !name.contains(|c: char| c.is_ascii_lowercase());
    let lower = name.to_ascii_lowercase();
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(plain)
        && value.chars().any(|c| c != '=')
        && (is_variable || WORDS.iter().any(|word| lower.contains(word)))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_goes_and_nothing_else() {
        let cases: [(&[u8], &[u8], bool); 6] = [
            (b"abc", b"abc", false),
            (b"abc\n", b"abc", true),
            (b"abc\r\n", b"abc", true),
            (b"abc\n\n", b"abc\n", true),
            (b" abc ", b" abc ", false),
            (b"\n", b"", true),
        ];
        for (file, text, newline) in cases {
            let (secret, said) = Secret::from_bytes(file.to_vec());
            assert_eq!((secret.expose(), said), (text, newline));
        }
    }

    fn secret(bytes: &[u8]) -> Secret {
        Secret::from_bytes(bytes.to_vec()).0
    }

    #[test]
    fn what_was_put_around_a_secret_is_told() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for (bytes, says) in [
            (b"\xef\xbb\xbfs3cret".to_vec(), "byte order mark"),
            (utf16("s3cret"), "UTF-16"),
            (utf16("\u{feff}s3cret\r\n"), "UTF-16"),
            (b"\"s3cret\"".to_vec(), "quotes"),
            (b"'s3cret'\n".to_vec(), "quotes"),
            (b"s3cret \n".to_vec(), "white space"),
            (b"s3cret\n\n".to_vec(), "white space"),
            (b"# production\ns3cret\n".to_vec(), "several lines"),
            (b"WEBHOOK_SECRET=s3cret\n".to_vec(), "KEY=VALUE"),
            (b"export GH_X='s3cret'".to_vec(), "KEY=VALUE"),
            (b"secret: s3cret".to_vec(), "KEY=VALUE"),
            (b"{\"secret\":\"s3cret\"}".to_vec(), "JSON"),
            (b"s3cret\\n".to_vec(), "two characters"),
        ] {
            let told = secret(&bytes).oddity();
            assert!(told.is_some_and(|told| told.contains(says)), "{bytes:?}: {told:?}");
        }
    }

    #[test]
    fn a_secret_as_providers_make_them_is_not_odd() {
        for plain in [
            &b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"[..],
            b"0123456789abcdef0123456789abcdef\n",
            b"It's a Secret to Everybody",
            b"aGVsbG8gd29ybGQ=",
            b"xK3=9a-fL:2",
            b"-----BEGIN PUBLIC KEY-----\nAAEC\n-----END PUBLIC KEY-----\n",
            b"\x01\x02\xff\xfe raw bytes",
        ] {
            assert_eq!(secret(plain).oddity(), None, "{plain:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_start_of_a_digest() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(secret(b"abc\n").fingerprint(), "sha256 ba78…");
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        let (secret, _) = Secret::from_bytes(b"canary".to_vec());
        assert!(!format!("{secret:?}").contains("canary"));
    }
}
