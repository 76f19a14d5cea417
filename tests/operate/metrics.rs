//! What operators see: every series is there from the start, none is made by a strange
//! request, and neither metrics nor log tell what they must not.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::prometheus::Prometheus;
use crate::rng::{Rng, given};
use crate::support::gate::{Metrics, program, same};
use crate::support::sender::SECRET;
use crate::support::{self, Answer, App, Gate, Latch, Signer, until};

const TWO_ROUTES: &str = "
routes:
  - { name: one, path: /one, provider: github, secrets: [{ id: a, file: DIR/key-1 }] }
  - { name: two, path: /two, provider: stripe, secrets: [{ id: b, file: DIR/key-1 }] }
";

/// The contract's table: each reason and the verdict it leads to.
const REASONS: [(&str, &str); 29] = [
    ("accepted", "accepted"),
    ("upstream_status", "failed"),
    ("stored", "stored"),
    ("filtered", "answered"),
    ("handshake", "answered"),
    ("framing_invalid", "refused"),
    ("route_unmatched", "refused"),
    ("method_not_allowed", "refused"),
    ("https_required", "refused"),
    ("address_denied", "refused"),
    ("rate_limited", "refused"),
    ("handshake_refused", "refused"),
    ("headers_too_large", "refused"),
    ("body_too_large", "refused"),
    ("body_timeout", "refused"),
    ("signature_missing", "refused"),
    ("signature_malformed", "refused"),
    ("signature_mismatch", "refused"),
    ("timestamp_missing", "refused"),
    ("timestamp_stale", "refused"),
    ("timestamp_future", "refused"),
    ("body_malformed", "refused"),
    ("duplicate", "answered"),
    ("in_flight", "refused"),
    ("overloaded", "refused"),
    ("store_unavailable", "failed"),
    ("upstream_unreachable", "failed"),
    ("upstream_failed", "failed"),
    ("upstream_timeout", "failed"),
];

/// The contract's names, with their types.
const NAMES: [(&str, &str); 45] = [
    ("hookgate_requests_total", "counter"),
    ("hookgate_request_duration_seconds", "histogram"),
    ("hookgate_verify_duration_seconds", "histogram"),
    ("hookgate_upstream_duration_seconds", "histogram"),
    ("hookgate_upstream_responses_total", "counter"),
    ("hookgate_event_age_seconds", "histogram"),
    ("hookgate_key_matches_total", "counter"),
    ("hookgate_last_accepted_timestamp_seconds", "gauge"),
    ("hookgate_duplicates_of_other_deliveries_total", "counter"),
    ("hookgate_requests_in_flight", "gauge"),
    ("hookgate_deliveries_waiting", "gauge"),
    ("hookgate_buffered_body_bytes", "gauge"),
    ("hookgate_connections", "gauge"),
    ("hookgate_connections_dropped_total", "counter"),
    ("hookgate_accept_failures_total", "counter"),
    ("hookgate_replay_store_failures_total", "counter"),
    ("hookgate_replay_entries", "gauge"),
    ("hookgate_replay_capacity", "gauge"),
    ("hookgate_replay_store_up", "gauge"),
    ("hookgate_replay_evictions_total", "counter"),
    ("hookgate_reloads_total", "counter"),
    ("hookgate_last_reload_successful", "gauge"),
    ("hookgate_last_reload_success_timestamp_seconds", "gauge"),
    ("hookgate_restart_pending", "gauge"),
    ("hookgate_inbox_events", "gauge"),
    ("hookgate_inbox_bytes", "gauge"),
    ("hookgate_inbox_oldest_seconds", "gauge"),
    ("hookgate_inbox_stored_total", "counter"),
    ("hookgate_inbox_attempts_total", "counter"),
    ("hookgate_inbox_dead_total", "counter"),
    ("hookgate_inbox_write_seconds", "histogram"),
    ("hookgate_refused_kept_total", "counter"),
    ("hookgate_refused_dropped_total", "counter"),
    ("hookgate_refused_deliveries_total", "counter"),
    ("hookgate_refused_requests", "gauge"),
    ("hookgate_refused_bytes", "gauge"),
    ("hookgate_ready", "gauge"),
    ("hookgate_draining", "gauge"),
    ("hookgate_panics_total", "counter"),
    ("hookgate_log_events_dropped_total", "counter"),
    ("hookgate_build_info", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
];

#[test]
fn every_reason_of_every_route_exists_from_the_start() {
    let app = App::ok();
    let gate = Gate::before(&app).config(TWO_ROUTES).start();
    let metrics = gate.metrics();
    let requests: Vec<_> =
        metrics.0.keys().filter(|series| series.starts_with("hookgate_requests_total{")).collect();
    for (route, provider) in [("one", "github"), ("two", "stripe")] {
        for (reason, verdict) in REASONS {
            let series = format!(
                "hookgate_requests_total{{provider=\"{provider}\",reason=\"{reason}\",route=\"{route}\",verdict=\"{verdict}\"}}"
            );
            assert!(same(metrics.value(&series), 0.0), "{series}");
            let others = requests.iter().filter(|series| {
                series.contains(&format!("route=\"{route}\""))
                    && series.contains(&format!("reason=\"{reason}\""))
                    && !series.contains("verdict=\"observed\"")
            });
            assert_eq!(others.count(), 1, "{reason} has one verdict");
        }
    }
    let known: HashSet<_> = REASONS.iter().map(|(reason, _)| *reason).collect();
    for series in requests {
        let reason = series.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(known.contains(reason), "{reason} is not in the contract");
    }
    for outcome in ["2xx", "3xx", "4xx", "5xx", "connect_error", "timeout", "broken"] {
        let series = format!("hookgate_upstream_responses_total{{outcome=\"{outcome}\",route=\"one\"}}");
        assert!(same(metrics.value(&series), 0.0), "{series}");
    }
    for name in ["matches_total", "last_match_timestamp_seconds"] {
        assert!(same(metrics.value(&format!("hookgate_key_{name}{{key_id=\"b\",route=\"two\"}}")), 0.0));
    }
}

#[test]
fn every_metric_of_the_contract_is_exposed_with_its_type() {
    let app = App::ok();
    let gate = Gate::before(&app).start();
    let answer = gate.ops("/metrics");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for (name, kind) in NAMES {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is a {kind}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is explained");
    }
    let ours = text.lines().filter_map(|line| line.strip_prefix("# TYPE hookgate_"));
    for name in ours.map(|line| line.split(' ').next().unwrap()) {
        let name = format!("hookgate_{name}");
        // Beyond the contract, for dashboards, silence, secrets, the rotation of keys and the replay file.
        let extra = [
            "hookgate_secrets_missing",
            "hookgate_silence_seconds",
            "hookgate_route_observing",
            "hookgate_route_never_repeated",
            "hookgate_key_last_match_timestamp_seconds",
            "hookgate_replay_file_errors_total",
            "hookgate_inbox_parked",
            "hookgate_inbox_max_bytes",
            "hookgate_inbox_refused_total",
            "hookgate_inbox_write_failures_total",
            "hookgate_inbox_set_aside",
            "hookgate_inbox_dead_dropped",
            // Only where a route has tenants.
            "hookgate_tenant_lookups_total",
            "hookgate_tenant_stale_keys_total",
            "hookgate_tenants_cached",
            "hookgate_tenant_source_up",
        ];
        let extra = extra.contains(&name.as_str());
        assert!(extra || NAMES.iter().any(|(known, _)| *known == name), "{name} is in the contract");
    }
    let metrics = gate.metrics();
    for (gauge, value) in [
        ("hookgate_ready", 1.0),
        ("hookgate_draining", 0.0),
        ("hookgate_last_reload_successful", 1.0),
        ("hookgate_replay_capacity", 1_000_000.0),
        ("hookgate_replay_entries", 0.0),
        ("hookgate_panics_total", 0.0),
    ] {
        assert!(same(metrics.value(gauge), value), "{gauge} is {}", metrics.value(gauge));
    }
}

#[test]
fn promtool_has_no_complaints() {
    let Some(promtool) = program("promtool") else {
        eprintln!("SKIPPED: promtool is not on PATH");
        return;
    };
    let app = App::ok();
    let gate = Gate::before(&app).start();
    gate.send(&Signer::github().event());
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(&gate.ops("/metrics").body).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn what_happens_is_counted_once() {
    let app =
        App::script([Answer::ok(), Answer::status(500), Answer::status(404), Answer::raw("").then_close()]);
    let gate = Gate::before(&app).start();
    let signer = Signer::github();
    let event = signer.event();
    for request in [
        event.clone(),                                // accepted
        event.clone(),                                // duplicate
        event.clone().tampered(),                     // signature_mismatch
        event.clone().without("x-hub-signature-256"), // signature_missing
        event.clone().to("/elsewhere"),               // route_unmatched
        signer.event(),                               // upstream_status: the application's 500
        signer.event(),                               // upstream_status: the application's 404
        signer.event(),                               // upstream_failed
    ] {
        let answer = gate.send(&request);
        gate.decision(&answer); // the metrics are written before the log line
    }
    let metrics = gate.metrics();
    for (reason, count) in [
        ("accepted", 1.0),
        ("upstream_status", 2.0),
        ("duplicate", 1.0),
        ("signature_mismatch", 1.0),
        ("signature_missing", 1.0),
        ("route_unmatched", 1.0),
        ("upstream_failed", 1.0),
    ] {
        assert!(same(metrics.requests(reason), count), "{reason}: {}", metrics.requests(reason));
    }
    assert!(same(metrics.sum("hookgate_requests_total", &[]), 8.0));
    for (outcome, count) in [("2xx", 1.0), ("5xx", 1.0), ("4xx", 1.0), ("broken", 1.0), ("timeout", 0.0)] {
        let counted = metrics.sum("hookgate_upstream_responses_total", &[("outcome", outcome)]);
        assert!(same(counted, count), "{outcome}: {counted}");
    }
    assert!(same(metrics.sum("hookgate_key_matches_total", &[("key_id", "key-1")]), 5.0));
    assert!(same(metrics.sum("hookgate_request_duration_seconds_count", &[("route", "default")]), 7.0));
    assert!(same(metrics.sum("hookgate_upstream_duration_seconds_count", &[("route", "default")]), 4.0));
    assert!(same(metrics.value("hookgate_replay_entries"), 1.0), "only what was delivered is remembered");
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
    let now = support::sender::now_ms() as f64 / 1000.0;
    let accepted = metrics.sum("hookgate_last_accepted_timestamp_seconds", &[("route", "default")]);
    assert!((now - accepted).abs() < 60.0, "{accepted} is about now");
    until("nothing to be under way", || same(gate.metrics().value("hookgate_requests_in_flight"), 0.0));
}

const STRANGE_REQUESTS: usize = 100_000;
const SENDERS: usize = 4;

#[test]
fn strange_requests_make_no_series() {
    let app = App::ok();
    let gate = Gate::before(&app)
        .config(TWO_ROUTES)
        .with("failure-limit", "off")
        .with("replay-capacity", 2 * STRANGE_REQUESTS)
        .start();
    let prometheus = Prometheus::of(&gate);
    gate.send(&Signer::github().event().to("/one"));
    let names = |metrics: &Metrics| metrics.0.keys().cloned().collect::<Vec<_>>();
    let before = names(&gate.metrics());
    let seed = given("HOOKGATE_STRANGE_SEED").unwrap_or_else(|| support::sender::now_ms().unsigned_abs());
    println!("HOOKGATE_STRANGE_SEED={seed}");
    let mut rng = Rng::new(seed);
    std::thread::scope(|scope| {
        for mut rng in (0..SENDERS).map(|_| rng.fork()) {
            let gate = &gate;
            scope.spawn(move || {
                let signers = (Signer::github(), Signer::stripe());
                let mut sender = gate.connect();
                for _ in 0..STRANGE_REQUESTS / SENDERS {
                    sender.send(strange(&mut rng, &signers));
                    let kept = sender.try_response().is_ok_and(|a| a.header("Connection") != Some("close"));
                    if !kept {
                        sender = gate.connect();
                    }
                }
            });
        }
    });
    let metrics = gate.metrics();
    assert_eq!(names(&metrics), before);
    #[expect(clippy::cast_precision_loss, reason = "small enough")]
    let sent = STRANGE_REQUESTS as f64;
    assert!(metrics.sum("hookgate_requests_total", &[]) >= sent, "all of them were counted");
    for reason in
        ["accepted", "signature_mismatch", "signature_malformed", "route_unmatched", "framing_invalid"]
    {
        assert!(metrics.requests(reason) > sent / 100.0, "{reason}: {}", metrics.requests(reason));
    }
    // What Prometheus has to keep did not grow either.
    if let Some(prometheus) = prometheus {
        let over_time =
            |how: &str| prometheus.value(&format!("{how}_over_time(scrape_samples_scraped[10m])"));
        until("some scrapes", || prometheus.value("count_over_time(up[10m])").is_some_and(|n| n > 2.0));
        let (least, most) = (over_time("min").unwrap(), over_time("max").unwrap());
        assert!(same(least, most), "from {least} to {most} samples");
    }
}

/// A request that no provider sends, or one with words in it that nobody expects.
fn strange(rng: &mut Rng, (github, stripe): &(Signer, Signer)) -> Vec<u8> {
    let word = format!("{:x}", rng.next());
    let github = github.sign(word.as_bytes()).to("/one").with("X-GitHub-Event", &word);
    let stripe = stripe.sign(format!("{{\"id\":\"{word}\",\"type\":\"{word}\"}}")).to("/two");
    let request = match rng.below(8) {
        0 => {
            let visible = |_| rng.byte() | 0x21;
            return (0..200).map(visible).chain(*b"\r\n\r\n").collect();
        }
        1 => return format!("X{word} /one HTTP/1.1\r\nHost: {word}\r\nContent-Length: 0\r\n\r\n").into(),
        2 => github.to(&format!("/{word}/{word}?{word}={word}")),
        3 => github,
        4 => stripe,
        5 => github.tampered().with(&format!("X-{word}"), &word).with("X-Forwarded-For", &word),
        6 => stripe.without("stripe-signature").with("Stripe-Signature", &format!("t=1,v1=00,{word}={word}")),
        _ => github.with("User-Agent", &word).with("traceparent", &word).with("Hookgate-Route", &word),
    };
    request.bytes()
}

#[test]
fn a_log_line_has_the_contracts_keys_and_no_secrets() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "stripe").start();
    let signer = Signer::stripe();
    let canaries = ["query-canary", "bearer-canary", "cookie-canary", "body-canary", SECRET];
    let sign = || {
        let now = support::sender::now_ms();
        let id = support::sender::unique("evt");
        let body = serde_json::json!({ "id": id, "type": "invoice.paid", "note": "body-canary" });
        signer
            .sign_at(now, &id, body.to_string().as_bytes())
            .to("/webhooks?token=query-canary")
            .with("Authorization", "Bearer bearer-canary")
            .with("Cookie", "session=cookie-canary")
            .with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    };
    let event = sign();
    let answer = gate.send(&event);
    assert_eq!(answer.status, 200);
    let line = gate.decision(&answer);
    let id = serde_json::from_slice::<serde_json::Value>(&event.body).unwrap()["id"].clone();
    for (key, value) in [
        ("severity_text", "INFO".into()),
        ("event.name", "hookgate.decision".into()),
        ("http.request.method", "POST".into()),
        ("url.path", "/webhooks".into()),
        ("http.response.status_code", 200.into()),
        ("http.request.body.size", event.body.len().into()),
        ("client.address", "127.0.0.1".into()),
        ("network.peer.address", "127.0.0.1".into()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
        ("hookgate.request_id", answer.header("Hookgate-Request-Id").unwrap().into()),
        ("hookgate.route", "default".into()),
        ("hookgate.provider", "stripe".into()),
        ("hookgate.verdict", "accepted".into()),
        ("hookgate.reason", "accepted".into()),
        ("hookgate.key_id", "key-1".into()),
        ("hookgate.event.id", id),
        ("hookgate.event.type", "invoice.paid".into()),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    for key in ["timestamp", "hookgate.event.time"] {
        assert!(line[key].as_str().is_some_and(|time| time.ends_with('Z')), "{key}: {}", line[key]);
    }
    for key in ["total_ms", "verify_ms", "upstream_ms"] {
        assert!(line[format!("hookgate.duration.{key}")].is_number(), "{key}: {line}");
    }

    let forged = gate.send(&event.clone().tampered());
    let line = gate.decision(&forged);
    for key in ["hookgate.key_id", "hookgate.event.id", "hookgate.event.type", "hookgate.event.time"] {
        assert!(line[key].is_null(), "{key} is not known before the signature holds");
    }
    gate.decision(&gate.send(&event));
    let signature = event.headers.get("stripe-signature").unwrap().split("v1=").nth(1).unwrap().to_owned();
    let told = gate.log.text() + &gate.ops("/metrics").text();
    for canary in canaries.into_iter().chain([signature.as_str(), &signature[..16]]) {
        assert!(!told.contains(canary), "{canary} was told");
    }
}

#[test]
fn no_request_can_write_a_second_log_line() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "stripe").start();
    let now = support::sender::now_ms();
    let body =
        serde_json::json!({ "id": "a\r\n{\"event.name\":\"forged\"}\u{2028}\u{1b}[31m", "type": "\"" });
    let answer = gate.send(&Signer::stripe().sign_at(now, "x", body.to_string().as_bytes()));
    gate.decision(&answer);
    let long = gate.send(&Signer::stripe().event().to(&format!("/{}", "x".repeat(5000))));
    assert!(gate.decision(&long)["url.path"].as_str().unwrap().len() <= 256);
    let text = gate.log.text();
    assert_eq!(gate.log.count(|line| line["event.name"] == "hookgate.decision"), 2, "{text}");
    assert!(!text.contains(['\u{1b}', '\u{2028}']), "{text:?}");
}

#[test]
fn gauges_follow_what_is_held() {
    let latch = Latch::default();
    let app = App::always(Answer::ok().when(&latch));
    let gate = Gate::before(&app).start();
    let event = Signer::github().event();
    let mut sender = gate.connect();
    sender.send(event.bytes());
    app.wait_for(1);
    let metrics = gate.metrics();
    #[expect(clippy::cast_precision_loss, reason = "a short body")]
    let length = event.body.len() as f64;
    assert!(same(metrics.value("hookgate_buffered_body_bytes"), length));
    assert!(same(metrics.value("hookgate_connections"), 1.0));
    assert!(same(metrics.value("hookgate_requests_in_flight"), 2.0), "the request and its delivery");
    latch.open();
    assert_eq!(sender.response().status, 200);
    drop(sender);
    for gauge in ["hookgate_buffered_body_bytes", "hookgate_connections", "hookgate_requests_in_flight"] {
        gate.wait_for_metric(gauge, 0.0);
    }
}

#[test]
fn the_age_of_an_event_is_measured_where_a_time_is_signed() {
    let app = App::ok();
    let gate = Gate::before(&app).with("provider", "stripe").start();
    let aged = gate.send(&Signer::stripe().event_aged(Duration::from_secs(200)));
    assert_eq!(aged.status, 200);
    gate.decision(&aged);
    let metrics = gate.metrics();
    assert!(same(metrics.sum("hookgate_event_age_seconds_count", &[]), 1.0));
    let sum = metrics.sum("hookgate_event_age_seconds_sum", &[]);
    assert!((199.0..260.0).contains(&sum), "{sum}");
}

#[test]
fn a_mismatch_is_looked_into_and_the_operator_told_why() {
    let app = App::ok();
    // On a route that only observes the operator needs it most.
    for (mode, status) in [("enforce", 401), ("observe", 200)] {
        let gate = Gate::before(&app).with("mode", mode).start();
        let mut event = Signer::github().event();
        event.body.push(b'\n');
        assert_eq!(gate.send(&event).status, status, "{mode}");
        let told = gate.log.find("hints", |line| line["event.name"] == "hookgate.hints");
        assert!(told["hookgate.hints"].as_str().unwrap().contains("a newline was added"), "{told}");
        assert_eq!(told["hookgate.route"], "default");
    }
}
