//! Whether two kinds of input take different time: Welch's t-test over interleaved
//! samples, as dudect proposed it (Reparaz, Balasch, Verbauwhede, 2017).

use std::time::Instant;

use super::rng::Rng;

/// Beyond this, the two kinds differ for certain enough to worry.
pub const LIMIT: f64 = 4.5;

/// Interrupts only ever make a sample longer, so the shortest part of the samples often shows
/// what the whole hides. All parts are looked at.
const PARTS: [f64; 6] = [1.0, 0.99, 0.95, 0.9, 0.75, 0.5];

/// Nanoseconds that an operation took with each of the two kinds of input.
pub struct Samples(pub [Vec<f64>; 2]);

impl Samples {
    /// Runs the operation with an input of the one kind or the other, as chance decides. Each
    /// is made anew, in the same place, so that no place in memory stands for a kind.
    pub fn take<T>(
        count: usize,
        rng: &mut Rng,
        mut make: impl FnMut(usize, &mut Rng) -> T,
        operation: impl Fn(&T),
    ) -> Self {
        let mut samples = [Vec::with_capacity(count), Vec::with_capacity(count)];
        for _ in 0..count {
            let kind = rng.below(2);
            let input = make(kind, rng);
            let started = Instant::now();
            operation(&input);
            samples[kind].push(started.elapsed().as_secs_f64() * 1e9);
        }
        Samples(samples)
    }

    pub fn means(&self) -> [f64; 2] {
        [mean(&self.0[0]), mean(&self.0[1])]
    }

    /// The t of the part that shows the greatest difference.
    pub fn t(&self) -> f64 {
        let mut all = self.0.concat();
        all.sort_unstable_by(f64::total_cmp);
        let of_part = |part: f64| {
            let longest = all[index(all.len(), part)];
            let [a, b] = [0, 1].map(|kind| {
                self.0[kind].iter().copied().filter(|sample| *sample <= longest).collect::<Vec<_>>()
            });
            welch(&a, &b)
        };
        PARTS.into_iter().map(of_part).max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
fn index(count: usize, part: f64) -> usize {
    (float(count - 1) * part) as usize
}

#[expect(clippy::cast_precision_loss, reason = "no list is that long")]
fn float(count: usize) -> f64 {
    count as f64
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / float(samples.len())
}

/// Welch's t of two samples; zero if they cannot be told apart at all.
pub fn welch(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let error = |samples: &[f64], mean: f64| {
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        squares / float(samples.len().saturating_sub(1)) / float(samples.len())
    };
    let error = (error(a, mean_a) + error(b, mean_b)).sqrt();
    if error > 0.0 { (mean_a - mean_b) / error } else { 0.0 }
}
