//! The only reader of time. Everything else is handed a [`Now`], so that the gate's
//! judgement is a function of its inputs and tests need not sleep.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::Datelike;

/// One reading of both clocks, taken together.
///
/// `wall` judges freshness, because a sender's timestamp is wall time. `mono` measures
/// everything that is remembered (leases, windows, rates), because the wall clock may be
/// set back and an event must not be forgotten or revived by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Time since the process first asked; never goes back.
    pub mono: Duration,
    pub doubt: Doubt,
}

/// Names one run of the machine; zeros if nobody can say.
pub type BootId = [u8; 16];

/// A reading that can be compared after a restart: the machine's own clock goes on while no gate
/// runs and nobody sets it, but it ends with the machine's run.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub now: Now,
    pub boot: BootId,
    /// Milliseconds since the machine started.
    pub uptime_ms: i64,
}

/// Whether the wall clock can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    None,
    /// It jumped against the monotonic clock, by which it would be this time.
    Jumped {
        otherwise_ms: i64,
    },
    /// It stands before this program was written.
    Unset,
}

/// No clock that is set shows an earlier time than this: 2026-01-01.
const WRITTEN_MS: i64 = 1_767_225_600_000;
/// Smaller differences are the clock being disciplined.
const STEADY_MS: i64 = 1000;
/// After so long the wall clock is believed again, jump or not.
const FORGIVE: Duration = Duration::from_secs(600);

/// Wall time minus monotonic time, as last believed.
static OFFSET: AtomicI64 = AtomicI64::new(i64::MIN);
/// When a jump was first seen, in monotonic milliseconds; zero if there is none.
static JUMPED_AT: AtomicU64 = AtomicU64::new(0);

/// Reads both clocks.
pub fn now() -> Now {
    let (wall_ms, mono) = read();
    Now { wall_ms, mono, doubt: doubt(wall_ms, mono, believed(wall_ms, mono)) }
}

/// Reads all three clocks.
pub fn stamp() -> Stamp {
    static BOOT: OnceLock<BootId> = OnceLock::new();
    let uptime = rustix::time::clock_gettime(UPTIME);
    Stamp {
        now: now(),
        boot: *BOOT.get_or_init(boot_id),
        uptime_ms: uptime.tv_sec * 1000 + uptime.tv_nsec / 1_000_000,
    }
}

#[cfg(target_os = "linux")]
const UPTIME: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const UPTIME: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// A UUID that the kernel draws when it starts.
fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex = text.trim().replace('-', "");
    let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap_or_default();
    decoded.try_into().unwrap_or_default()
}

/// The time now, as far as the monotonic clock tells it: of one delivery the wall clock is read once.
pub fn after(then: Now) -> Now {
    let mono = mono();
    let passed = millis(mono.saturating_sub(then.mono));
    let doubt = match then.doubt {
        Doubt::Jumped { otherwise_ms } => Doubt::Jumped { otherwise_ms: otherwise_ms + passed },
        doubt => doubt,
    };
    Now { wall_ms: then.wall_ms + passed, mono, doubt }
}

/// How long ago that was.
pub fn since(then: Now) -> Duration {
    mono().saturating_sub(then.mono)
}

/// Follows the wall clock: small changes at once, a jump when it has lasted. Called every
/// second. Tells when a jump is seen for the first time, and by how many milliseconds.
pub fn follow() -> Option<i64> {
    let (wall_ms, mono) = read();
    let offset = believed(wall_ms, mono);
    let jump = wall_ms - millis(mono) - offset;
    let mono_ms = u64::try_from(mono.as_millis()).unwrap_or(u64::MAX).max(1);
    let since = JUMPED_AT.load(Ordering::Relaxed);
    let lasted = since != 0 && Duration::from_millis(mono_ms - since.min(mono_ms)) >= FORGIVE;
    if jump.abs() < STEADY_MS || lasted {
        OFFSET.store(offset + jump, Ordering::Relaxed);
        JUMPED_AT.store(0, Ordering::Relaxed);
        return None;
    }
    let first = JUMPED_AT.compare_exchange(0, mono_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    first.then_some(jump)
}

#[expect(clippy::disallowed_methods, reason = "this module owns the clocks")]
fn read() -> (i64, Duration) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (millis(since_epoch), mono())
}

fn mono() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The offset that was last believed; the first reading is.
fn believed(wall_ms: i64, mono: Duration) -> i64 {
    let first = wall_ms - millis(mono);
    match OFFSET.compare_exchange(i64::MIN, first, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => first,
        Err(offset) => offset,
    }
}

fn doubt(wall_ms: i64, mono: Duration, offset: i64) -> Doubt {
    let otherwise_ms = offset + millis(mono);
    if wall_ms < WRITTEN_MS {
        Doubt::Unset
    } else if (wall_ms - otherwise_ms).abs() < STEADY_MS {
        Doubt::None
    } else {
        Doubt::Jumped { otherwise_ms }
    }
}

/// Whole milliseconds; what is longer than can be counted is as long as can be.
pub fn millis(duration: Duration) -> i64 {
    // `as_millis` divides 128 bits, which takes longer than to read a clock.
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1000).saturating_add(duration.subsec_millis().into())
}

impl Now {
    /// A reading for tests: `wall` in seconds since the epoch, `mono` in seconds since start.
    pub const fn at(wall: i64, mono: u64) -> Self {
        Now { wall_ms: wall * 1000, mono: Duration::from_secs(mono), doubt: Doubt::None }
    }
}

/// Milliseconds since the epoch as RFC 3339 in UTC, with a fraction where there is one.
pub fn to_rfc3339(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    write_rfc3339(&mut text, ms);
    String::from_utf8(text).unwrap_or_default()
}

/// The same into what is there. It stands in every delivery, where libraries write it through `fmt`.
pub fn write_rfc3339(out: &mut Vec<u8>, ms: i64) {
    const DAY: i64 = 86_400_000;
    let Some(date) = date(ms.div_euclid(DAY)) else {
        let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
        return out.extend(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true).into_bytes());
    };
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[..10].copy_from_slice(&date);
    let ms = u32::try_from(ms.rem_euclid(DAY)).unwrap_or_default();
    let (seconds, millis) = (ms / 1000, ms % 1000);
    write_two(&mut text, 11, seconds / 3600);
    write_two(&mut text, 14, seconds / 60 % 60);
    write_two(&mut text, 17, seconds % 60);
    write_two(&mut text, 20, millis / 10);
    text[22] += u8::try_from(millis % 10).unwrap_or_default();
    if millis == 0 {
        text[19] = b'Z';
    }
    out.extend_from_slice(&text[..if millis == 0 { 20 } else { 24 }]);
}

/// The date of a day since the epoch, if its year has four digits. Nearly all times are of one day, which is
/// written once.
fn date(day: i64) -> Option<[u8; 10]> {
    thread_local! {
        static LAST: Cell<(i64, [u8; 10])> = const { Cell::new((i64::MIN, [0; 10])) };
    }
    let (last, date) = LAST.get();
    if last == day {
        return Some(date);
    }
    let time = chrono::DateTime::from_timestamp(day.checked_mul(86_400)?, 0)?;
    let year = u32::try_from(time.year()).ok().filter(|year| *year < 10_000)?;
    let mut date = *b"0000-00-00";
    write_two(&mut date, 0, year / 100);
    write_two(&mut date, 2, year % 100);
    write_two(&mut date, 5, time.month());
    write_two(&mut date, 8, time.day());
    LAST.set((day, date));
    Some(date)
}

/// A number below a hundred into two zeros.
fn write_two(text: &mut [u8], at: usize, number: u32) {
    text[at] += u8::try_from(number / 10).unwrap_or_default();
    text[at + 1] += u8::try_from(number % 10).unwrap_or_default();
}

/// The time now, as the `Date` of an answer (RFC 9110, section 5.6.7).
#[expect(clippy::disallowed_methods, reason = "this module owns the clocks")]
pub fn http_date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_jump_is_doubted_and_discipline_is_not() {
        let at = |wall_ms, mono| doubt(wall_ms, Duration::from_secs(mono), WRITTEN_MS);
        assert_eq!(at(WRITTEN_MS + 60_000, 60), Doubt::None);
        assert_eq!(at(WRITTEN_MS + 60_900, 60), Doubt::None);
        let otherwise_ms = WRITTEN_MS + 60_000;
        assert_eq!(at(WRITTEN_MS + 62_000, 60), Doubt::Jumped { otherwise_ms });
        assert_eq!(at(WRITTEN_MS + 1000, 60), Doubt::Jumped { otherwise_ms });
        assert_eq!(at(1000, 60), Doubt::Unset);
    }

    #[test]
    fn a_time_is_written_as_chrono_writes_it() {
        const DAY: i64 = 86_400_000;
        let written = |ms| {
            let time = chrono::DateTime::from_timestamp_millis(ms).unwrap();
            (to_rfc3339(ms), time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        };
        for year in [-1, 0, 1, 1969, 1970, 2000, 2024, 2026, 2100, 9999, 10_000] {
            for ms in [
                0,
                1,
                9,
                10,
                999,
                1000,
                59_999,
                86_399_999,
                31 * DAY,
                58 * DAY,
                59 * DAY,
                60 * DAY,
                364 * DAY,
            ] {
                let begins =
                    chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap();
                let (ours, theirs) = written(begins.and_utc().timestamp_millis() + ms);
                assert_eq!(ours, theirs);
            }
        }
        assert_eq!(to_rfc3339(1_767_225_600_070), "2026-01-01T00:00:00.070Z");
    }

    #[test]
    fn the_time_since_the_machine_started_goes_on() {
        let (first, then) = (stamp(), stamp());
        assert_eq!(first.boot, then.boot);
        assert!(first.uptime_ms > 0 && then.uptime_ms >= first.uptime_ms);
        assert_eq!(Path::new("/proc/sys/kernel/random/boot_id").exists(), first.boot != BootId::default());
    }

    #[test]
    fn the_machine_that_runs_this_has_a_clock() {
        assert_eq!(now().doubt, Doubt::None);
        assert_eq!(follow(), None);
    }
}
