//! How head and body lie on the disk: in one piece, with a checksum, or sealed with AES-256-GCM.
//!
//! The key's file holds one key a line, 32 bytes in hex or base64, the newest first: what is written is
//! sealed with the first, what is read is opened with whichever it was sealed with. So a key is rotated by a
//! new first line, and the old line may go once nothing sealed with it is left. Nonces are random; a key
//! may seal four thousand million events before two of them are likely to be alike.

use std::fmt;

use bytes::{BufMut, Bytes};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::gate::filter::replay::ReplayKey;

/// The keys, newest first; none leaves what is stored readable.
#[derive(Default)]
pub struct Keys(Vec<(KeyId, LessSafeKey)>);

/// Names a key without telling it: four bytes of its digest.
pub type KeyId = u32;

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not what was written.
    Damaged,
    /// The key that sealed it is not among the keys.
    KeyMissing(KeyId),
}

/// Head and body as they are written.
pub struct Sealed {
    pub bytes: Vec<u8>,
    pub by: Option<KeyId>,
    pub checksum: u32,
}

impl Keys {
    /// Reads the lines of a key file.
    pub fn parse(text: &[u8]) -> Result<Keys, String> {
        let mut keys = Vec::new();
        let text = std::str::from_utf8(text).map_err(|_| "is no text: write one key a line".to_owned())?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let bytes = decode(line.trim()).ok_or_else(|| {
                format!(
                    "line {number} is no key: write 32 bytes in hex or base64, as `openssl rand -hex 32` does"
                )
            })?;
            let digest = Sha256::digest(*bytes);
            let id = KeyId::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(format!("line {number} repeats a key: leave it out"));
            }
            let key = UnboundKey::new(&AES_256_GCM, &*bytes).map_err(|_| "is no AES-256 key".to_owned())?;
            keys.push((id, LessSafeKey::new(key)));
        }
        if keys.is_empty() {
            return Err("holds no key: write one, as `openssl rand -hex 32` does".to_owned());
        }
        Ok(Keys(keys))
    }

    /// What is written of an event; `None` if the machine has no randomness.
    pub fn seal(&self, key: ReplayKey, head: &[u8], body: &[u8]) -> Option<Sealed> {
        let mut bytes = Vec::with_capacity(NONCE_LEN + 4 + head.len() + body.len() + AES_256_GCM.tag_len());
        let Some((id, sealing)) = self.0.first() else {
            put(&mut bytes, head, body)?;
            return Some(Sealed { checksum: crc32fast::hash(&bytes), bytes, by: None });
        };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        bytes.put_slice(&nonce);
        put(&mut bytes, head, body)?;
        let (_, open) = bytes.split_at_mut(NONCE_LEN);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = sealing.seal_in_place_separate_tag(nonce, Aad::from(key.as_bytes()), open).ok()?;
        bytes.put_slice(tag.as_ref());
        Some(Sealed { checksum: crc32fast::hash(&bytes), bytes, by: Some(*id) })
    }

    /// Head and body of what was written.
    pub fn open(&self, key: ReplayKey, sealed: Sealed) -> Result<(Bytes, Bytes), Unreadable> {
        let Sealed { mut bytes, by, checksum } = sealed;
        if crc32fast::hash(&bytes) != checksum {
            return Err(Unreadable::Damaged);
        }
        let Some(id) = by else { return split(Bytes::from(bytes)) };
        let known = self.0.iter().find(|(known, _)| *known == id);
        let (_, opening) = known.ok_or(Unreadable::KeyMissing(id))?;
        let (nonce, rest) = bytes.split_first_chunk_mut().ok_or(Unreadable::Damaged)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = opening.open_in_place(nonce, Aad::from(key.as_bytes()), rest);
        let length = opened.map_err(|_| Unreadable::Damaged)?.len();
        split(Bytes::from(bytes).slice(NONCE_LEN..NONCE_LEN + length))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys' names, newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.0.iter().map(|(id, _)| *id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

fn put(bytes: &mut Vec<u8>, head: &[u8], body: &[u8]) -> Option<()> {
    bytes.put_u32(u32::try_from(head.len()).ok()?);
    bytes.put_slice(head);
    bytes.put_slice(body);
    Some(())
}

fn split(mut bytes: Bytes) -> Result<(Bytes, Bytes), Unreadable> {
    let length = bytes.split_to(4.min(bytes.len()));
    let length = <[u8; 4]>::try_from(&*length).map_err(|_| Unreadable::Damaged)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Unreadable::Damaged)?;
    if length > bytes.len() {
        return Err(Unreadable::Damaged);
    }
    let head = bytes.split_to(length);
    Ok((head, bytes))
}

fn decode(line: &str) -> Option<zeroize::Zeroizing<[u8; 32]>> {
    use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

    let decodings = [HEXLOWER_PERMISSIVE, BASE64, BASE64URL_NOPAD];
    let mut decoded = decodings.iter().filter_map(|encoding| encoding.decode(line.as_bytes()).ok());
    let bytes = zeroize::Zeroizing::new(decoded.find(|bytes| bytes.len() == 32)?);
    <[u8; 32]>::try_from(&**bytes).ok().map(zeroize::Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OLD: &str = "//////////////////////////////////////////8=";

    fn keys(lines: &[&str]) -> Keys {
        Keys::parse(lines.join("\n").as_bytes()).unwrap()
    }

    fn key(n: u8) -> ReplayKey {
        ReplayKey::from_bytes([n; 16])
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_alone_and_for_its_event_alone() {
        for ring in [Keys::default(), keys(&[NEW]), keys(&[NEW, OLD])] {
            let sealed = ring.seal(key(1), b"head", b"body").unwrap();
            assert_eq!(sealed.by, ring.ids().next());
            assert_eq!(sealed.bytes.windows(4).any(|part| part == b"body"), ring.is_empty());
            let opened = ring.open(key(1), sealed).unwrap();
            assert_eq!((&*opened.0, &*opened.1), (&b"head"[..], &b"body"[..]));
        }
        let seal = |ring: &Keys| ring.seal(key(1), b"head", b"body").unwrap();
        assert_eq!(keys(&[NEW]).open(key(2), seal(&keys(&[NEW]))), Err(Unreadable::Damaged));
        let (old, new) = (keys(&[OLD]), keys(&[NEW, OLD]));
        assert!(new.open(key(1), seal(&old)).is_ok(), "the old line still opens");
        let id = old.ids().next().unwrap();
        assert_eq!(keys(&[NEW]).open(key(1), seal(&old)), Err(Unreadable::KeyMissing(id)));
    }

    #[test]
    fn every_changed_bit_is_seen() {
        for ring in [Keys::default(), keys(&[NEW])] {
            let length = ring.seal(key(1), b"head", b"body").unwrap().bytes.len();
            for bit in 0..length * 8 {
                let mut sealed = ring.seal(key(1), b"head", b"body").unwrap();
                sealed.bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(ring.open(key(1), sealed), Err(Unreadable::Damaged), "{bit}");
            }
            for length in 0..length {
                let mut sealed = ring.seal(key(1), b"head", b"body").unwrap();
                sealed.bytes.truncate(length);
                sealed.checksum = crc32fast::hash(&sealed.bytes);
                let opened = ring.open(key(1), sealed);
                assert!(!opened.is_ok_and(|(head, body)| &*head == b"head" && &*body == b"body"), "{length}");
            }
        }
    }

    #[test]
    fn a_file_without_a_good_key_says_what_to_write() {
        for text in ["", "\n\n", "abc", &NEW[2..], &format!("{NEW}\n{NEW}"), "\u{fffd}"] {
            assert!(Keys::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(keys(&[NEW, "", OLD]).ids().count(), 2);
    }
}
