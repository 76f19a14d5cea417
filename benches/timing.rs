//! Whether the time that a verification takes tells how much of a forged tag is right.
//!
//! `cargo bench --bench timing`; `HOOKGATE_TIMING_SAMPLES` sets how many samples it takes.
//! It fails if |t| is beyond 4.5. On a busy machine that is worth a second look, and on a
//! quiet one it is a finding.

#![allow(clippy::unwrap_used)]

mod dudect;
#[allow(dead_code, reason = "a part of it")]
#[path = "../tests/support/pure.rs"]
mod pure;
#[allow(dead_code, reason = "a part of it")]
#[path = "../tests/support/rng.rs"]
mod rng;

use std::hint::black_box;
use std::process::ExitCode;

use dudect::{LIMIT, Samples};
use hookgate::gate::filter::signature::{Presented, Signature};
use http::{HeaderMap, HeaderValue};
use pure::Delivery;
use rng::{Rng, given};

const SAMPLES: usize = 1_000_000;
const KEY: &[u8] = b"a key that is not guessed byte by byte";
const BODY: &[u8] = b"{\"id\":\"evt_1\",\"type\":\"user.created\"}";

/// What is compared: a code that is computed, or a credential as it stands.
const CREDENTIALS: [(&str, &str); 2] = [
    (
        "tag",
        "{ algorithm: hmac-sha256, signature: { from: 'header:x-signature', encoding: hex }, content: '{body}' }",
    ),
    ("token", "{ algorithm: token, signature: { from: 'header:x-signature', encoding: hex } }"),
];

fn main() -> ExitCode {
    let samples = given("HOOKGATE_TIMING_SAMPLES").map_or(SAMPLES, |n| usize::try_from(n).unwrap());
    let mut rng = Rng::new(0x7169);
    let mut found = false;
    for (what, words) in CREDENTIALS {
        let recipe = pure::recipe(words);
        let mut mac = recipe.algorithm.keyed(KEY).expect("a shared key");
        mac.update(BODY);
        let right = if what == "token" { KEY.to_vec() } else { mac.finish().as_bytes().to_vec() };
        let signature = pure::signature(&recipe, &[KEY]);
        let delivery = Delivery::new(HeaderMap::new(), BODY);

        // The first comparison is of like with like: it shows what the machine itself does.
        for equal in [0, 1, 16, right.len() - 1] {
            let make =
                |kind: usize, rng: &mut Rng| present(&signature, &forge(&right, [0, equal][kind], rng));
            let samples = Samples::take(samples, &mut rng, make, |presented| {
                let verified =
                    signature
                        .verify(black_box(presented), "route", &delivery.head(), &delivery.body, |_| true);
                black_box(verified.is_ok());
            });
            let (t, [none, some]) = (samples.t(), samples.means());
            let all = right.len();
            println!(
                "{what}: {equal:2} of {all} bytes right: t = {t:+.2} (no byte {none:.0} ns, some {some:.0} ns)"
            );
            found |= t.abs() > LIMIT;
        }
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A tag whose first bytes are right and whose others are all wrong.
fn forge(right: &[u8], equal: usize, rng: &mut Rng) -> Vec<u8> {
    let wrong = |byte: &u8, rng: &mut Rng| byte ^ (1 + rng.byte() % 255);
    right.iter().enumerate().map(|(n, byte)| if n < equal { *byte } else { wrong(byte, rng) }).collect()
}

fn present(signature: &Signature, tag: &[u8]) -> Presented {
    let mut headers = HeaderMap::new();
    let text = data_encoding::HEXLOWER.encode(tag);
    headers.insert("x-signature", HeaderValue::from_str(&text).unwrap());
    signature.presented(&Delivery::new(headers, BODY).head()).unwrap()
}
