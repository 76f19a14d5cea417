//! The commands of the sender's side: what `sign` makes, `verify` accepts; what is nearly
//! right is told what would make it right.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use data_encoding::{BASE64, HEXLOWER};
use hookgate::config::provider::{PRESETS, preset};
use serde_json::Value;

const SECRET: &str = "tests/config/secret";
/// Text, hexadecimal and base64 at once: whatever a preset wants.
const ANY_KEY: &str = "tests/config/anykey";
const BODY: &str = r#"{"id":"evt_1","type":"order.paid","note":"café"}"#;

fn hookgate(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hookgate"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read its input.
    _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A captured request: signed over one body, arrived with another.
fn captured(provider: &str, secret: &str, signed: &[u8], arrived: &[u8]) -> Vec<u8> {
    let args = ["sign", "--provider", provider, "--secret-file", secret, "--id", "evt_1", "--url", URL];
    request(&text(&hookgate(&args, signed)), arrived)
}

/// What the provider was given.
const URL: &str = "https://app.example/hooks";

/// What `sign` printed, as a request.
fn request(signed: &str, arrived: &[u8]) -> Vec<u8> {
    let url = signed.lines().find_map(|line| line.strip_prefix("send it to "));
    let target = url.map_or("/hooks", |url| url.strip_prefix("https://app.example").unwrap());
    let mut raw = format!("POST {target} HTTP/1.1\r\nHost: app.example\r\n").into_bytes();
    for line in signed.lines().filter(|line| !line.starts_with("send it to ")) {
        write!(raw, "{line}\r\n").unwrap();
    }
    write!(raw, "Content-Length: {}\r\n\r\n", arrived.len()).unwrap();
    raw.extend_from_slice(arrived);
    raw
}

fn verified(raw: &[u8], args: &[&str]) -> (Option<i32>, Value) {
    let output = hookgate(&[&["verify", "-"], args].concat(), raw);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

fn hints(verified: &(Option<i32>, Value)) -> String {
    verified.1["hints"].as_array().unwrap().iter().map(|h| h.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_signed_verifies_for_every_preset() {
    for (provider, _) in PRESETS {
        if preset(provider).unwrap().schemes[0].algorithm.is_public() {
            continue; // only the provider can sign
        }
        // Some providers sign the time inside the body, and some put the signature there.
        let now = hookgate::clock::now().wall_ms;
        let body = format!(r#"{{"id":"evt_1","webhookTimestamp":{now},"signedAt":"{}"}}"#, now / 1000);
        let out = std::env::temp_dir().join(format!("hookgate-body-{}", std::process::id()));
        let file = out.to_str().unwrap();
        let args =
            ["sign", "--provider", provider, "--secret-file", ANY_KEY, "--url", URL, "--body-out", file];
        let signed = text(&hookgate(&args, body.as_bytes()));
        let raw = request(&signed, &std::fs::read(&out).unwrap());
        std::fs::remove_file(&out).unwrap();
        let (code, json) = verified(&raw, &["--provider", provider, "--secret-file", ANY_KEY, "--url", URL]);
        assert_eq!((code, &json["reason"]), (Some(0), &"accepted".into()), "{provider}: {json}");
        assert_eq!(json["key_id"], "anykey", "{provider}");
    }
}

#[test]
fn a_provider_that_keeps_its_private_key_cannot_be_played() {
    let key = std::env::temp_dir().join(format!("hookgate-public-{}", std::process::id()));
    std::fs::write(&key, "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=").unwrap();
    let args = ["sign", "--provider=standard-webhooks-asymmetric", "--secret-file", key.to_str().unwrap()];
    let output = hookgate(&args, b"x");
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("only the provider can sign"));
    std::fs::remove_file(&key).unwrap();
}

#[test]
fn another_url_than_the_one_that_was_signed_is_told() {
    let body = BODY.as_bytes();
    let raw = captured("square", SECRET, body, body);
    let judge = |url: &str| verified(&raw, &["--provider=square", "--secret-file", SECRET, "--url", url]);
    assert_eq!(judge(URL).1["reason"], "accepted");
    for other in [
        "http://app.example/hooks",
        "https://app.example/hooks/",
        "https://app.example:443/hooks",
        "https://internal.example/hooks",
        "https://app.example/hooks?x=1",
    ] {
        let result = judge(other);
        assert_eq!(result.1["reason"], "signature_mismatch", "{other}");
        assert!(
            hints(&result).contains("public_url must be https://app.example/hooks"),
            "{other}: {}",
            result.1
        );
    }
    let (code, _) = verified(&raw, &["--provider=square", "--secret-file", SECRET]);
    assert_eq!(code, Some(2), "the URL is needed");
}

#[test]
fn a_signature_in_another_place_is_found() {
    let body = BODY.as_bytes();
    let raw = String::from_utf8(captured("github", SECRET, body, body)).unwrap();
    let moved = raw.to_lowercase().replace("x-hub-signature-256", "x-gateway-signature");
    let result = verified(moved.as_bytes(), &["--provider=github", "--secret-file", SECRET]);
    assert!(hints(&result).contains("signature.from must be header:x-gateway-signature"), "{}", result.1);

    let scalekit = String::from_utf8(captured("github", SECRET, body, body)).unwrap().replace(
        "x-hub-signature-256: ",
        "webhook-id: a\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: v1,AAAA\r\nx-scalekit-signature: ",
    );
    let result = verified(scalekit.as_bytes(), &["--provider=scalekit", "--secret-file", SECRET]);
    let says =
        "the signature in header:x-scalekit-signature holds, but header:webhook-signature is there too";
    assert!(hints(&result).contains(says), "{}", result.1);
}

#[test]
fn what_is_signed_in_the_body_has_to_be_written_somewhere() {
    let args = ["sign", "--provider=mailgun", "--secret-file", SECRET];
    let output = hookgate(&args, b"{}");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--body-out"));
    let output = hookgate(&["sign", "--provider=twilio", "--secret-file", SECRET], b"a=1");
    assert!(String::from_utf8_lossy(&output.stderr).contains("signs the URL: give --url"));
}

#[test]
fn the_result_names_the_event() {
    let raw = captured("stripe", SECRET, BODY.as_bytes(), BODY.as_bytes());
    let (_, json) = verified(&raw, &["--provider", "stripe", "--secret-file", SECRET]);
    assert_eq!((&json["event_id"], &json["event_type"]), (&"evt_1".into(), &"order.paid".into()));
    assert_eq!(json["hints"], Value::Array(vec![]));
}

#[test]
fn a_stale_request_is_fresh_at_its_own_time() {
    let args = ["sign", "--provider=slack", "--secret-file", SECRET, "--now", "1700000000"];
    let headers = text(&hookgate(&args, b"x")).replace('\n', "\r\n");
    let raw = format!("POST / HTTP/1.1\r\n{headers}\r\nx");
    let judge =
        |now: &str| verified(raw.as_bytes(), &["--provider=slack", "--secret-file", SECRET, "--now", now]);
    assert_eq!(judge("1700000300").1["reason"], "accepted");
    assert_eq!(judge("2023-11-14T22:18:21Z").1["reason"], "timestamp_stale");
}

#[test]
fn near_misses_are_told_their_remedy() {
    let folder = std::env::temp_dir().join(format!("hookgate-hints-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "a secret of some length");
    let padded = file("padded", " a secret of some length ");
    let encoded = file("encoded", "YSBzZWNyZXQgb2Ygc29tZSBsZW5ndGg=");
    let spelled = file("spelled", "6120736563726574206f6620736f6d65206c656e677468");
    let quoted = file("quoted", "\"a secret of some length\"\n");
    let marked = file("marked", "\u{feff}a secret of some length");
    let assigned = file("assigned", "SECRET='a secret of some length'");
    let prefixed = file("prefixed", "whsec_a secret of some length");
    let other = file("other", "another secret!!");
    let wide = file("wide", "");
    let units = "\u{feff}a secret of some length".encode_utf16().flat_map(u16::to_le_bytes);
    std::fs::write(&wide, units.collect::<Vec<_>>()).unwrap();
    let body = BODY.as_bytes();
    let spaced = r#"{"id": "evt_1", "type": "order.paid", "note": "café"}"#.as_bytes();
    let pretty = "{\n  \"id\": \"evt_1\",\n  \"type\": \"order.paid\",\n  \"note\": \"café\"\n}".as_bytes();
    let sorted = r#"{"id":"evt_1","note":"café","type":"order.paid"}"#.as_bytes();
    let escaped = r#"{"id":"evt_1","type":"order.paid","note":"caf\u00e9"}"#.as_bytes();

    for (signed, arrived, secret, says) in [
        (body, body, &padded, "white space around it"),
        (body, body, &encoded, "is base64 to the sender"),
        (body, body, &spelled, "is hexadecimal to the sender"),
        (body, [body, b"\n"].concat().as_slice(), &plain, "a newline was added"),
        ([body, b"\n"].concat().as_slice(), body, &plain, "a newline was taken off"),
        (b"a\r\nb\r\n", b"a\nb\n", &plain, "from CR LF to LF"),
        (b"a\nb\n", b"a\r\nb\r\n", &plain, "from LF to CR LF"),
        (body, spaced, &plain, "signs it without spaces"),
        (spaced, body, &plain, "a space after ':' and ','"),
        (pretty, body, &plain, "signs it indented"),
        (sorted, body, &plain, "sorted keys"),
        (escaped, body, &plain, "\\u escapes"),
        (body, escaped, &plain, "without \\u and \\/ escapes"),
        (br#"{"a":"\/"}"#, br#"{"a":"/"}"#, &plain, "with \\/ for each slash"),
        (br#"{"a":"\u003c"}"#, br#"{"a":"<"}"#, &plain, "with \\u003c"),
        (b"[1]\r\n", b"[1]", &plain, "a line end (CR LF) was taken off"),
        (body, body, &quoted, "has quotes around it"),
        (body, body, &marked, "has a byte order mark before it"),
        (body, body, &wide, "is UTF-16"),
        (body, body, &assigned, "KEY=VALUE"),
        (body, body, &prefixed, "has whsec_ at its front"),
        (body, body, &other, "no reading of key other (sha256 8a33…, 16 bytes) fits: it is another secret"),
    ] {
        let raw = captured("github", &plain, signed, arrived);
        let result = verified(&raw, &["--provider", "github", "--secret-file", secret]);
        assert_eq!(result.0, Some(1));
        assert!(hints(&result).contains(says), "{says}: {}", result.1);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_secret_that_another_route_holds_is_told() {
    let folder = std::env::temp_dir().join(format!("hookgate-swapped-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let (one, two) = (file("one", "the first secret of two"), file("two", "the second secret of two"));
    let route = |name: &str, provider: &str, secret: &str| {
        format!(
            "  - {{ name: {name}, path: /{name}, provider: {provider}, secrets: [{{ id: k, file: {secret} }}] }}\n"
        )
    };
    let routes = format!("routes:\n{}{}", route("github", "github", &one), route("stripe", "stripe", &two));
    let config = file("hookgate.yaml", &routes);
    for (provider, secret, says) in [
        ("github", &two, "the secret k of the route stripe fits"),
        ("stripe", &two, "it is signed for the route stripe (secret k)"),
    ] {
        let raw = captured(provider, secret, b"{}", b"{}");
        let result = verified(&raw, &["-c", &config, "--route", "github"]);
        assert!(hints(&result).contains(says), "{}", result.1);
    }
    let url = ["sign", "-c", &config, "--route", "stripe"];
    let raw = request(&text(&hookgate(&url, b"{}")), b"{}");
    assert_eq!(verified(&raw, &["-c", &config, "--route", "stripe"]).1["reason"], "accepted");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_capture_is_judged_as_the_gate_would() {
    let judge = |raw: &str| verified(raw.as_bytes(), &["--provider=github", "--secret-file", SECRET]);
    let raw = String::from_utf8(captured("github", SECRET, b"hello", b"hello")).unwrap();
    let chunked = raw.replace("Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n");
    let pasted = raw.split_once("\r\n").unwrap().1;
    for (raw, reason) in [
        (raw.clone(), "accepted"),
        (raw.replace("\r\n", "\n"), "accepted"),
        (pasted.to_owned(), "accepted"),
        (raw.replace("HTTP/1.1", "HTTP/2"), "accepted"),
        (format!("{chunked}2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"), "accepted"),
        (format!("{chunked}2\nhe\n3\nllo\n0"), "accepted"),
        (format!("{chunked}hello"), "accepted"),
        (format!("{chunked}2\r\nhe\r\n3\r\nl"), "framing_invalid"),
        (raw.replace("POST", "GET"), "method_not_allowed"),
        (raw.replace("Content-Length", "Transfer-Encoding: chunked\r\nContent-Length"), "framing_invalid"),
        (raw.replace("Host: app.example", "Host: a\r\nHost: b"), "framing_invalid"),
    ] {
        let (code, json) = judge(&raw);
        assert_eq!(json["reason"], reason, "{raw}: {json}");
        assert_eq!(code, Some(i32::from(reason != "accepted")));
        assert!(reason == "accepted" || !json["hints"].as_array().unwrap().is_empty(), "{json}");
    }
}

#[test]
fn text_is_for_people_and_json_for_scripts() {
    let raw = captured("github", SECRET, b"x", b"x");
    let args = ["verify", "-", "--provider=github", "--secret-file", SECRET, "-o"];
    let said = |format: &str, raw: &[u8]| {
        String::from_utf8(hookgate(&[&args[..], &[format]].concat(), raw).stdout).unwrap()
    };
    assert!(said("text", &raw).starts_with("accepted\nkey: secret\n"), "{}", said("text", &raw));
    let refused = said("text", &captured("github", SECRET, b"x", b"other"));
    assert!(refused.starts_with("refused: signature_mismatch\nhint: "), "{refused}");
    assert!(
        said("json", &raw).starts_with('{') && said("auto", &raw).starts_with('{'),
        "a pipe is for scripts"
    );
}

/// Deliveries that these providers have published, changed as they are on a way. Only they can sign, so what
/// is tried is another reading of what they signed.
#[test]
fn near_misses_of_public_keys_are_told_as_well() {
    #[derive(serde::Deserialize)]
    struct Published {
        secret: String,
        headers: std::collections::BTreeMap<String, String>,
        body: String,
    }

    for provider in ["sendgrid", "wise"] {
        let file = std::fs::read(format!("tests/vectors/{provider}.json")).unwrap();
        let Published { secret, headers, body } =
            serde_json::from_slice::<Vec<Published>>(&file).unwrap().remove(0);
        let key = std::env::temp_dir().join(format!("hookgate-public-{provider}-{}", std::process::id()));
        std::fs::write(&key, secret).unwrap();
        let judged = |change: &dyn Fn(&str) -> String, body: &str| {
            let mut raw = b"POST /hooks HTTP/1.1\r\nHost: a\r\n".to_vec();
            for (name, value) in &headers {
                let value = if name.ends_with("Signature") || name.ends_with("SHA256") {
                    change(value)
                } else {
                    value.clone()
                };
                write!(raw, "{name}: {value}\r\n").unwrap();
            }
            write!(raw, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            verified(&raw, &["--provider", provider, "--secret-file", key.to_str().unwrap()])
        };
        let as_it_is = |value: &str| value.to_owned();
        let in_hex = |value: &str| HEXLOWER.encode(&BASE64.decode(value.as_bytes()).unwrap());
        assert_eq!(judged(&as_it_is, &body).1["reason"], "accepted", "{provider}");
        let (none, newline): (&[&str], &[&str]) = (&[], &["newline", "line end"]);
        for (what, change, body, told) in [
            ("a newline more", &as_it_is as &dyn Fn(&str) -> String, format!("{body}\n"), newline),
            (
                "a line end less",
                &as_it_is,
                body.trim_end().to_owned(),
                if provider == "sendgrid" { newline } else { none },
            ),
            ("another encoding", &in_hex, body.clone(), &["encoded as hex"]),
            ("another body", &as_it_is, body.replace('1', "2"), none),
        ] {
            let judged = judged(change, &body);
            if what == "a line end less" && told.is_empty() {
                assert_eq!(judged.1["reason"], "accepted", "{provider} ends without one");
                continue;
            }
            assert_eq!(judged.0, Some(1), "{provider}, {what}");
            let hints = hints(&judged);
            assert_eq!(
                told.iter().any(|word| hints.contains(word)),
                !told.is_empty(),
                "{provider}, {what}: {hints}"
            );
        }
        std::fs::remove_file(key).unwrap();
    }
}

/// As the gate would: what is no question of its provider's is judged by its signature.
#[test]
fn a_handshake_is_known_as_one() {
    let signed = |provider: &str, body: &str| captured(provider, SECRET, body.as_bytes(), body.as_bytes());
    let plain = |head: &str, body: &str| {
        format!("{head}\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let (json, form) =
        ("\r\nContent-Type: application/json", "\r\nContent-Type: application/x-www-form-urlencoded");
    let slack = r#"{"type":"url_verification","challenge":"abc"}"#;
    let zoom = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}"#;
    for (provider, raw, reason, keyed) in [
        ("slack", signed("slack", slack), "handshake", true),
        ("zoom", signed("zoom", zoom), "handshake", true),
        ("slack", signed("slack", r#"{"type":"event_callback","event_id":"Ev1"}"#), "accepted", true),
        ("slack", plain(&format!("POST / HTTP/1.1{form}"), "ssl_check=1&token=x"), "handshake", false),
        ("slack", plain(&format!("POST / HTTP/1.1{json}"), slack), "signature_missing", false),
        ("dropbox", plain("GET /?challenge=abc HTTP/1.1", ""), "handshake", false),
        ("dropbox", plain("GET /?challenge=%3Cscript%3E HTTP/1.1", ""), "handshake_refused", false),
        ("dropbox", plain("GET / HTTP/1.1", ""), "method_not_allowed", false),
        ("monday", plain(&format!("POST / HTTP/1.1{json}"), r#"{"challenge":"abc"}"#), "handshake", false),
        (
            "github",
            plain(&format!("POST / HTTP/1.1{json}"), r#"{"challenge":"abc"}"#),
            "signature_missing",
            false,
        ),
        // Whose verify token it is, a preset alone does not know.
        (
            "meta",
            plain("GET /?hub.mode=subscribe&hub.verify_token=a&hub.challenge=1 HTTP/1.1", ""),
            "method_not_allowed",
            false,
        ),
    ] {
        let (code, told) = verified(&raw, &["--provider", provider, "--secret-file", SECRET, "--url", URL]);
        assert_eq!(told["reason"], reason, "{provider}: {told}");
        let expected = match reason {
            "handshake" => ("answered", Some(0)),
            "accepted" => ("accepted", Some(0)),
            _ => ("refused", Some(1)),
        };
        assert_eq!((told["verdict"].as_str().unwrap(), code), expected, "{provider}");
        assert_eq!(!told["key_id"].is_null(), keyed, "{provider}: {told}");
    }
    // A route knows its token, and who answers.
    let config = "tests/config/good/every-key.yaml";
    for (token, reason) in [
        ("a wrong one", "handshake_refused"),
        (std::fs::read_to_string("tests/config/secret").unwrap().trim(), "handshake"),
    ] {
        let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let raw = plain(
            &format!("GET /meta?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=1 HTTP/1.1"),
            "",
        );
        let (_, told) = verified(&raw, &["--config", config, "--route", "meta"]);
        assert_eq!(told["reason"], reason, "{told}");
    }
}

#[test]
fn another_digest_and_another_provider_are_recognised() {
    // HMAC-SHA1 of the body under the secret, in the header that is for SHA-256.
    use hookgate::gate::scheme::algorithm::{Algorithm, Encoding};
    let mut mac = Algorithm::HmacSha1.keyed(&std::fs::read(SECRET).unwrap()).unwrap();
    mac.update(b"x");
    let tag = Encoding::Hex.encode(mac.finish());
    let raw = format!("POST / HTTP/1.1\r\nX-Hub-Signature-256: sha256={tag}\r\n\r\nx");
    let result = verified(raw.as_bytes(), &["--provider=github", "--secret-file", SECRET]);
    assert!(hints(&result).contains("signs with hmac-sha1, encoded as hex"), "{}", result.1);

    let raw = captured("slack", SECRET, b"x", b"x");
    let result = verified(&raw, &["--provider=github", "--secret-file", SECRET]);
    assert!(hints(&result).contains("one of the provider slack"), "{}", result.1);

    let result =
        verified(b"POST / HTTP/1.1\r\nHost: a\r\n\r\nx", &["--provider=github", "--secret-file", SECRET]);
    assert!(hints(&result).contains("none of the headers"), "{}", result.1);
}

#[test]
fn a_route_of_a_configuration_file_judges_as_well() {
    let raw = captured("github", SECRET, b"x", b"x");
    let config = "tests/config/good/contract.yaml";
    let (code, json) = verified(&raw, &["--config", config, "--route", "github"]);
    assert_eq!((code, &json["key_id"]), (Some(0), &"2026-11".into()), "{json}");
    assert_eq!(verified(&raw, &["--config", config]).0, Some(2), "which of the two routes?");
    assert_eq!(verified(&raw, &["--config", "tests/config/bad/bad-network.yaml"]).0, Some(78));
    assert_eq!(verified(b"nonsense", &["--provider=github", "--secret-file", SECRET]).0, Some(2));
    assert_eq!(verified(&raw, &["--provider=gihtub", "--secret-file", SECRET]).0, Some(2));
    assert_eq!(verified(&raw, &["--provider=github", "--secret-file=nowhere"]).0, Some(78));
}

#[test]
fn the_catalogue_can_be_listed_and_read() {
    let list = text(&hookgate(&["providers"], b""));
    assert_eq!(list.lines().count(), PRESETS.len());
    let one = text(&hookgate(&["providers", "github"], b""));
    assert!(one.contains("X-Hub-Signature-256") && one.contains("schemes:"));
    assert_eq!(hookgate(&["providers", "gihtub"], b"").status.code(), Some(2));
}

#[test]
fn arguments_for_curl_survive_the_shell() {
    let args = [
        "sign",
        "--provider=standard-webhooks",
        "--secret-file",
        SECRET,
        "--curl",
        "--url=http://127.0.0.1:1/",
    ];
    let words = text(&hookgate(&args, b"x"));
    let words: Vec<_> = words.split_whitespace().collect();
    let headers: Vec<_> = words.windows(2).filter(|w| w[0] == "-H").map(|w| w[1]).collect();
    assert_eq!(headers.len(), 3, "{words:?}");
    assert!(headers.iter().all(|h| h.starts_with("webhook-") && h.contains(':')));
    assert_eq!(words.last(), Some(&"http://127.0.0.1:1/"));
}
