//! The law of the inbox, on the real program: whatever fails, is killed or loses its power, *a 2xx to the sender
//! means that the application said 2xx or that the event is durable*, and so each such event arrives in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::delivery::with_inbox;
use crate::disk;
use crate::rng::{Rng, given};
use crate::support::gate::same;
use crate::support::{Answer, App, Dir, Gate, LIMIT, Request, Sender, Signer, lock, until, within};

/// How often the application took each body.
type Taken = Arc<Mutex<BTreeMap<Vec<u8>, usize>>>;

/// An application that is sometimes well.
fn ailing(seed: u64, is_well: &Arc<AtomicBool>) -> (App, Taken) {
    let taken = Taken::default();
    let (book, is_well) = (Arc::clone(&taken), Arc::clone(is_well));
    let rng = Mutex::new(Rng::new(seed));
    let app = App::new(move |_, request| {
        let what = if is_well.load(Ordering::Relaxed) { 99 } else { lock(&rng).below(100) };
        let fine = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let late = Duration::from_millis(400);
        let (answer, is_taken) = match what {
            0..15 => (Answer::status(500), false),
            15..25 => (Answer::raw("HTTP/1.1 503 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"), false),
            25..35 => (Answer::reset(), false),
            35..40 => (Answer::raw("HTTP/1.1 nonsense\r\n\r\n").then_close(), false),
            40..45 => (fine.after(late), true),
            45..50 => (Answer::status(500).after(late), false),
            50..55 => (Answer::status(429), false),
            _ => (fine, true),
        };
        if is_taken {
            *lock(&book).entry(request.body.clone()).or_default() += 1;
        }
        answer
    });
    (app, taken)
}

const ROUTES: [&str; 2] = [
    "inbox: { on: failure, answer_within: 150ms, retry: { first: 50ms, max: 300ms }, dead_on: [] }",
    "inbox: { on: always, retry: { first: 50ms, max: 300ms }, dead_on: [] }",
];

/// Sends until the gate is gone or the time is over; what was acknowledged.
fn send(gate: &Gate, for_so_long: Duration, acknowledged: &Mutex<Vec<Request>>, asked: &AtomicUsize) {
    let until = Instant::now() + for_so_long;
    let address = gate.address();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(move || {
                // A gate that is gone takes no connection.
                if std::net::TcpStream::connect(address).is_err() {
                    return;
                }
                let mut sender = Sender::connect(address);
                while Instant::now() < until {
                    let event = Signer::github().event();
                    sender.send(event.bytes());
                    asked.fetch_add(1, Ordering::Relaxed);
                    match sender.try_response() {
                        Ok(answer) if (200..300).contains(&answer.status) => lock(acknowledged).push(event),
                        Ok(_) => {}
                        Err(_) => return, // it was killed
                    }
                }
            });
        }
    });
}

/// Starts again with an application that is well, and counts.
fn all_arrive(
    state: &Dir,
    app: &App,
    route: &str,
    taken: &Taken,
    acknowledged: &[Request],
    what: &str,
) -> usize {
    let gate = with_inbox(app, state, route).start();
    // Many kills leave many events, and a busy machine delivers some hundreds a second.
    let limit = LIMIT + Duration::from_secs(acknowledged.len() as u64 / 200);
    within(limit, &format!("{what}: the inbox is empty"), || {
        same(gate.metrics().sum("hookgate_inbox_events", &[("state", "stored")]), 0.0).then_some(())
    });
    assert!(
        same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0),
        "{what}: nothing is dead or damaged"
    );
    let taken = lock(taken);
    for event in acknowledged {
        let body = String::from_utf8_lossy(&event.body);
        assert!(taken.contains_key(&event.body), "{what}: acknowledged and lost: {body}");
    }
    taken.values().map(|times| times - 1).sum()
}

#[test]
fn what_was_acknowledged_arrives_whatever_is_killed() {
    let kills = given("HOOKGATE_TEST_KILLS").unwrap_or(8);
    let seed = given("HOOKGATE_TEST_SEED").unwrap_or(15);
    for route in ROUTES {
        let (state, is_well) = (Dir::new(), Arc::new(AtomicBool::new(false)));
        let (mut app, taken) = ailing(seed, &is_well);
        let mut rng = Rng::new(seed);
        let (acknowledged, asked) = (Mutex::default(), AtomicUsize::new(0));
        for kill in 0..kills {
            let gate = with_inbox(&app, &state, route).with("upstream-connect-timeout", "100ms").start();
            let alive = Duration::from_millis(rng.within(200..900) as u64);
            thread::scope(|scope| {
                scope.spawn(|| send(&gate, Duration::from_secs(5), &acknowledged, &asked));
                thread::sleep(alive);
                if kill % 3 == 1 {
                    app.stop();
                    thread::sleep(Duration::from_millis(150));
                    app.start();
                }
                gate.signal("KILL");
            });
        }
        is_well.store(true, Ordering::Relaxed);
        let acknowledged = acknowledged.into_inner().unwrap();
        let again = all_arrive(&state, &app, route, &taken, &acknowledged, &format!("seed {seed}, {route}"));
        let (of, asked) = (acknowledged.len(), asked.into_inner());
        println!("{route}: {kills} kills, {of} of {asked} acknowledged, {again} delivered again");
        assert!(of > 100, "much was acknowledged");
        // Under way at a kill are at most six live deliveries and what the courier had out.
        assert!(again as u64 <= kills * 22, "{again} were delivered more than once");
    }
}

/// The power goes in the midst of writing, and the disk has kept any part of what no sync confirmed; or it
/// fails, or is full for a while.
#[test]
fn what_was_acknowledged_arrives_whatever_the_disk_does() {
    let Some(library) = disk::library() else {
        eprintln!("not tried: there is no C compiler");
        return;
    };
    let runs = given("HOOKGATE_TEST_RUNS").unwrap_or(4);
    let seed = given("HOOKGATE_TEST_SEED").unwrap_or(15);
    let mut rng = Rng::new(seed);
    for (fault, route) in
        [("cut", ROUTES[0]), ("cut", ROUTES[1]), ("syncfail", ROUTES[1]), ("full", ROUTES[1])]
    {
        let (state, is_well) = (Dir::new(), Arc::new(AtomicBool::new(false)));
        let (app, taken) = ailing(seed, &is_well);
        let (acknowledged, asked) = (Mutex::default(), AtomicUsize::new(0));
        // A disk that is full at the start lets no gate start; that is no part of this.
        for _ in 0..if fault == "full" { 1 } else { runs } {
            let builder = with_inbox(&app, &state, route);
            let mut command = builder.command("run");
            command
                .env("LD_PRELOAD", library)
                .env("HOOKGATE_DISK", format!("{fault} {}", rng.within(30..600)));
            command.env("HOOKGATE_DISK_SEED", rng.next().to_string());
            let gate = builder.start_as(command);
            send(&gate, Duration::from_millis(1200), &acknowledged, &asked);
            gate.signal("KILL");
        }
        is_well.store(true, Ordering::Relaxed);
        let acknowledged = acknowledged.into_inner().unwrap();
        let again =
            all_arrive(&state, &app, route, &taken, &acknowledged, &format!("seed {seed}, {fault}, {route}"));
        println!("{fault}, {route}: {} acknowledged, {again} delivered again", acknowledged.len());
        assert!(acknowledged.len() > 20, "much was acknowledged");
    }
}

/// The outage that an inbox is for. Ten minutes of it: `HOOKGATE_OUTAGE_SECONDS=600`, with a release build.
#[test]
fn every_event_of_an_outage_arrives_once() {
    const RATE: u64 = 200;
    const SENDERS: u64 = 16;

    let seconds = given("HOOKGATE_OUTAGE_SECONDS").unwrap_or(5);
    let (state, is_well) = (Dir::new(), Arc::new(AtomicBool::new(true)));
    let (mut app, taken) = ailing(1, &is_well);
    let route = "inbox: { on: failure }";
    let gate = with_inbox(&app, &state, route).with("upstream-connect-timeout", "20ms").start();
    app.stop();
    let begun = Instant::now();
    let each = seconds * RATE / SENDERS;
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut sender = gate.connect();
                for n in 0..each {
                    assert_eq!(sender.exchange(&Signer::github().event()).status, 202);
                    let next = begun + Duration::from_micros(1_000_000 * SENDERS * (n + 1) / RATE);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
    });
    let took = begun.elapsed();
    app.start();
    let back = Instant::now();
    let all = usize::try_from(each * SENDERS).unwrap();
    let deadline = Duration::from_secs(60 + seconds);
    while app.seen() < all && back.elapsed() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let drained = back.elapsed();
    until("the inbox is empty", || same(gate.metrics().sum("hookgate_inbox_events", &[]), 0.0));
    let taken = lock(&taken);
    println!("{all} events in {took:?} of outage; all had arrived {drained:?} after it");
    assert_eq!((taken.len(), taken.values().sum::<usize>()), (all, all), "each once");
}

/// Many are stored, and the first is delivered soon after the start.
#[test]
fn a_start_with_many_stored_events_delivers_at_once() {
    let many = given("HOOKGATE_TEST_STORED").unwrap_or(3000);
    let state = Dir::new();
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (inbox, ..) = crate::fixture::open(&state.join("state"));
            let mut tasks = tokio::task::JoinSet::new();
            for sender in 0..100 {
                let inbox = inbox.clone();
                tasks.spawn(async move {
                    for number in (sender..many).step_by(100) {
                        let mut event = crate::fixture::event(number);
                        event.route = "one".into();
                        event.head = "POST /webhooks HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n".into();
                        event.body = "{}".into();
                        _ = inbox.store(event).await.unwrap();
                    }
                });
            }
            tasks.join_all().await;
        });
        thread::sleep(Duration::from_millis(300)); // its thread ends after its last handle
    }
    let app = App::ok();
    let begun = Instant::now();
    let _gate = with_inbox(&app, &state, "inbox: { on: failure }").start();
    app.wait_for(1);
    println!("{many} stored: the first delivery came {:?} after the start", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(app.requests()[0].header("Hookgate-Attempt"), Some("1"));
}
