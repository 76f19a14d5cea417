//! The statistics of `benches/timing.rs` can fail: a planted leak is found.

#[allow(dead_code, reason = "the bench uses the rest")]
#[path = "../../benches/dudect/mod.rs"]
mod dudect;

use std::hint::black_box;

use dudect::{LIMIT, Samples, welch};

use crate::rng::{self, Rng};

#[test]
fn welchs_t_is_what_a_textbook_says() {
    // Means 2 and 4, both with the error 1/√3: t = -2 / √(2/3).
    let t = welch(&[1.0, 2.0, 3.0], &[3.0, 4.0, 5.0]);
    assert!((t + 6f64.sqrt()).abs() < 1e-9, "{t}");
    assert!(welch(&[1.0, 2.0], &[1.0, 2.0]).abs() < 1e-9);
    assert!(welch(&[1.0, 1.0], &[1.0, 1.0]).abs() < 1e-9, "nothing varies");
}

#[test]
fn a_difference_under_rare_long_interruptions_is_found() {
    let mut rng = Rng::new(1);
    let mut samples = Samples([Vec::new(), Vec::new()]);
    for n in 0..20_000 {
        let interruption = if rng.chance(2) { 1e6 * f64::from(u32::from(rng.byte())) } else { 0.0 };
        let time = 100.0 + f64::from(u32::from(rng.byte() % 16)) + interruption;
        samples.0[n % 2].push(time + if n % 2 == 1 { 2.0 } else { 0.0 });
    }
    assert!(welch(&samples.0[0], &samples.0[1]).abs() < LIMIT, "the interruptions hide it");
    assert!(samples.t() < -LIMIT, "{}", samples.t());
}

#[test]
fn equal_times_make_no_finding() {
    let mut rng = Rng::new(2);
    let mut samples = Samples([Vec::new(), Vec::new()]);
    for n in 0..20_000 {
        samples.0[n % 2].push(100.0 + f64::from(u32::from(rng.byte())));
    }
    assert!(samples.t().abs() < LIMIT, "{}", samples.t());
}

#[test]
fn a_comparison_that_stops_at_the_first_difference_is_found_out() {
    let right = [7u8; 64];
    let mut half = right;
    half[32..].fill(9);
    let forged = [[9u8; 64], half];
    let naive = |a: &[u8], b: &[u8]| {
        for (a, b) in a.iter().zip(b) {
            if black_box(*a) != black_box(*b) {
                return false;
            }
        }
        true
    };
    let samples = Samples::take(
        40_000,
        &mut Rng::new(3),
        |kind, _| forged[kind],
        |forged| {
            black_box(naive(black_box(&right), black_box(forged)));
        },
    );
    assert!(samples.t().abs() > LIMIT, "t = {}", samples.t());
}
