//! Section 2.1: signatures that are almost right.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, HEXLOWER};
use hookgate::gate::scheme::algorithm::Algorithm;

use super::fixture::*;
use crate::support::gate::{Run, run};
use crate::support::sender::{now_ms, unique};
use crate::support::{Request, until};

static GATE: Shared = Shared::new(Fixture::new);

/// From the right signature to another.
type Change = fn(&str) -> String;

/// Each of these ways to write a GitHub signature is refused, and costs its event nothing.
fn malformed(cases: &[(&str, Change)]) {
    let gate = GATE.enter();
    let hook = github();
    for (what, change) in cases {
        let event = hook.event();
        gate.refuses(what, &event, hook.resigned(&event, change).bytes(), MALFORMED);
    }
}

#[test]
fn a01_without_a_signature_the_body_is_not_even_read() {
    let gate = GATE.enter();
    for hook in [standard(), github(), stripe(), slack()] {
        let event = hook.event();
        let unsigned = event.clone().without(hook.header());
        gate.refuses(hook.header(), &event, unsigned.bytes(), MISSING);
        // The verdict comes before the body. What comes after it can only be that body, so
        // the connection ends.
        let head = unsigned.head(&format!("Content-Length: {}\r\n", unsigned.body.len()));
        gate.expect("a head alone", head, MISSING.closing());
    }
}

#[test]
fn a02_an_empty_signature_is_none() {
    let gate = GATE.enter();
    for hook in [standard(), github(), stripe(), slack()] {
        let event = hook.event();
        gate.refuses(hook.header(), &event, set(&event, hook.header(), "").bytes(), MISSING);
    }
}

#[test]
fn a03_a_prefix_without_a_digest_is_malformed() {
    malformed(&[("no digest", |_| "sha256=".to_owned())]);
    let gate = GATE.enter();
    for (hook, empty) in
        [(standard(), "v1,"), (stripe(), &format!("t={},v1=", now_ms() / 1000)), (slack(), "v0=")]
    {
        let event = hook.event();
        gate.refuses(empty, &event, set(&event, hook.header(), empty).bytes(), MALFORMED);
    }
}

#[test]
fn a04_a_digest_cut_short_is_malformed() {
    malformed(&[
        ("two digits less", |right| right[..right.len() - 2].to_owned()),
        ("one digit less", |right| right[..right.len() - 1].to_owned()),
        ("half", |right| right[..right.len() - 32].to_owned()),
    ]);
}

#[test]
fn a05_a_digest_with_more_behind_it_is_malformed() {
    malformed(&[
        ("two zeros", |right| format!("{right}00")),
        ("one zero", |right| format!("{right}0")),
        ("twice", |right| format!("{right}{}", &right["sha256=".len()..])),
        ("a zero byte in front", |right| right.replace("sha256=", "sha256=00")),
    ]);
}

#[test]
fn a06_hex_in_upper_case_is_the_same_digest() {
    let gate = GATE.enter();
    let hook = github();
    let event = hook.event();
    let upper = hook.resigned(&event, |right| right.to_uppercase().replace("SHA256", "sha256"));
    gate.delivers("upper case", &upper);
    gate.remembers("upper case", &event);
}

#[test]
fn a07_white_space_inside_a_digest_is_not_tolerated() {
    malformed(&[
        ("a space", |right| format!("{} {}", &right[..20], &right[20..])),
        ("mixed case and a space", |right| {
            format!("{}{} {}", &right[..20], right[20..40].to_uppercase(), &right[40..])
        }),
        ("a tab", |right| format!("{}\t{}", &right[..20], &right[20..])),
        ("a space before the digest", |right| right.replace("sha256=", "sha256= ")),
    ]);
}

/// Each of these ways to write the only signature of a list is refused.
fn malformed_base64(change: impl Fn(&[u8]) -> Option<String>) {
    let gate = GATE.enter();
    let hook = standard();
    // Not every tag looks different in the other writing: the next one may.
    let (event, other) = (0..1000)
        .find_map(|_| {
            let event = hook.event();
            let tag = BASE64.decode(&event.headers.get(hook.header()).unwrap().as_bytes()[3..]).unwrap();
            change(&tag).map(|other| (event, other))
        })
        .unwrap();
    let attack = set(&event, hook.header(), &format!("v1,{other}"));
    gate.refuses(&other, &event, attack.bytes(), MALFORMED);
}

#[test]
fn a08_another_base64_is_malformed() {
    malformed_base64(|tag| Some(BASE64URL.encode(tag)).filter(|text| text.contains(['-', '_'])));
    malformed_base64(|tag| Some(BASE64_NOPAD.encode(tag)));
    malformed_base64(|tag| Some(HEXLOWER.encode(tag)));
}

#[test]
fn a09_base64_with_stray_bits_is_malformed() {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    malformed_base64(|tag| {
        let mut text = BASE64.encode(tag).into_bytes();
        let last = text.len() - 2; // before the padding, with two bits that nothing needs
        let value = ALPHABET.bytes().position(|b| b == text[last]).unwrap();
        text[last] = ALPHABET.as_bytes()[value | 1];
        String::from_utf8(text).ok()
    });
}

#[test]
fn a10_digits_of_another_script_are_malformed() {
    malformed(&[
        ("full-width digits", |right| {
            let (prefix, digits) = right.split_at("sha256=".len());
            let wide = |c: char| match c {
                '0'..='9' => char::from_u32(u32::from(c) - 0x30 + 0xff10).unwrap(),
                letter => letter,
            };
            format!("{prefix}{}", digits.chars().map(wide).collect::<String>())
        }),
        ("bytes that are no text", |right| right.replacen('=', "=\u{80}", 1)),
    ]);
}

/// A genuine code of another kind, under each name that it could be given.
fn under_names(names: &[&str], algorithm: Algorithm) {
    let gate = GATE.enter();
    for name in names {
        let event = github().event();
        let tag = HEXLOWER.encode(&hmac(algorithm, GITHUB.as_bytes(), &event.body));
        let attack = set(&event, "X-Hub-Signature-256", &format!("{name}{tag}"));
        gate.refuses(name, &event, attack.bytes(), MALFORMED);
    }
}

#[test]
fn a11_a_valid_sha1_code_is_no_sha256_code() {
    under_names(&["sha1=", "sha256=", ""], Algorithm::HmacSha1);
}

#[test]
fn a12_the_sender_does_not_choose_the_algorithm() {
    under_names(&["sha512=", "sha256="], Algorithm::HmacSha512);
    under_names(
        &["sha512=", "md5=", "none=", "hmac-sha256=", "SHA256=", "sha256:", ""],
        Algorithm::HmacSha256,
    );
    malformed(&[
        ("no algorithm at all", |_| "none=".to_owned()),
        ("nothing but a name", |_| "none".to_owned()),
    ]);
}

#[test]
fn a13_only_the_configured_header_counts() {
    let gate = GATE.enter();
    let event = github().event();
    let old = HEXLOWER.encode(&hmac(Algorithm::HmacSha1, GITHUB.as_bytes(), &event.body));
    let attack = github()
        .resigned(&event, |_| format!("sha256={}", "0".repeat(64)))
        .with("X-Hub-Signature", &format!("sha1={old}"));
    gate.refuses("a valid older signature", &event, attack.bytes(), MISMATCH);
}

#[test]
fn a14_two_signature_headers_are_ambiguous() {
    let gate = GATE.enter();
    for hook in [standard(), github(), stripe(), slack()] {
        let event = hook.event();
        let good = event.headers.get(hook.header()).unwrap().to_owned();
        let bad = hook.event().headers.get(hook.header()).unwrap().to_owned();
        for (what, first, second) in
            [("good first", &good, &bad), ("good last", &bad, &good), ("equal", &good, &good)]
        {
            let attack = set(&event, hook.header(), first).with(hook.header(), second);
            gate.expect(what, attack.bytes(), MALFORMED);
        }
        gate.delivers("genuine after two headers", &event);
    }
}

#[test]
fn a15_a_list_is_malformed_where_one_signature_is_due() {
    malformed(&[
        ("good first", |right| format!("{right},sha256={}", "0".repeat(64))),
        ("good last", |right| format!("sha256={},{right}", "0".repeat(64))),
        ("spaces between", |right| format!("{right} {right}")),
    ]);
}

const BAD: &str = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn a16_any_of_sixteen_signatures_may_be_the_good_one() {
    let gate = GATE.enter();
    let hook = standard();
    for good in [0, 1, 15] {
        let event = hook.event();
        let list = hook.resigned(&event, |right| {
            let mut entries = vec![BAD; 16];
            entries[good] = right;
            entries.join(" ")
        });
        gate.delivers(&format!("the good one at {good}"), &list);
    }
}

#[test]
fn a17_a_longer_list_is_not_worked_through() {
    let gate = GATE.enter();
    let hook = standard();
    let lists: [(&str, Change); 3] = [
        ("seventeen entries", |right| format!("{right} {}", [BAD; 16].join(" "))),
        ("four KiB in one entry", |right| format!("{right} v1,{}", "A".repeat(4096))),
        ("a thousand empty entries", |right| format!("{right}{}", " ".repeat(1000) + BAD)),
    ];
    for (what, change) in lists {
        let event = hook.event();
        gate.refuses(what, &event, hook.resigned(&event, change).bytes(), MALFORMED);
    }
}

#[test]
fn a18_an_unknown_version_is_passed_over_and_proves_nothing() {
    let gate = GATE.enter();
    let hook = standard();
    let event = hook.event();
    let alone = hook.resigned(&event, |right| right.replacen("v1,", "v1a,", 1));
    gate.refuses("v1a alone", &event, alone.bytes(), MALFORMED);
    let event = hook.event();
    gate.delivers("v1a beside v1", &hook.resigned(&event, |right| format!("v1a,c2lnbmVk {right} v2,eA==")));
}

#[test]
fn a19_stripes_older_version_proves_nothing() {
    let gate = GATE.enter();
    let hook = stripe();
    let event = hook.event();
    let v0 = hook.resigned(&event, |right| right.replacen("v1=", "v0=", 1));
    gate.refuses("v0 alone", &event, v0.bytes(), MALFORMED);
    let event = hook.event();
    gate.delivers("v0 beside v1", &hook.resigned(&event, |right| format!("{right},v0={}", "0".repeat(64))));
}

#[test]
fn a20_two_times_in_one_signature_are_malformed() {
    let gate = GATE.enter();
    let hook = stripe();
    let cases: [(&str, Change); 4] = [
        ("another behind", |right| right.replacen(',', ",t=1700000000,", 1)),
        ("another in front", |right| format!("t=1700000000,{right}")),
        ("at the end", |right| format!("{right},t=1700000000")),
        ("the same twice", |right| format!("{},{right}", right.split(',').next().unwrap())),
    ];
    for (what, change) in cases {
        let event = hook.event();
        gate.refuses(what, &event, hook.resigned(&event, change).bytes(), MALFORMED);
    }
}

#[test]
fn a21_header_names_are_alike_in_any_case() {
    let gate = GATE.enter();
    for (hook, name) in [
        (github(), "X-HUB-SIGNATURE-256"),
        (github(), "x-hub-signature-256"),
        (stripe(), "sTRIPE-sIGNATURE"),
        (standard(), "WebHook-Signature"),
        (slack(), "X-SLACK-Signature"),
    ] {
        let event = hook.event();
        let value = event.headers.get(hook.header()).unwrap().to_owned();
        gate.delivers(name, &event.without(hook.header()).with(name, &value));
    }
}

#[test]
fn a22_a_folded_signature_is_a_framing_error() {
    let gate = GATE.enter();
    let hook = github();
    for fold in ["\r\n ", "\r\n\t"] {
        let event = hook.event();
        let folded = hook.resigned(&event, |right| format!("{}{fold}{}", &right[..20], &right[20..]));
        gate.refuses("folded", &event, folded.bytes(), FRAMING);
    }
}

#[test]
fn a23_an_underscore_makes_another_name_that_goes_nowhere() {
    let gate = GATE.enter();
    let hook = github();
    let event = hook.event();
    let value = event.headers.get(hook.header()).unwrap().to_owned();
    let renamed = event.clone().without(hook.header()).with("x_hub_signature_256", &value);
    gate.expect("underscores alone", renamed.bytes(), MISSING);
    let seen = gate.delivers("beside the real one", &event.with("x_hub_signature_256", "sha256=forged"));
    assert_eq!(seen.headers.all("x_hub_signature_256"), [] as [&str; 0]);
    assert_eq!(seen.header("x-hub-signature-256"), Some(value.as_str()));
}

#[test]
fn a24_a_signature_is_read_in_its_header_alone() {
    let gate = GATE.enter();
    let hook = github();
    let event = hook.event();
    let name = hook.header();
    let value = event.headers.get(name).unwrap().to_owned();
    let unsigned = event.clone().without(name);
    gate.expect("query", unsigned.clone().to(&format!("/hooks/gh?{name}={value}")).bytes(), MISSING);
    gate.expect("cookie", unsigned.clone().with("Cookie", &format!("{name}={value}")).bytes(), MISSING);
    let chunked = unsigned.head(&format!("Transfer-Encoding: chunked\r\nTrailer: {name}\r\n"));
    let body = String::from_utf8(unsigned.chunks(1000)).unwrap();
    let trailer = body.strip_suffix("\r\n").unwrap().to_owned() + &format!("{name}: {value}\r\n\r\n");
    gate.refuses("trailer", &event, chunked + &trailer, MISSING);
}

/// A start with this as GitHub's secret.
fn started_with(secret: &str, flags: &[&str]) -> Run {
    let builder = builder("http://127.0.0.1:1", ROUTES);
    builder.dir().write("github", secret);
    run(builder.command("check").args(flags))
}

#[test]
fn a25_an_empty_secret_is_no_start() {
    for secret in ["", "\n", "\r\n"] {
        let run = started_with(secret, &[]);
        assert_eq!(run.code, Some(78), "{secret:?}: {}", run.err);
        assert!(run.err.contains("empty"), "{secret:?}: {}", run.err);
    }
    // Standard Webhooks: a prefix and nothing behind it.
    let builder = builder("http://127.0.0.1:1", ROUTES);
    builder.dir().write("s1", "whsec_");
    builder.dir().write("s0", "whsec_");
    let run = run(&mut builder.command("check"));
    assert_eq!(run.code, Some(78), "{}", run.err);
}

#[test]
fn a26_a_short_secret_must_be_allowed_explicitly() {
    for secret in ["fifteen bytes..", "hunter2"] {
        let run = started_with(secret, &[]);
        assert_eq!(run.code, Some(78), "{}", run.err);
        assert!(run.err.contains("--insecure-short-secret") && !run.err.contains(secret), "{}", run.err);
        let run = started_with(secret, &["--insecure-short-secret"]);
        assert_eq!(run.code, Some(0), "{}", run.err);
    }
    assert_eq!(started_with("sixteen bytes...", &[]).code, Some(0));
}

#[test]
fn a27_no_guessable_text_is_a_key() {
    let gate = GATE.enter();
    let path = gate.gate.dir.join("github");
    for key in
        ["", "${GITHUB_SECRET}", "$GITHUB_SECRET", "changeme", "github", path.to_str().unwrap(), "null"]
    {
        let event = github().event();
        let attack = github().resigned(&event, |_| format!("sha256={}", hex_tag(key, &event.body)));
        gate.refuses(key, &event, attack.bytes(), MISMATCH);
    }
}

#[test]
fn a28_a_secret_is_used_as_its_provider_means_it() {
    let gate = GATE.enter();
    let event = standard().event();
    let part = |name| event.headers.get(name).unwrap().as_bytes();
    let content = [part("webhook-id"), b".", part("webhook-timestamp"), b".", &event.body].concat();
    for text in [S1, S1.trim_start_matches("whsec_")] {
        let tag = BASE64.encode(&hmac(Algorithm::HmacSha256, text.as_bytes(), &content));
        let attack = set(&event, "webhook-signature", &format!("v1,{tag}"));
        gate.expect("the text instead of what it encodes", attack.bytes(), MISMATCH);
    }
    gate.delivers("decoded", &event);
}

#[test]
fn a29_a_previous_secret_is_good_until_it_is_removed() {
    let fixture = Fixture::new();
    let old = Hook::new("standard-webhooks", "/hooks/std", S0);
    let seen = fixture.delivers("the previous one", &old.event());
    assert_eq!(seen.header("Hookgate-Key-Id"), Some("S0"));
    assert_eq!(fixture.delivers("the new one", &standard().event()).header("Hookgate-Key-Id"), Some("S1"));
    let without = ROUTES.replace(", { id: S0, file: DIR/s0 }", "");
    fixture
        .gate
        .dir
        .write("hookgate.yaml", without.replace("DIR", fixture.gate.dir.path().to_str().unwrap()));
    fixture.gate.signal("HUP");
    until("the reload", || {
        fixture.gate.metrics().sum("hookgate_reloads_total", &[("result", "success")]) > 0.0
    });
    fixture.expect("removed", old.event().bytes(), MISMATCH);
    fixture.delivers("the one that is left", &standard().event());
}

#[test]
fn a30_the_secret_of_another_route_opens_nothing_here() {
    let gate = GATE.enter();
    for secret in [S1, STRIPE, SLACK, SHOPIFY] {
        let attack = Hook::new("github", "/hooks/gh", secret).event();
        gate.expect("another route's secret", attack.bytes(), MISMATCH);
    }
    let event = github().event();
    gate.expect("sent to another route", event.clone().to("/hooks/st").bytes(), MISSING);
    gate.delivers("sent where it belongs", &event);
}

/// The catalogue asks for a warning at the start about a shared secret; the gate gives none.
/// What it promises holds: the route is part of an event's identity.
#[test]
fn a31_a_shared_secret_opens_both_routes_and_each_remembers_for_itself() {
    let gate = GATE.enter();
    let event = github().event();
    let one = gate.delivers("its own route", &event);
    let two = gate.delivers("the twin", &event.clone().to("/hooks/twin"));
    let key = "Hookgate-Idempotency-Key";
    assert_ne!(one.header(key), two.header(key));
    gate.remembers("its own route", &event);
    gate.remembers("the twin", &event.to("/hooks/twin"));
}

#[test]
fn a34_a_line_end_that_was_signed_must_be_sent() {
    let gate = GATE.enter();
    let event = github().event();
    for end in ["\n", "\r\n", " "] {
        let signed = [&event.body[..], end.as_bytes()].concat();
        let attack = github().resigned(&event, |_| format!("sha256={}", hex_tag(GITHUB, &signed)));
        gate.expect("signed and not sent", attack.bytes(), MISMATCH);
        let attack = Request { body: signed, ..event.clone() };
        gate.expect("sent and not signed", attack.bytes(), MISMATCH);
    }
    gate.delivers("as it was signed", &event);
}

#[test]
fn a35_an_empty_body_is_a_body() {
    let gate = GATE.enter();
    let event = standard().sign_at(now_ms(), &unique("msg"), b"");
    gate.delivers("nothing", &event);
    gate.remembers("nothing", &event);
}

#[test]
fn a36_the_last_bit_of_the_longest_body_is_covered() {
    let gate = GATE.enter();
    let mut body = unique("body").into_bytes();
    body.resize(1 << 20, b'x');
    let event = github().sign(&body);
    let mut attack = event.clone();
    *attack.body.last_mut().unwrap() ^= 1;
    gate.refuses("the last bit", &event, attack.bytes(), MISMATCH);
}

#[test]
fn a37_an_id_cannot_move_the_border_to_the_time() {
    let gate = GATE.enter();
    let time = (now_ms() / 1000).to_string();
    let id = unique("msg");
    let event = standard_signed(&id, &time, b"{}");
    // `a.1` and `2` sign the same bytes as `a` and `1.2`.
    let (head, tail) = time.split_at(5);
    for (id, time) in [(format!("{id}.{head}"), tail), (format!("{id}.x"), &time)] {
        gate.expect(&id, standard_signed(&id, time, b"{}").bytes(), MALFORMED);
    }
    let moved = set(
        &set(&event, "webhook-id", &id[..id.len() - 1]),
        "webhook-timestamp",
        &format!("{}.{time}", &id[id.len() - 1..]),
    );
    gate.refuses("moved the other way", &event, moved.bytes(), MALFORMED);
}

#[test]
fn a38_nothing_is_smuggled_into_slacks_time() {
    let gate = GATE.enter();
    let time = now_ms() / 1000;
    for smuggled in [format!("{time}:x"), format!("{time}:"), format!(":{time}"), format!("{time}\t1")] {
        gate.expect(&smuggled, slack_signed(&smuggled, b"{}").bytes(), MALFORMED);
    }
    // A line end is no part of a header's value in the first place.
    for smuggled in [format!("{time}\n1"), format!("{time}\r1")] {
        gate.expect(&smuggled, slack_signed(&smuggled, b"{}").bytes(), FRAMING);
    }
}

/// Control characters are no part of a header's value, so most of them end at the framing,
/// with 400 where the catalogue has 401.
#[test]
fn a40_an_id_is_short_and_plain() {
    let gate = GATE.enter();
    let time = (now_ms() / 1000).to_string();
    let sign = |id: &str| standard_signed(id, &time, b"{}").bytes();
    for id in
        ["x".repeat(10 * 1024), "x".repeat(257), "a\tb".to_owned(), "m\u{fc}ll".to_owned(), String::new()]
    {
        gate.expect(&id, sign(&id), MALFORMED);
    }
    for id in ["a\u{1}b", "a\u{0}b", "a\u{7f}b", "a\u{1b}[31m"] {
        gate.expect(id, sign(id), FRAMING);
    }
    gate.delivers("the longest", &standard_signed(&format!("{:x<256}", unique("msg")), &time, b"{}"));
}
