//! Secrets: read from a file or the environment, never printed, wiped when dropped.

use std::fmt;
use std::path::Path;

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

    #[test]
    fn a_secret_cannot_be_printed() {
        let (secret, _) = Secret::from_bytes(b"canary".to_vec());
        assert!(!format!("{secret:?}").contains("canary"));
    }
}
