//! What the inbox holds, keeps, refuses and saves.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use hookgate::inbox::database::Fault;
use hookgate::inbox::seal::Keys;
use hookgate::inbox::state::State;
use hookgate::inbox::{Attempted, Bounds, Inbox, Refusal};
use smallvec::smallvec;

use crate::fixture::{Folder, ROOMY, ROUTE, World, all, event, key, keys, open, reopen, try_open};

const LEASE: Duration = Duration::from_secs(15);
const NEW: &[u8] = b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OLD: &[u8] = b"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[tokio::test]
async fn its_files_are_its_owners_alone_and_one_process_has_them() {
    let folder = Folder::new();
    let (inbox, ..) = open(&folder.0);
    _ = inbox.store(event(1)).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.0), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(&folder.0).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and the lock");
    let second = try_open(&folder.0, ROOMY, Keys::default(), 0).err().unwrap();
    assert!(matches!(second, Fault::InUse(_)) && !second.is_of_configuration(), "{second}");
}

#[tokio::test]
async fn what_is_no_inbox_is_named_and_left_alone() {
    let folder = Folder::new();
    let fault = |folder: &Folder| try_open(&folder.0, ROOMY, Keys::default(), 0).err().unwrap();
    std::fs::write(&folder.0, "text").unwrap();
    assert!(matches!(fault(&folder), Fault::NoFolder(_)));
    std::fs::remove_file(&folder.0).unwrap();

    std::fs::create_dir(&folder.0).unwrap();
    let made = rusqlite::Connection::open(folder.database()).unwrap();
    made.execute_batch("CREATE TABLE other(a)").unwrap();
    drop(made);
    assert!(matches!(fault(&folder), Fault::Foreign(_)));
    let there = rusqlite::Connection::open(folder.database()).unwrap();
    let tables: i64 = there.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1, "it is left alone");
    drop(there);

    std::fs::remove_dir_all(&folder.0).unwrap();
    drop(open(&folder.0));
    std::thread::sleep(Duration::from_millis(100));
    let later = rusqlite::Connection::open(folder.database()).unwrap();
    later.pragma_update(None, "user_version", 9).unwrap();
    drop(later);
    let fault = fault(&folder);
    assert!(matches!(fault, Fault::Later(_, 9)) && fault.is_of_configuration(), "{fault}");
}

#[tokio::test]
async fn a_full_inbox_takes_nothing_and_loses_nothing() {
    for world in World::each() {
        let size = event(1).size();
        let bounds = Bounds { max_bytes: size * 3 + 100, ..ROOMY };
        let inbox = world.open_with(bounds, &[]);
        for number in [1, 91, 181] {
            _ = inbox.store(event(number)).await.unwrap();
        }
        assert!(inbox.bytes() > size * 2);
        assert_eq!(inbox.store(event(4)).await.err(), Some(Refusal::Full));
        assert!(inbox.store(event(1)).await.unwrap().copy, "a copy of what is stored needs no room");
        let due = inbox.claim(ROUTE, 0, LEASE, 1).await.unwrap().remove(0);
        assert!(inbox.settle(due.id, due.attempt, Attempted::Done, 0).await.unwrap());
        _ = inbox.store(event(271)).await.unwrap();
        assert!(inbox.is_usable(), "being full is not being broken");
    }
}

#[tokio::test]
async fn a_disk_with_too_little_room_takes_nothing() {
    let folder = Folder::new();
    let bounds = Bounds { min_free: u64::MAX / 4, ..ROOMY };
    let (inbox, ..) = try_open(&folder.0, bounds, Keys::default(), 0).unwrap();
    assert_eq!(inbox.store(event(1)).await.err(), Some(Refusal::Full));
}

#[tokio::test]
async fn a_dead_event_is_taken_again_under_any_of_its_names() {
    for world in World::each() {
        let inbox = world.open();
        let mut first = event(1);
        first.names = smallvec![key(1), key(100)];
        _ = inbox.store(first).await.unwrap();
        let due = inbox.claim(ROUTE, 0, LEASE, 9).await.unwrap().remove(0);
        let dead = Attempted::Dead { outcome: "410".into() };
        assert!(inbox.settle(due.id, due.attempt, dead, 5).await.unwrap());
        assert_eq!(inbox.next_due(ROUTE).await.unwrap(), None);
        assert_eq!(inbox.depths()[ROUTE].dead, 1);

        let mut copy = event(1);
        copy.names = smallvec![key(100)];
        copy.key = key(100);
        assert!(!inbox.store(copy).await.unwrap().copy, "it is not done");
        let listed = all(&inbox).await;
        let states: Vec<_> = listed.iter().map(|record| (record.state, record.attempts)).collect();
        assert_eq!(states, [(State::Stored, 0)], "the dead one has been replaced");
    }
}

#[tokio::test]
async fn a_key_is_rotated_by_a_new_first_line_and_a_missing_one_is_waited_for() {
    for world in World::each() {
        let inbox = world.open_with(ROOMY, &[OLD]);
        _ = inbox.store(event(1)).await.unwrap();
        inbox.set_keys(Arc::new(keys(&[NEW, OLD]))).await.unwrap();
        _ = inbox.store(event(2)).await.unwrap();
        drop(inbox);

        let inbox = world.open_with(ROOMY, &[NEW]);
        let due = inbox.claim(ROUTE, 0, LEASE, 9).await.unwrap();
        assert_eq!(due.iter().map(|due| due.key).collect::<Vec<_>>(), [key(2)]);
        let listed = all(&inbox).await;
        let first = listed.iter().find(|record| record.key == key(1)).unwrap();
        assert!(first.last_outcome.as_deref().unwrap().starts_with("key_missing "), "{listed:?}");
        assert_eq!((first.attempts, first.state), (0, State::Stored), "nothing was attempted");
        inbox.set_keys(Arc::new(keys(&[NEW, OLD]))).await.unwrap();
        let due = inbox.claim(ROUTE, 60_000, LEASE, 9).await.unwrap();
        let waited: Vec<_> = due.iter().filter(|due| due.body == event(1).body).collect();
        assert_eq!(waited.len(), 1, "it was waited for");
        for bytes in world.written() {
            assert!(!bytes.windows(8).any(|part| part == b"{\"id\":2}" || part == b"{\"id\":1}"));
        }
    }
}

#[tokio::test]
async fn a_start_tells_how_many_wait_for_a_key() {
    let folder = Folder::new();
    let (inbox, ..) = reopen(&folder.0, ROOMY, &[OLD], 0);
    _ = inbox.store(event(1)).await.unwrap();
    inbox.set_keys(Arc::new(keys(&[NEW]))).await.unwrap();
    _ = inbox.store(event(2)).await.unwrap();
    drop(inbox);
    let (_, opened, _) = reopen(&folder.0, ROOMY, &[NEW], 0);
    assert_eq!((opened.stored, opened.without_key), (2, 1));
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_counted_and_the_rest_goes_on() {
    let folder = Folder::new();
    let (inbox, ..) = open(&folder.0);
    for number in 1..=5 {
        _ = inbox.store(event(number)).await.unwrap();
    }
    drop(inbox);
    std::thread::sleep(Duration::from_millis(100));
    let hand = rusqlite::Connection::open(folder.database()).unwrap();
    hand.execute("UPDATE body SET bytes = zeroblob(length(bytes)) WHERE event = 3", []).unwrap();
    hand.execute("DELETE FROM body WHERE event = 4", []).unwrap();
    drop(hand);
    let (inbox, ..) = open(&folder.0);
    let due = inbox.claim(ROUTE, 0, LEASE, 9).await.unwrap();
    let keys: Vec<_> = due.iter().map(|due| due.key).collect();
    assert_eq!(keys, [key(1), key(2), key(5)]);
    assert_eq!((inbox.totals().set_aside, inbox.depths()[ROUTE].damaged), (2, 2));
    assert!(!inbox.store(event(3)).await.unwrap().copy, "its sender's copy takes its place");
}

#[tokio::test]
async fn of_a_damaged_database_each_record_that_can_be_read_is_saved() {
    let folder = Folder::new();
    let (inbox, ..) = open(&folder.0);
    for number in 1..=400 {
        _ = inbox.store(event(number)).await.unwrap();
    }
    drop(inbox);
    // Opened once more, so that all of it is in the database and not in its log.
    drop(open(&folder.0));
    std::thread::sleep(Duration::from_millis(100));
    let mut bytes = std::fs::read(folder.database()).unwrap();
    let hand = rusqlite::Connection::open(folder.database()).unwrap();
    let root: usize = hand
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'name'", [], |row| row.get(0))
        .unwrap();
    drop(hand);
    // The root of the names: without it not one copy would be known.
    bytes[(root - 1) * 4096..root * 4096].fill(0x5a);
    std::fs::write(folder.database(), &bytes).unwrap();
    let (inbox, opened, names) = open(&folder.0);
    let salvaged = opened.salvaged.clone().unwrap();
    assert_eq!((salvaged.saved, salvaged.lost), (400, 0));
    assert!(salvaged.aside.exists(), "what is damaged is kept");
    assert_eq!((opened.stored, names.len()), (400, 400));
    assert_eq!(inbox.claim(ROUTE, 0, LEASE, 500).await.unwrap().len(), 400);
    drop(inbox);

    // A page in the midst: what is on it is lost, the rest is not.
    drop(open(&folder.0));
    std::thread::sleep(Duration::from_millis(100));
    let hand = rusqlite::Connection::open(folder.database()).unwrap();
    let leaf: usize = hand
        .query_row(
            "SELECT pageno FROM dbstat WHERE name = 'event' AND pagetype = 'leaf' LIMIT 1 OFFSET 2",
            [],
            |row| row.get(0),
        )
        .unwrap_or(0);
    drop(hand);
    if leaf != 0 {
        let mut bytes = std::fs::read(folder.database()).unwrap();
        bytes[(leaf - 1) * 4096..leaf * 4096].fill(0x5a);
        std::fs::write(folder.database(), &bytes).unwrap();
        let (_, opened, _) = open(&folder.0);
        let salvaged = opened.salvaged.unwrap();
        assert!(
            salvaged.saved > 300 && salvaged.lost > 0 && salvaged.saved + salvaged.lost == 400,
            "{salvaged:?}"
        );
    }
}

#[tokio::test]
async fn a_paused_route_holds_its_events_over_a_restart() {
    for world in World::each() {
        let inbox = world.open();
        _ = inbox.store(event(1)).await.unwrap();
        inbox.pause(ROUTE, true).await.unwrap();
        drop(inbox);
        let inbox = world.open();
        assert_eq!(inbox.paused().await.unwrap(), [ROUTE]);
        assert_eq!(inbox.next_due(ROUTE).await.unwrap(), None);
        assert!(inbox.claim(ROUTE, 9, LEASE, 9).await.unwrap().is_empty());
        inbox.pause(ROUTE, false).await.unwrap();
        assert_eq!(inbox.claim(ROUTE, 9, LEASE, 9).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_is_dead_is_kept_for_its_time_and_to_its_share() {
    for world in World::each() {
        let bounds = Bounds { max_bytes: event(1).size() * 13, min_free: 0, keep_dead_ms: 1000 };
        let inbox = world.open_with(bounds, &[]);
        let numbers = [1, 91, 181, 271, 361];
        for number in numbers {
            _ = inbox.store(event(number)).await.unwrap();
        }
        for due in inbox.claim(ROUTE, 0, LEASE, 9).await.unwrap() {
            let place = numbers.iter().position(|number| due.key == key(*number)).unwrap();
            let died = 100 * (1 + i64::try_from(place).unwrap());
            let dead = Attempted::Dead { outcome: "404".into() };
            assert!(inbox.settle(due.id, due.attempt, dead, died).await.unwrap());
        }
        inbox.tidy(600, Duration::from_secs(9), Duration::from_secs(9)).await.unwrap();
        let dead = |inbox: &Inbox| inbox.depths()[ROUTE].dead;
        assert_eq!(dead(&inbox), 3, "a quarter of thirteen, the oldest have gone");
        inbox.tidy(1450, Duration::from_secs(9), Duration::from_secs(9)).await.unwrap();
        assert_eq!((dead(&inbox), inbox.totals().dead_dropped), (1, 4), "those of 300 and 400 are too old");
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_holds_nothing_up() {
    for world in World::each() {
        let inbox = world.open();
        let mut ahead = event(1);
        ahead.due_ms = 1_000_000_000;
        _ = inbox.store(ahead).await.unwrap();
        inbox.tidy(1000, Duration::from_secs(9), Duration::from_secs(3600)).await.unwrap();
        assert_eq!(inbox.next_due(ROUTE).await.unwrap(), Some(1000));
    }
}
