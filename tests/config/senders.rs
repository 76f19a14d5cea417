//! What is known of the senders of the presets, and what follows from it.

use hookgate::config::provider;
use hookgate::config::raw::{Preset, Retries, Stamp};
use hookgate::config::scheme::compile;
use hookgate::gate::reason::{Answers, Reason};

fn presets() -> impl Iterator<Item = (&'static str, Preset)> {
    provider::PRESETS.iter().map(|(name, _)| (*name, provider::preset(name).unwrap()))
}

#[test]
fn no_retry_is_stale_by_the_time_of_the_event() {
    for (name, preset) in presets() {
        let Some(sender) = &preset.sender else { continue };
        if sender.stamp != Some(Stamp::Event) || sender.retries == Some(Retries::None) {
            continue;
        }
        let span = sender.span.unwrap_or_else(|| panic!("{name}: for how long does it retry?")).0;
        for scheme in &preset.schemes {
            let recipe = compile(scheme, None, None).unwrap();
            let Some(rule) = &recipe.timestamp else { continue };
            assert!(rule.tolerance >= span, "{name}: the last retry comes after {span:?}");
        }
    }
}

#[test]
fn what_is_to_come_again_gets_a_status_after_which_it_does() {
    let failures = [
        Reason::InFlight,
        Reason::StoreUnavailable,
        Reason::UpstreamFailed,
        Reason::UpstreamTimeout,
        Reason::UpstreamUnreachable,
    ];
    let mut changed = 0;
    for (name, preset) in presets() {
        let Some(sender) = &preset.sender else { continue };
        let answers = Answers { last: sender.final_statuses(), ..Answers::default() };
        for reason in failures {
            let status = answers.to(reason).status;
            changed += usize::from(status != reason.status());
            // Whoever never repeats may be told anything.
            let repeats = sender.retries != Some(Retries::None);
            assert!(!repeats || !answers.last.contains(&status), "{name}: {status} is final");
        }
    }
    assert!(changed > 0, "no sender wants another status than the usual one");
}

#[test]
fn facts_have_sources() {
    for (name, preset) in presets() {
        if let Some(sender) = &preset.sender {
            assert!(!sender.source.is_empty(), "{name}: where do the facts come from?");
            assert!(
                sender.retries.is_some() || sender.schedule.is_none(),
                "{name}: a schedule of no retries"
            );
        }
        if let Some(identity) = &preset.identity {
            assert!(identity.because.len() > 20, "{name}: why?");
        }
    }
}

/// What stops a replay is what the preset's `identity` says, and a route shows it to its operator.
#[test]
fn a_preset_that_remembers_nothing_does_not_promise_that_its_memory_stops_a_replay() {
    for (name, preset) in presets() {
        let Some(identity) = &preset.identity else { continue };
        let notes = preset.notes.clone().unwrap_or_default();
        assert!(!notes.contains("by the replay window alone"), "{name} goes by {}: {notes}", identity.by);
    }
}
