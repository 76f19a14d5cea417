//! Section 2.2: times that are almost right. What the catalogue refuses with 401 for its
//! age is 400 `Event too old` in the contract; what is no time at all is malformed, 401.

use std::time::Duration;

use super::fixture::*;
use crate::support::sender::{now_ms, unique};

static GATE: Shared = Shared::new(Fixture::new);

fn now() -> i64 {
    now_ms() / 1000
}

/// The signature holds over a time that is written like this, in every scheme.
fn malformed(gate: &Fixture, time: &str) {
    for (name, attack) in [
        ("std", standard_signed(&unique("msg"), time, b"{}")),
        ("st", stripe_signed(time, b"{}")),
        ("sl", slack_signed(time, b"{}")),
    ] {
        gate.expect(&format!("{name}, {time:?}"), attack.bytes(), MALFORMED);
    }
}

#[test]
fn a41_a_time_that_is_not_there_is_not_signed() {
    let gate = GATE.enter();
    for (hook, header) in [(standard(), "webhook-timestamp"), (slack(), "X-Slack-Request-Timestamp")] {
        let event = hook.event();
        gate.refuses(header, &event, event.clone().without(header).bytes(), MISSING);
    }
    let event = stripe().event();
    let attack = stripe().resigned(&event, |right| right.split_once(',').unwrap().1.to_owned());
    gate.refuses("no t", &event, attack.bytes(), MISSING);
    // Present and empty is no time.
    malformed(&gate, "");
}

/// The border to the second is tested with the freshness check itself; here a loaded
/// machine may need a few seconds from signing to judging.
#[test]
fn a42_what_is_older_than_the_tolerance_is_too_old() {
    let gate = GATE.enter();
    for hook in timed() {
        for age in [301, 3600, 10 * 365 * 24 * 3600] {
            gate.expect(&format!("{age} seconds old"), hook.aged(age).bytes(), STALE);
        }
        let event = hook.aged(290);
        gate.delivers("290 seconds old", &event);
        gate.remembers("290 seconds old", &event);
    }
}

#[test]
fn a43_what_is_further_ahead_than_the_tolerance_is_refused_as_well() {
    let gate = GATE.enter();
    for hook in timed() {
        for ahead in [330, 3600, 10 * 365 * 24 * 3600] {
            gate.expect(&format!("{ahead} seconds ahead"), hook.aged(-ahead).bytes(), FUTURE);
        }
        gate.delivers("299 seconds ahead", &hook.aged(-299));
    }
}

#[test]
fn a44_milliseconds_are_no_seconds() {
    let gate = GATE.enter();
    malformed(&gate, &now_ms().to_string());
    malformed(&gate, &format!("{}000000", now()));
}

/// A space around a header's value is not part of it (RFC 9110, section 5.5), so a space
/// is tried inside Stripe's header only.
#[test]
fn a45_only_plain_digits_are_a_time() {
    let gate = GATE.enter();
    let now = now();
    for time in [
        "-1".to_owned(),
        format!("-{now}"),
        format!("+{now}"),
        format!("{now}.5"),
        format!("{now}."),
        format!("{now}_"),
        "1e9".to_owned(),
        format!("0x{now:x}"),
        format!("0{now}"),
        format!("000{now}"),
        i64::MAX.to_string(),
        (1_u64 << 63).to_string(),
        u64::MAX.to_string(),
        "18446744073709551616".to_owned(),
        "9".repeat(40),
        "NaN".to_owned(),
        "now".to_owned(),
        "\u{0661}\u{0667}".to_owned(),
    ] {
        malformed(&gate, &time);
    }
    for time in
        [format!(" {now}"), format!("{now} "), format!("{now}\t"), format!("{} {}", now / 10, now % 10)]
    {
        gate.expect(&time, stripe_signed(&time, b"{}").bytes(), MALFORMED);
    }
    // Digits, and no time of ours.
    gate.expect("zero", stripe_signed("0", b"{}").bytes(), STALE);
    gate.expect("twelve digits", stripe_signed(&"9".repeat(12), b"{}").bytes(), FUTURE);
}

#[test]
fn a46_two_times_are_ambiguous() {
    let gate = GATE.enter();
    for (hook, header) in [(standard(), "webhook-timestamp"), (slack(), "X-Slack-Request-Timestamp")] {
        let event = hook.event();
        let time = event.headers.get(header).unwrap().to_owned();
        for second in [time, (now() - 9999).to_string()] {
            gate.expect(header, event.clone().with(header, &second).bytes(), MALFORMED);
        }
        gate.delivers("one time", &event);
    }
}

#[test]
fn a47_the_time_is_covered_by_the_signature() {
    let gate = GATE.enter();
    for (hook, header) in [(standard(), "webhook-timestamp"), (slack(), "X-Slack-Request-Timestamp")] {
        let old = hook.aged(600);
        gate.expect("an old one made new", set(&old, header, &now().to_string()).bytes(), MISMATCH);
        let event = hook.event();
        gate.refuses(header, &event, set(&event, header, &(now() - 5).to_string()).bytes(), MISMATCH);
    }
    let old = stripe().aged(600);
    let renewed =
        stripe().resigned(&old, |right| format!("t={},{}", now(), right.split_once(',').unwrap().1));
    gate.expect("Stripe's made new", renewed.bytes(), MISMATCH);
}

#[test]
fn a48_a_date_is_no_number_of_seconds() {
    let gate = GATE.enter();
    let date = hookgate::clock::to_rfc3339(now_ms());
    malformed(&gate, &date);
    malformed(&gate, "Mon, 23 Nov 2026 21:00:00 GMT");
}

/// Scaled down: a tolerance of two seconds instead of five minutes.
#[test]
fn a52_a_body_that_comes_too_late_is_judged_when_it_is_complete() {
    let tolerant = ROUTES.replace("provider: stripe,", "provider: stripe, tolerance: 2s,");
    let fixture = Fixture::configured(&tolerant, |builder| builder);
    let event = stripe().event();
    let mut sender = fixture.gate.connect();
    sender.send(event.head(&format!("Content-Length: {}\r\n", event.body.len())));
    std::thread::sleep(Duration::from_millis(3500));
    fixture.expect_on(&mut sender, "fresh at the head", &event.body, STALE);
    // The tolerance is the route's own.
    fixture.delivers("another route", &slack().aged(60));
}
