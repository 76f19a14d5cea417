//! Where signatures and signed values may stand beside headers: forms, multipart bodies, tokens,
//! and the keys that judge them.

use hookgate::gate::parse::form::Form;
use hookgate::gate::parse::jws::{PayloadForm, Token, decoded};
use hookgate::gate::parse::multipart;
use hookgate::gate::parse::url::{Port, PublicUrl};
use hookgate::gate::scheme::algorithm::{Algorithm, Tag};
use hookgate::gate::scheme::public_key::PublicKey;

/// The pairs of a form are those that the URL standard's reader finds; what is not read has too many
/// fields or an escape that is none.
pub fn form(data: &[u8]) {
    let Ok((form, pairs)) = Form::parse(data).and_then(|form| form.pairs().map(|pairs| (form, pairs))) else {
        let escapes = data.split(|b| *b == b'%').skip(1);
        let mut odd =
            escapes.filter(|text| !text.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)));
        return assert!(odd.next().is_some() || data.split(|b| *b == b'&').count() > 1024, "a plain form");
    };
    let known: Vec<_> = form_urlencoded::parse(data).collect();
    assert_eq!(pairs.len(), known.len());
    for ((name, value), (known_name, known_value)) in pairs.iter().zip(&known) {
        // The standard's reader replaces what is not UTF-8; ours keeps the bytes.
        assert_eq!(String::from_utf8_lossy(name), *known_name);
        assert_eq!(String::from_utf8_lossy(value), *known_value);
        let sole = known.iter().filter(|(other, _)| other == known_name).count() == 1;
        if sole && let Ok(name) = std::str::from_utf8(name) {
            assert_eq!(form.single(name).unwrap().as_deref(), Some(&**value));
        }
    }
}

/// A field that is found stands in the body between two delimiters, and nothing else has its name.
pub fn multipart(data: &[u8]) {
    let Ok(Some(found)) = multipart::field(b"multipart/form-data; boundary=xx", data, "json") else { return };
    let framed = [b"\r\n\r\n", found, b"\r\n--xx"].concat();
    assert!(data.windows(framed.len()).any(|window| window == framed), "not what stands in the body");
    assert!(!found.windows(6).any(|window| window == b"\r\n--xx"), "more than one part");
    let named = data.windows(11).filter(|window| *window == b"name=\"json\"").count();
    let bare = data.windows(9).filter(|window| *window == b"name=json").count();
    assert!(named + bare >= 1, "nothing has that name");
}

/// A token is its three parts, and says which algorithm it names.
pub fn token(data: &[u8]) {
    let Some(token) = Token::parse(data) else { return };
    let joined = [token.header, token.payload, token.signature].join(&b'.');
    assert_eq!(joined, data);
    assert_eq!([token.signed, token.signature].join(&b'.'), data);
    let Ok((name, form)) = token.algorithm() else { return };
    let header = String::from_utf8(decoded(token.header).unwrap()).expect("a header is text");
    // A tree of values takes no lone surrogates, wherever they stand.
    let Ok(header) = serde_json::from_str::<serde_json::Value>(&header) else { return };
    assert_eq!(header["alg"], name);
    let crit = header.get("crit").filter(|crit| !crit.is_null());
    match form {
        PayloadForm::Encoded => assert!(crit.is_none()),
        PayloadForm::Plain => assert_eq!(crit, Some(&serde_json::json!(["b64"]))),
    }
}

/// Whatever is taken for a public key, it has signed nothing here.
pub fn public_key(data: &[u8]) {
    let (key, rest) = data.split_at(data.len() * 2 / 3);
    for algorithm in [
        Algorithm::Ed25519,
        Algorithm::EcdsaP256Sha256,
        Algorithm::EcdsaP521Sha512,
        Algorithm::RsaSha1,
        Algorithm::RsaSha256,
        Algorithm::RsaSha512,
    ] {
        if let Ok(key) = PublicKey::new(algorithm, key) {
            assert!(!key.verifies(b"nobody has ever signed these words", &Tag::new(rest)), "{algorithm:?}");
        }
    }
    assert!(PublicKey::new(Algorithm::HmacSha256, data).is_err());
}

/// A URL is written as it was given, and the other way of writing its port leads back.
pub fn url(data: &[u8]) {
    let Some(url) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<PublicUrl>().ok()) else {
        return;
    };
    assert_eq!(url.to_string().as_bytes(), data);
    let mut written = Vec::new();
    url.write(Port::AsGiven, b"/", url.query().map(str::as_bytes), |bytes| written.extend_from_slice(bytes));
    assert_eq!(written, data);
    let other = url.with_other_port();
    assert!(other == url || other.with_other_port() == url, "{url} and {other}");
}
