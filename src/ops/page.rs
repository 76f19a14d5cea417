//! The page for people: all that there is to see of the gate, in one answer that needs no
//! other. It works without script. Whatever stands in it was escaped on its way in, and the
//! browser is told to run nothing and load nothing but what the program brought along.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::sync::LazyLock;
use std::time::Duration;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use super::inbox::Outlook;
use super::report::{Objection, Report, RouteReport, is_answered};
use crate::clock::Now;
use crate::clock::to_rfc3339;
use crate::gate::reason::{Reason, Verdict};
use crate::gate::rotation::{Advice, DAY_MS, KeyLife};
use crate::proxy::live::Live;
use crate::telemetry::activity::{Decision, MINUTES};
use crate::telemetry::metrics::RouteMetrics;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The `Content-Security-Policy` of the page: our style and our script, by their digests, and
/// asking the gate again.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| BASE64.encode(&Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
});

/// What the page shows.
pub struct Page {
    pub now: Now,
    /// Conditions of readiness, and whether they hold.
    pub readiness: Vec<(&'static str, bool)>,
    pub routes: Vec<RouteView>,
    /// Newest first.
    pub decisions: Vec<Decision>,
}

pub struct RouteView {
    report: RouteReport,
    keys: Vec<(KeyLife, Option<i64>)>,
    /// Oldest first.
    minutes: [Vec<(Verdict, Reason, u32)>; MINUTES],
    /// Seconds; zero while all is as expected.
    silence: f64,
    expect_every: Option<Duration>,
    /// Of what is in the inbox.
    outlook: Option<Outlook>,
}

impl RouteView {
    pub fn all(
        live: &Live,
        report: Report,
        mut outlook: BTreeMap<String, Outlook>,
        now: Now,
    ) -> Vec<RouteView> {
        let view = |(report, (route, metrics)): (RouteReport, (_, &RouteMetrics))| {
            let route: &crate::gate::route::Route = route;
            let keys = route.rotation.keys().iter();
            RouteView {
                outlook: outlook.remove(&report.route),
                report,
                keys: keys.map(|key| (key.clone(), metrics.last_match_ms(&key.id))).collect(),
                minutes: metrics.activity.counts().last_minutes(now),
                silence: metrics.silence(),
                expect_every: route.expect_every,
            }
        };
        report.routes.into_iter().zip(live.routes()).map(view).collect()
    }
}

/// Anything, so that a browser takes it for text and a reader for what it is.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

        impl Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    '&' => self.0.write_str("&amp;"),
                    '<' => self.0.write_str("&lt;"),
                    '>' => self.0.write_str("&gt;"),
                    '"' => self.0.write_str("&quot;"),
                    '\'' => self.0.write_str("&#39;"),
                    c if misleads(c) => write!(self.0, "\\u{:04x}", u32::from(c)),
                    c => self.0.write_char(c),
                })
            }
        }

        write!(Escaping(f), "{}", self.0)
    }
}

/// Controls, and what turns the direction of writing or cannot be seen.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl Page {
    pub fn html(&self) -> String {
        let mut html = String::with_capacity(32 * 1024);
        // Writing to memory does not fail.
        _ = self.write(&mut html);
        html
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let ready = self.readiness.iter().all(|(_, fine)| *fine);
        writeln!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{} – hookgate</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<div id=\"live\">",
            if ready { "Ready" } else { "Not ready" }
        )?;
        self.header(out, ready)?;
        out.push_str("<main>\n");
        for route in &self.routes {
            route.write(out, self.now)?;
        }
        self.decisions(out)?;
        write!(
            out,
            "</main>\n</div>\n<footer>\n<p><a href=\"/report\">report</a><a href=\"/metrics\">metrics</a>\
             <a href=\"/readyz?verbose\">readiness</a><a href=\"/version\">version</a></p>\n\
             <p id=\"refresh\">Loaded anew every ten seconds.</p>\n</footer>\n\
             <script>{SCRIPT}</script>\n</body>\n</html>\n"
        )
    }

    fn header(&self, out: &mut String, ready: bool) -> fmt::Result {
        let (class, word) = if ready { ("good", "ready") } else { ("bad", "not ready") };
        writeln!(out, "<header>\n<h1>hookgate</h1>\n<p class=\"state {class}\">{word}</p>")?;
        for (name, fine) in &self.readiness {
            if !fine {
                writeln!(out, "<p class=\"bad\">not: {}</p>", Text(name))?;
            }
        }
        writeln!(
            out,
            "<p class=\"faint\">version {} <span class=\"spare\">(revision {})</span></p>\n\
             <p class=\"faint\">as of {} UTC, up for {}</p>\n</header>",
            Text(env!("CARGO_PKG_VERSION")),
            Text(env!("HOOKGATE_REVISION")),
            clock_time(self.now.wall_ms),
            span(self.now.mono)
        )
    }

    fn decisions(&self, out: &mut String) -> fmt::Result {
        out.push_str("<section class=\"card\" id=\"decisions\">\n<div class=\"title\"><h2>Recent decisions</h2></div>\n");
        if self.decisions.is_empty() {
            out.push_str("<p class=\"faint\">None yet.</p>\n</section>\n");
            return Ok(());
        }
        out.push_str(
            "<table>\n<thead><tr><th scope=\"col\">when</th><th scope=\"col\">route</th><th scope=\"col\">reason</th>\
             <th scope=\"col\" class=\"number\">status</th><th scope=\"col\" class=\"number spare\">took</th>\
             <th scope=\"col\" class=\"spare\">key</th><th scope=\"col\" class=\"spare\">event</th></tr></thead>\n<tbody>\n",
        );
        for decision in &self.decisions {
            let verdict = decision.verdict.label();
            let reason = decision.reason.label();
            let said = if verdict == reason { String::new() } else { format!("{verdict}: ") };
            writeln!(
                out,
                "<tr><td><time datetime=\"{}\">{}</time></td><td>{}</td><td class=\"free {verdict}\">{said}{reason}</td>\
                 <td class=\"number\">{}</td><td class=\"number spare\">{}</td><td class=\"spare\">{}</td>\
                 <td class=\"code spare\">{}</td></tr>",
                to_rfc3339(decision.wall_ms),
                clock_time(decision.wall_ms),
                Text(decision.route.as_deref().unwrap_or("–")),
                decision.status,
                milliseconds(decision.took),
                Text(decision.key_id.as_deref().unwrap_or_default()),
                Text(&decision.event()),
            )?;
        }
        out.push_str("</tbody>\n</table>\n</section>\n");
        Ok(())
    }
}

impl RouteView {
    fn write(&self, out: &mut String, now: Now) -> fmt::Result {
        let report = &self.report;
        writeln!(
            out,
            "<section class=\"card\">\n<div class=\"title\"><h2>{}</h2><code>{}</code><span>{}</span>\
             <span class=\"state {}\">{}s</span></div>",
            Text(&report.route),
            Text(&report.path),
            Text(&report.provider),
            if report.safe_to_enforce.is_some() { "observed" } else { "good" },
            Text(&report.mode),
        )?;
        self.notes(out, now)?;
        out.push_str("<div class=\"columns\">\n<div>\n");
        self.last_minutes(out)?;
        self.keys(out, now)?;
        out.push_str("</div>\n<div>\n");
        self.checks(out)?;
        out.push_str("</div>\n</div>\n</section>\n");
        Ok(())
    }

    fn notes(&self, out: &mut String, now: Now) -> fmt::Result {
        if self.silence > 0.0 {
            let lasts = span(Duration::try_from_secs_f64(self.silence).unwrap_or_default());
            let expected = span(self.expect_every.unwrap_or_default());
            writeln!(
                out,
                "<p class=\"note bad\">Silent: nothing was accepted for {lasts}, and an event is expected every {expected}.</p>"
            )?;
        }
        if let Some(inbox) = &self.report.inbox {
            let class = if inbox.dead + inbox.damaged > 0 || inbox.waits { "bad" } else { "good" };
            writeln!(out, "<p class=\"note {class}\">Inbox: {}.</p>", Text(&inbox.in_words()))?;
        }
        if let Some(outlook) = &self.outlook {
            outlook.write(out, now)?;
        }
        if let Some(safe) = self.report.safe_to_enforce {
            let class = if safe { "good" } else { "observed" };
            writeln!(out, "<p class=\"note {class}\">{}</p>", Text(&self.report.verdict))?;
        }
        Ok(())
    }

    /// A chart, and the same in numbers.
    fn last_minutes(&self, out: &mut String) -> fmt::Result {
        const HEIGHT: u64 = 60;
        const WIDTH: usize = 20;

        let count = |minute: &[(Verdict, Reason, u32)], wanted: Option<Verdict>| -> u64 {
            let fits = |verdict: Verdict| wanted.is_none_or(|wanted| wanted == verdict);
            minute.iter().filter(|(verdict, ..)| fits(*verdict)).map(|(.., n)| u64::from(*n)).sum()
        };
        let most = self.minutes.iter().map(|minute| count(minute, None)).max().unwrap_or_default();
        writeln!(
            out,
            "<h3>Last {MINUTES} minutes</h3>\n<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"Deliveries by minute, at most {most}\">",
            MINUTES * WIDTH,
            HEIGHT + 1
        )?;
        for (n, minute) in self.minutes.iter().enumerate() {
            let x = n * WIDTH + 2;
            write!(out, "<g><title>{} min ago:", MINUTES - 1 - n)?;
            for (_, reason, count) in minute {
                write!(out, " {count} {}", reason.label())?;
            }
            write!(
                out,
                "</title><rect class=\"base\" x=\"{x}\" y=\"{HEIGHT}\" width=\"{}\" height=\"1\"/>",
                WIDTH - 4
            )?;
            let mut below = 0;
            for verdict in Verdict::ALL {
                let count = count(minute, Some(verdict));
                if count > 0 {
                    // Rounded so that the stack is as high as the sum, and nothing is too low to see.
                    let top = ((below + count) * HEIGHT).div_ceil(most);
                    let bottom = (below * HEIGHT).div_ceil(most);
                    write!(
                        out,
                        "<rect class=\"{}\" x=\"{x}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                        verdict.label(),
                        HEIGHT - top,
                        WIDTH - 4,
                        (top - bottom).max(1)
                    )?;
                    below += count;
                }
            }
            out.push_str("</g>\n");
        }
        writeln!(
            out,
            "</svg>\n<p class=\"axis\"><span>{} min ago</span><span>at most {most} a minute</span><span>now</span></p>",
            MINUTES - 1
        )?;
        self.sums(out)
    }

    fn sums(&self, out: &mut String) -> fmt::Result {
        let mut sums: Vec<(Verdict, Reason, u64)> = Vec::new();
        for (verdict, reason, count) in self.minutes.iter().flatten() {
            match sums.iter_mut().find(|(v, r, _)| (v, r) == (verdict, reason)) {
                Some((.., sum)) => *sum += u64::from(*count),
                None => sums.push((*verdict, *reason, u64::from(*count))),
            }
        }
        if sums.is_empty() {
            out.push_str("<p class=\"faint\">Nothing came.</p>\n");
            return Ok(());
        }
        sums.sort_by_key(|(_, _, sum)| std::cmp::Reverse(*sum));
        out.push_str("<table>\n<tbody>\n");
        for (verdict, reason, sum) in sums {
            let (verdict, reason) = (verdict.label(), reason.label());
            let said = if verdict == reason { String::new() } else { format!("{verdict}: ") };
            writeln!(
                out,
                "<tr><td class=\"{verdict}\">{said}{reason}</td><td class=\"number\">{sum}</td></tr>"
            )?;
        }
        out.push_str("</tbody>\n</table>\n");
        Ok(())
    }

    fn keys(&self, out: &mut String, now: Now) -> fmt::Result {
        out.push_str(
            "<h3>Keys, newest first</h3>\n<table>\n<thead><tr><th scope=\"col\">id</th><th scope=\"col\">last match</th>\
             <th scope=\"col\">end</th></tr></thead>\n<tbody>\n",
        );
        for (key, last_match_ms) in &self.keys {
            write!(out, "<tr><td class=\"code\">{}</td><td>", Text(&key.id))?;
            match last_match_ms {
                Some(ms) => write!(out, "<time datetime=\"{}\">{}</time>", to_rfc3339(*ms), ago(*ms, now))?,
                None => out.push_str("<span class=\"faint\">never</span>"),
            }
            out.push_str("</td><td>");
            match (key.not_after_ms, Advice::of_end(key, now)) {
                (None, _) => out.push_str("<span class=\"faint\">none</span>"),
                (Some(end), Some(Advice::Ended)) => {
                    write!(out, "<span class=\"bad\">ended {}</span>", date(end))?;
                }
                (Some(end), advice) => {
                    let class = if advice.is_some() { "refused" } else { "whole" };
                    let days = (end - now.wall_ms).max(0) / DAY_MS;
                    write!(out, "<span class=\"{class}\">{}, in {days} days</span>", date(end))?;
                }
            }
            out.push_str("</td></tr>\n");
        }
        out.push_str("</tbody>\n</table>\n");
        Ok(())
    }

    fn checks(&self, out: &mut String) -> fmt::Result {
        let report = &self.report;
        let observes = report.safe_to_enforce.is_some();
        writeln!(
            out,
            "<h3>Checks since <time>{}</time></h3>\n<table>\n<thead><tr><th scope=\"col\">check</th>\
             <th scope=\"col\">demands</th><th scope=\"col\" class=\"number\">{}</th></tr></thead>\n<tbody>",
            Text(report.since.replace('T', " ").trim_end_matches('Z')),
            if observes { "would refuse" } else { "refused" }
        )?;
        for check in &report.checks {
            let class = if check.in_force { "" } else { " class=\"off\"" };
            let count = check.refused + check.would_refuse;
            write!(
                out,
                "<tr{class}><td>{}</td><td class=\"free\">{}",
                Text(&check.check),
                Text(&check.demands)
            )?;
            for objection in &check.reasons {
                let class = match objection {
                    _ if is_answered(&objection.reason) => Verdict::Answered,
                    Objection { would_refuse: 1.., .. } => Verdict::Observed,
                    Objection { .. } => Verdict::Refused,
                };
                let class = class.label();
                let count = objection.refused + objection.would_refuse;
                write!(out, "<br><span class=\"{class}\">{count} {}</span>", Text(&objection.reason))?;
            }
            if check.in_force || count > 0 {
                writeln!(out, "</td><td class=\"number\">{count}</td></tr>")?;
            } else {
                out.push_str("</td><td></td></tr>\n");
            }
        }
        writeln!(
            out,
            "<tr><td>passed</td><td class=\"faint\">of {} seen</td><td class=\"number accepted\">{}</td></tr>\n</tbody>\n</table>",
            report.seen, report.accepted
        )
    }
}

impl Outlook {
    fn write(&self, out: &mut String, now: Now) -> fmt::Result {
        if self.paused {
            let told = "Held back by an operator, until hookgate inbox resume --route NAME.";
            writeln!(out, "<p class=\"note bad\">{told}</p>")?;
        }
        if let Some(next_ms) = self.next_ms {
            let until = Duration::from_millis(u64::try_from(next_ms - now.wall_ms).unwrap_or_default());
            writeln!(
                out,
                "<p class=\"faint\">Next attempt: <time datetime=\"{}\">{}</time>, in {}.</p>",
                to_rfc3339(next_ms),
                clock_time(next_ms),
                span(until)
            )?;
        }
        if self.dead.is_empty() {
            return Ok(());
        }
        out.push_str(
            "<table>\n<thead><tr><th scope=\"col\">given up</th><th scope=\"col\">came</th>\
             <th scope=\"col\" class=\"number\">attempts</th><th scope=\"col\">last answer</th></tr></thead>\n<tbody>\n",
        );
        for event in self.dead.iter().rev() {
            let key = event.key.to_string();
            writeln!(
                out,
                "<tr><td class=\"code\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"bad\">{}</td></tr>",
                Text(event.event_id.as_deref().unwrap_or(&key)),
                ago(event.received_ms, now),
                event.attempts,
                Text(event.last_outcome.as_deref().unwrap_or("none"))
            )?;
        }
        out.push_str("</tbody>\n</table>\n");
        Ok(())
    }
}

/// `03:18:00`, in UTC.
fn clock_time(ms: i64) -> String {
    let text = to_rfc3339(ms);
    text.split_once('T').and_then(|(_, time)| time.get(..8)).unwrap_or_default().to_owned()
}

fn date(ms: i64) -> String {
    to_rfc3339(ms).split('T').next().unwrap_or_default().to_owned()
}

fn ago(ms: i64, now: Now) -> String {
    let ms = u64::try_from(now.wall_ms - ms).unwrap_or_default();
    format!("{} ago", span(Duration::from_millis(ms)))
}

/// In the greatest unit that fits.
fn span(span: Duration) -> String {
    match span.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::filter::replay::ReplayKey;
    use crate::inbox::state::State;
    use crate::inbox::{Id, Listed};
    use crate::ops::report::{Check, Objection};

    const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{202e}\u{0}<img src=x onerror=1>";

    fn page(text: &str) -> Page {
        let now = Now::at(1_800_000_000, 3600);
        let objection = Objection {
            reason: text.to_owned(),
            refused: 1,
            would_refuse: 2,
            first: text.to_owned(),
            last: text.to_owned(),
        };
        let check = Check {
            check: text.to_owned(),
            demands: text.to_owned(),
            in_force: true,
            refused: 1,
            would_refuse: 2,
            reasons: vec![objection],
        };
        let report = RouteReport {
            route: text.to_owned(),
            provider: text.to_owned(),
            path: text.to_owned(),
            mode: text.to_owned(),
            since: text.to_owned(),
            seen: 3,
            accepted: 0,
            last_accepted: None,
            refused: 1,
            would_refuse: 2,
            safe_to_enforce: Some(false),
            verdict: text.to_owned(),
            sender: None,
            inbox: None,
            checks: vec![check],
        };
        let key = |end| KeyLife { id: text.into(), not_after_ms: end };
        let ends = [None, Some(now.wall_ms - 1), Some(now.wall_ms + DAY_MS), Some(now.wall_ms + 90 * DAY_MS)];
        let mut minutes: [Vec<_>; MINUTES] = Default::default();
        minutes[3] =
            vec![(Verdict::Accepted, Reason::Accepted, 1000), (Verdict::Failed, Reason::UpstreamFailed, 1)];
        let route = RouteView {
            report,
            keys: ends.map(|end| (key(end), end)).to_vec(),
            minutes,
            silence: 90.0,
            expect_every: Some(Duration::from_secs(60)),
            outlook: Some(Outlook {
                next_ms: Some(now.wall_ms + 5000),
                paused: true,
                dead: vec![Listed {
                    id: Id::default(),
                    key: ReplayKey::from_bytes([7; 16]),
                    route: text.to_owned(),
                    tenant: None,
                    state: State::Dead,
                    event_id: Some(text.to_owned()),
                    event_type: None,
                    received_ms: now.wall_ms - 5000,
                    attempts: 3,
                    next_attempt_ms: None,
                    last_outcome: Some(text.to_owned()),
                    bytes: 700,
                }],
            }),
        };
        let decision = Decision {
            wall_ms: now.wall_ms,
            route: Some(text.into()),
            verdict: Verdict::Accepted,
            reason: Reason::Accepted,
            status: 200,
            took: Duration::from_micros(1234),
            key_id: Some(text.into()),
            event_id: Some(text.into()),
        };
        Page { now, readiness: vec![("started", false)], routes: vec![route], decisions: vec![decision] }
    }

    #[test]
    fn nothing_in_it_is_taken_for_markup() {
        let (plain, hostile) = (page("text").html(), page(HOSTILE).html());
        let tags = |html: &str| -> Vec<String> {
            html.split('<').skip(1).map(|tag| tag.split(['>', ' ']).next().unwrap().to_owned()).collect()
        };
        assert_eq!(tags(&plain), tags(&hostile), "the same elements, whatever the text");
        assert!(!hostile.contains(['\u{202e}', '\u{0}']), "and nothing that misleads a reader");
        let shown =
            "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u202e\\u0000&lt;img src=x onerror=1&gt;";
        let places: usize =
            ["text</", "texts</", "text<br>"].iter().map(|place| plain.matches(place).count()).sum();
        assert!(hostile.contains(">&lt;script&gt;alert(1)…</td>"), "the beginning of the event's id");
        assert_eq!(hostile.matches(shown).count(), places - 1, "everywhere else it is shown as it is");
    }

    #[test]
    fn every_element_is_closed() {
        let html = page("x").html();
        for tag in [
            "html", "head", "body", "div", "main", "section", "table", "tbody", "tr", "td", "svg", "g",
            "span", "p",
        ] {
            let opened =
                html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn the_policy_names_what_the_page_brings() {
        let html = page("x").html();
        for (tag, text) in [("style", STYLE), ("script", SCRIPT)] {
            assert!(html.contains(&format!("<{tag}>{text}</{tag}>")));
            assert!(!text.contains("</"), "{tag} cannot end early");
            let digest = BASE64.encode(&Sha256::digest(text));
            assert!(POLICY.contains(&format!("{tag}-src 'sha256-{digest}'")));
        }
        assert!(!POLICY.contains("unsafe"));
        assert!(!html.contains(" style=") && !html.contains(" on"), "nothing that the policy forbids");
    }

    #[test]
    fn what_is_rare_is_seen_beside_what_is_frequent() {
        let html = page("x").html();
        assert!(
            html.contains("<rect class=\"failed\" x=\"62\" y=\"0\" width=\"16\" height=\"1\"/>"),
            "{html}"
        );
    }
}
