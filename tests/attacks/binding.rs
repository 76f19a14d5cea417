//! Section 2.3: what is signed against what is used.

use super::fixture::*;
use crate::support::Request;
use crate::support::sender::unique;

static GATE: Shared = Shared::new(Fixture::new);

#[test]
fn a53_the_application_receives_the_verified_bytes() {
    let gate = GATE.enter();
    for length in [0, 1, 65_535, 65_536, 65_537, 1 << 20] {
        let body: Vec<u8> = (0..=255).cycle().take(length).collect();
        gate.delivers(&format!("{length} bytes, declared"), &standard().sign(&body));
        for chunk in [1021, 70_000] {
            let request = standard().sign(&body);
            let head = request.head("Transfer-Encoding: chunked\r\n").into_bytes();
            let what = format!("{length} bytes in chunks of {chunk}");
            gate.expect(&what, [head, request.chunks(chunk)].concat(), DELIVERED);
            let seen = gate.app.requests().pop().unwrap();
            assert!(seen.body == body, "{what}: the bytes differ");
            assert_eq!(seen.headers.all("Content-Length"), [length.to_string()], "{what}");
            assert_eq!(seen.header("Transfer-Encoding"), None, "{what}");
        }
    }
}

#[test]
fn a54_json_is_never_written_anew() {
    let gate = GATE.enter();
    let id = unique("evt");
    for body in [
        format!(r#"{{"b":1,"a":2,"id":"{id}-1"}}"#),
        format!("{{ \"id\" :\t\"{id}-2\" ,\r\n\"n\": 1.0e0  }}\n"),
        format!(r#"{{"id":"{id}-3","t":"\u0041\/\ud83d\ude00"}}"#),
        format!(r#"{{"id":"{id}-4","big":12345678901234567890.00,"same":1,"same":2}}"#),
        format!("\n\n[{{\"id\":\"{id}\"}}]"),
    ] {
        for hook in [stripe(), github()] {
            gate.delivers(&body, &hook.sign(&body));
        }
    }
}

/// `gzip -n` of `{"id":"zipped"}`.
const ZIPPED: &[u8] = &[
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0xca, 0x4c, 0x51, 0xb2, 0x52, 0xaa, 0xca, 0x2c, 0x28,
    0x48, 0x4d, 0x51, 0xaa, 5, 0, 0xcf, 0x8c, 0x0b, 0x97, 0x0f, 0, 0, 0,
];

/// The contract knows no 415: a content coding is the application's business, and what was
/// signed is what it receives.
#[test]
fn a55_a_compressed_body_is_passed_on_as_it_is() {
    let gate = GATE.enter();
    let event = standard().sign(ZIPPED).with("Content-Encoding", "gzip");
    let seen = gate.delivers("signed compressed", &event);
    assert_eq!(seen.header("Content-Encoding"), Some("gzip"));
    let plain = standard().sign(br#"{"id":"zipped"}"#).with("Content-Encoding", "gzip");
    gate.expect(
        "signed before it was compressed",
        Request { body: ZIPPED.to_vec(), ..plain }.bytes(),
        MISMATCH,
    );
}

/// Zeros as DEFLATE writes them (RFC 1951): after one literal, copies of 258 bytes from one
/// byte back, thirteen bits each. A megabyte of it unfolds to 160.
fn bomb(length: usize) -> Vec<u8> {
    // Final block, fixed codes; literal 0. Huffman codes stand with their first bit first.
    let mut bits = vec![1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0];
    while bits.len() < length * 8 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }
    let mut bytes = ZIPPED[..10].to_vec();
    bytes.extend(bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |byte, bit| byte << 1 | bit)));
    bytes.truncate(length);
    bytes
}

#[test]
fn a56_a_bomb_is_not_unfolded() {
    let gate = GATE.enter();
    let resident = || gate.gate.metrics().value("process_resident_memory_bytes");
    let before = resident();
    for _ in 0..3 {
        gate.delivers("a bomb", &standard().sign(bomb(1 << 20)).with("Content-Encoding", "gzip"));
    }
    let grown = resident() - before;
    assert!(grown < f64::from(32 << 20), "{grown} bytes more");
}

#[test]
fn a57_a_transfer_coding_besides_chunked_is_refused() {
    let gate = GATE.enter();
    let event = github().event();
    for coding in ["gzip, chunked", "gzip", "chunked, gzip", "deflate,chunked", "identity"] {
        let head = event.head(&format!("Transfer-Encoding: {coding}\r\n")).into_bytes();
        gate.expect(coding, [head, event.chunks(1000)].concat(), FRAMING);
    }
    gate.delivers("genuine after all", &event);
}

#[test]
fn a58_a_character_set_changes_no_byte() {
    let gate = GATE.enter();
    for charset in ["utf-7", "utf-16", "utf-16le", "ebcdic-cp-us", "\"utf-8\u{fc}\""] {
        let content_type = format!("application/json; charset={charset}");
        let event = github().sign([b"+ADw-\xff\xfe{\0", unique("body").as_bytes()].concat());
        let seen = gate.delivers(charset, &event.with("Content-Type", &content_type));
        assert_eq!(seen.headers.all("Content-Type").len(), 1, "{charset}");
    }
}

/// The id on a Stripe route, with a valid signature, is written like this.
fn with_id(member: &str) -> Request {
    stripe().sign(format!("{{{member}}}"))
}

#[test]
fn a59_two_ids_are_no_id() {
    let gate = GATE.enter();
    let (a, b) = (unique("evt"), unique("evt"));
    for members in [
        format!(r#""id":"{a}","id":"{b}""#),
        format!(r#""id":"{a}","id":"{a}""#),
        format!(r#""id":"{a}","\u0069d":"{b}""#),
        format!(r#""id":"{a}","x":{{"id":"y"}},"id":null"#),
    ] {
        gate.expect(&members, with_id(&members).bytes(), AMBIGUOUS);
    }
    let nested = slack().sign(format!(r#"{{"event_id":"{a}","event_id":"{b}"}}"#));
    gate.expect("on another route", nested.bytes(), AMBIGUOUS);
    gate.delivers("one id, and another further in", &with_id(&format!(r#""id":"{a}","x":{{"id":"y"}}"#)));
    gate.delivers("the other id", &with_id(&format!(r#""id":"{b}""#)));
}

/// What stands beside the id is skipped without recursion, so nesting there needs no bound.
#[test]
fn a60_an_id_is_a_short_text_or_an_integer_and_nothing_else() {
    let gate = GATE.enter();
    for id in [
        "1.5".to_owned(),
        "1e3".to_owned(),
        "true".to_owned(),
        "{}".to_owned(),
        r#"["evt"]"#.to_owned(),
        r#""""#.to_owned(),
        format!("\"{}\"", "x".repeat(257)),
        format!("\"{}\"", "x".repeat(1_000_000)),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        "[".repeat(100_000),
    ] {
        gate.expect(&id[..id.len().min(40)], with_id(&format!(r#""id":{id}"#)).bytes(), AMBIGUOUS);
    }
    let deep = format!(r#""x":{}{},"id":"{}""#, "[".repeat(100_000), "]".repeat(100_000), unique("evt"));
    let number = unique("").rsplit('_').next().map(|n| format!("99{}{n}", std::process::id())).unwrap();
    gate.delivers("an integer", &with_id(&format!(r#""id":{number}"#)));
    gate.remembers("the same integer", &with_id(&format!(r#""other":1,"id":{number}"#)));
    gate.delivers("null is no id", &with_id(&format!(r#""id":null,"n":"{}""#, unique("n"))));
    gate.delivers("deep beside the id", &with_id(&deep));
    gate.delivers("as long as may be", &with_id(&format!(r#""id":"{:x<256}""#, unique("evt"))));
}

#[test]
fn a61_an_escaped_key_is_the_same_key() {
    let gate = GATE.enter();
    let id = unique("evt");
    gate.delivers("plain", &with_id(&format!(r#""id":"{id}""#)));
    gate.remembers("escaped key", &with_id(&format!(r#""\u0069d":"{id}""#)));
    let escaped = format!("\\u{:04x}{}", u32::from(b'e'), &id[1..]);
    gate.remembers("escaped value", &with_id(&format!(r#""\u0069\u0064":"{escaped}""#)));
    gate.delivers(
        "the same text elsewhere",
        &with_id(&format!(r#""x":"\"id\":\"{id}\"","id":"{}""#, unique("evt"))),
    );
}

#[test]
fn a62_what_begins_as_json_and_is_none_is_refused() {
    let gate = GATE.enter();
    let id = unique("evt");
    let json = format!(r#"{{"id":"{id}"}}"#);
    for body in [
        format!("\u{feff}{json} x"),
        format!("{json} x"),
        format!("{json}{json}"),
        format!(r#"{{"id":"{id}","n":NaN}}"#),
        format!(r#"{{"id":"{id}",}}"#),
        format!(r#"{{"id":"{id}"#),
        format!(r"{{'id':'{id}'}}"),
        format!(r#"{{"id":"{id}"}} // "#),
    ] {
        gate.expect(&body, stripe().sign(&body).bytes(), AMBIGUOUS);
    }
    let mut not_text = json.clone().into_bytes();
    not_text[9] = 0xff;
    gate.expect("no UTF-8", stripe().sign(not_text).bytes(), AMBIGUOUS);
    // RFC 8259, section 8.1, allows to pass over a byte order mark.
    gate.delivers("genuine after all", &stripe().sign(&json));
    gate.remembers("the same behind a mark", &stripe().sign(format!("\u{feff}{json}")));
}

#[test]
fn a63_githubs_delivery_id_makes_no_new_event() {
    let gate = GATE.enter();
    let event = github().event();
    gate.delivers("first", &event);
    for name in ["another", "", "x-1"] {
        gate.remembers(name, &set(&event, "X-GitHub-Delivery", name));
    }
    gate.remembers("without one", &event.clone().without("X-GitHub-Delivery"));
    // Two are ambiguous, even though they would decide nothing.
    gate.expect("with two", event.with("X-GitHub-Delivery", "second").bytes(), MALFORMED);
}

#[test]
fn a64_shopifys_webhook_id_makes_no_new_event() {
    let gate = GATE.enter();
    let event = shopify().event();
    gate.delivers("first", &event);
    gate.remembers("another id", &set(&event, "X-Shopify-Webhook-Id", "another"));
    gate.remembers("another event id", &event.clone().with("X-Shopify-Event-Id", "another"));
    gate.remembers("without one", &event.without("X-Shopify-Webhook-Id"));
}

/// The gate lists no verified headers. It names id and type "as the provider names them",
/// so for GitHub those are as unproven as the headers they come from; key id and
/// idempotency key do not depend on them.
#[test]
fn a67_unsigned_headers_are_passed_on_and_decide_nothing() {
    let gate = GATE.enter();
    let event = github().event().with("X-GitHub-Event", "push");
    let changed = set(&event, "X-GitHub-Event", "organization").to("/hooks/gh");
    let first = gate.delivers("as sent", &event);
    assert_eq!(first.header("X-GitHub-Event"), Some("push"));
    gate.remembers("with another type", &changed);
    let event = github().event();
    let seen = gate.delivers("another type", &set(&event, "X-GitHub-Event", "organization"));
    assert_eq!(seen.header("X-GitHub-Event"), Some("organization"));
    assert_eq!(seen.header("Hookgate-Event-Type"), None, "nobody signed it");
    assert_eq!(seen.header("Hookgate-Unsigned-Event-Type"), Some("organization"));
    // Where the type is signed, a header changes nothing.
    let typed = stripe().sign(format!(r#"{{"id":"{}","type":"invoice.paid"}}"#, unique("evt")));
    let seen = gate.delivers(
        "a signed type",
        &typed.with("X-GitHub-Event", "forged").with("Hookgate-Event-Type", "forged"),
    );
    assert_eq!(seen.header("Hookgate-Event-Type"), Some("invoice.paid"));
}

#[test]
fn a68_no_header_overrides_the_method() {
    let gate = GATE.enter();
    let body = format!("_method=DELETE&n={}", unique("body"));
    for name in [
        "X-HTTP-Method-Override",
        "x_http_method_override",
        "X-HTTP-METHOD-OVERRIDE",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        let event = github().sign([&body, name].concat()).with(name, "DELETE");
        let seen = gate.delivers(name, &event);
        assert!(seen.line.starts_with("POST "), "{}", seen.line);
        assert_eq!(seen.headers.all(name), [] as [&str; 0]);
    }
}
