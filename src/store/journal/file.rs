//! The replay file on the disk: read and judged once, then only appended to, or made anew and
//! put in its own place.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::{self, Record, SIZE, Strange};
use crate::clock::{BootId, Doubt, Stamp};
use crate::files::WITHOUT_WAITING;
use crate::gate::filter::replay::{Keep, ReplayKey};

/// The file, which no other process uses.
#[derive(Debug)]
pub struct ReplayFile {
    path: PathBuf,
    file: File,
    records: u64,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    /// Another process has it.
    InUse,
    /// It is a folder, a device or the like.
    NoFile,
    Strange(Strange),
    /// What was once on the disk has changed.
    Damaged {
        offset: u64,
    },
    /// More events than the memory holds, and none that may be forgotten.
    TooMany {
        events: usize,
        capacity: usize,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

impl Fault {
    /// Whether another file, or none, has to be named; else it is the machine's fault.
    pub fn is_of_configuration(&self) -> bool {
        !matches!(self, Fault::Io(_) | Fault::InUse)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOVE: &str = "move the file away; events that were delivered before are then delivered once \
                            more if their provider sends them again";
        match self {
            Fault::Io(error) => {
                write!(f, "{error}; let the user that hookgate runs as write the file and its folder")
            }
            Fault::InUse => {
                f.write_str("another process uses it: stop that one, or name a file for each gate")
            }
            Fault::NoFile => f.write_str("is no regular file: name one"),
            Fault::Strange(Strange::Foreign) => {
                f.write_str("is something else than a replay file: name another path")
            }
            Fault::Strange(Strange::Later(version) | Strange::Earlier(version)) => {
                write!(f, "is of format {version}, which this version does not know: {MOVE}")
            }
            Fault::Damaged { offset } => {
                write!(f, "is damaged at byte {offset}, with good records behind: restore it, or {MOVE}")
            }
            Fault::TooMany { events, capacity } => write!(
                f,
                "holds {events} events that must not be forgotten, and replay.capacity is {capacity}: raise it, or {MOVE}"
            ),
        }
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub records: u64,
    /// Bytes at the end that are no whole records: its writer was stopped.
    pub torn: u64,
    /// The format of an earlier version, if it is that: nothing in it names an event of today.
    pub earlier: Option<u32>,
}

impl Judged {
    /// For people. `events` is how many are remembered of what was read.
    pub fn told(&self, events: usize) -> String {
        if let Some(format) = self.earlier {
            return format!(
                "it is of format {format}, in which events had other names: none is remembered, so what was delivered before is delivered once more if its provider sends it again; the file is made anew"
            );
        }
        let torn = match self.torn {
            0 => String::new(),
            torn => format!(
                "; the last {torn} bytes are no whole records and are left out: its writer was stopped"
            ),
        };
        format!("{events} delivered events are remembered from {} records{torn}", self.records)
    }
}

/// What is read from it, in the order of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Done { key: ReplayKey, keep: Keep, age: Duration },
    Forgotten(ReplayKey),
}

impl ReplayFile {
    /// Takes the file for this process, reads it, and passes on what it holds.
    pub fn open(path: &Path, stamp: &Stamp, kept: impl FnMut(Kept)) -> Result<(Self, Judged), Fault> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(WITHOUT_WAITING).open(path)?;
        lock(&file)?;
        // Its owner may have put a new one in its place before it let go of this one.
        if std::fs::metadata(path)?.ino() != file.metadata()?.ino() {
            return Err(Fault::InUse);
        }
        let judged = read(&file, stamp, kept)?;
        if judged.torn > 0 && judged.records > 0 {
            file.set_len(end(judged.records))?;
        }
        Ok((ReplayFile { path: path.to_owned(), file, records: judged.records }, judged))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn records(&self) -> u64 {
        self.records
    }

    /// Writes records behind the others.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        self.file.write_all_at(&bytes, end(self.records))?;
        self.records += records.len() as u64;
        Ok(())
    }

    /// Waits until the disk has it, and marks that.
    pub fn sync(&mut self, stamp: &Stamp) -> io::Result<()> {
        self.file.sync_data()?;
        self.append(&[Record::mark(stamp)])
    }

    /// Makes the file anew from `records` and puts it in the place of the old one, which stays
    /// as it is if anything goes wrong.
    pub fn renew(&mut self, stamp: &Stamp, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let mut draft = self.path.clone().into_os_string();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let written = self.write_draft(&draft, stamp, records);
        if written.is_err() {
            _ = std::fs::remove_file(&draft);
        }
        written
    }

    fn write_draft(
        &mut self,
        draft: &Path,
        stamp: &Stamp,
        records: impl Iterator<Item = Record>,
    ) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(draft)?;
        lock(&file).map_err(|_| io::ErrorKind::ResourceBusy)?;
        let mut count = 0;
        let mut out = BufWriter::with_capacity(64 * 1024, &file);
        out.write_all(&record::header())?;
        for record in [Record::mark(stamp)].into_iter().chain(records) {
            out.write_all(&record.encode())?;
            count += 1;
        }
        out.flush()?;
        drop(out);
        let mut renewed = ReplayFile { path: self.path.clone(), file, records: count };
        renewed.sync(stamp)?;
        std::fs::rename(draft, &self.path)?;
        *self = renewed;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Reads a file that another process may be writing, for `check`.
pub fn inspect(path: &Path, stamp: &Stamp, kept: impl FnMut(Kept)) -> Result<Judged, Fault> {
    match OpenOptions::new().read(true).custom_flags(WITHOUT_WAITING).open(path) {
        Ok(file) => read(&file, stamp, kept),
        // It is made at the start.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Judged::default()),
        Err(error) => Err(error.into()),
    }
}

fn lock(file: &File) -> Result<(), Fault> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Fault::InUse,
        TryLockError::Error(error) => Fault::Io(error),
    })
}

fn end(records: u64) -> u64 {
    (records + 1) * SIZE as u64
}

/// Judges every byte, and only then passes on what is remembered: the newest marks know best
/// what time it was.
fn read(file: &File, stamp: &Stamp, mut kept: impl FnMut(Kept)) -> Result<Judged, Fault> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Fault::NoFile);
    }
    let length = metadata.len();
    if length < SIZE as u64 {
        return read_stump(file, length);
    }
    let mut header = [0; SIZE];
    file.read_exact_at(&mut header, 0)?;
    match record::check_header(&header) {
        Ok(()) => {}
        Err(Strange::Earlier(format)) => return Ok(Judged { earlier: Some(format), ..Judged::default() }),
        Err(strange) => return Err(Fault::Strange(strange)),
    }

    let mut runs = Runs::default();
    let mut good = 0;
    let mut broken = None;
    each(file, length, |n, bytes| {
        match (Record::decode(bytes), broken) {
            (Some(record), None) => {
                runs.meet(&record);
                good = n + 1;
            }
            (None, None) => broken = Some(n),
            // A mark says that everything before it was on the disk.
            (Some(Record::Mark { .. }), Some(at)) => return Err(Fault::Damaged { offset: end(at) }),
            (Some(_) | None, Some(_)) => {}
        }
        Ok(())
    })?;

    let mut boot = BootId::default();
    each(file, end(good), |_, bytes| {
        match Record::decode(bytes) {
            Some(Record::Mark { boot: of, .. }) => boot = of,
            Some(Record::Done { key, keep, uptime_ms }) => {
                kept(Kept::Done { key, keep, age: runs.age(stamp, boot, uptime_ms) });
            }
            Some(Record::Forgotten { key }) => kept(Kept::Forgotten(key)),
            None => {}
        }
        Ok(())
    })?;
    Ok(Judged { records: good, torn: length - end(good), earlier: None })
}

/// A file that was just made may hold a part of its header.
fn read_stump(file: &File, length: u64) -> Result<Judged, Fault> {
    let mut stump = [0; SIZE];
    let stump = &mut stump[..usize::try_from(length).unwrap_or(SIZE)];
    file.read_exact_at(stump, 0)?;
    if !record::header().starts_with(stump) {
        return Err(Fault::Strange(Strange::Foreign));
    }
    Ok(Judged { torn: length, ..Judged::default() })
}

/// Every whole record's place, with its number.
fn each(
    file: &File,
    length: u64,
    mut visit: impl FnMut(u64, &[u8; SIZE]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let records = length / SIZE as u64 - 1;
    let mut buffer = vec![0; 2048 * SIZE];
    let mut n = 0;
    while n < records {
        let whole = usize::try_from(records - n).unwrap_or(usize::MAX).min(2048);
        let piece = &mut buffer[..whole * SIZE];
        file.read_exact_at(piece, end(n))?;
        for bytes in piece.as_chunks::<SIZE>().0 {
            visit(n, bytes)?;
            n += 1;
        }
    }
    Ok(())
}

/// The runs of the machine in which the file was written, each with what the wall clock showed.
#[derive(Debug, Default)]
struct Runs(Vec<(BootId, Option<i64>)>);

impl Runs {
    fn meet(&mut self, record: &Record) {
        let Record::Mark { boot, offset_ms } = record else { return };
        match self.0.iter_mut().find(|(known, _)| known == boot) {
            Some((_, offset)) => *offset = offset_ms.or(*offset),
            None => self.0.push((*boot, *offset_ms)),
        }
    }

    /// How long ago that was: by the machine's own clock if it is the same run, else by the wall
    /// clock. Where neither can say, or what they say has not happened yet, it was just now: an
    /// event is rather remembered too long.
    fn age(&self, stamp: &Stamp, boot: BootId, uptime_ms: i64) -> Duration {
        let age_ms = if boot == stamp.boot && boot != BootId::default() {
            stamp.uptime_ms.saturating_sub(uptime_ms)
        } else {
            let offset = self.0.iter().find(|(known, _)| *known == boot).and_then(|(_, offset)| *offset);
            match offset {
                Some(offset) if stamp.now.doubt != Doubt::Unset => {
                    stamp.now.wall_ms.saturating_sub(uptime_ms.saturating_add(offset))
                }
                Some(_) | None => 0,
            }
        };
        Duration::from_millis(u64::try_from(age_ms).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A folder that is gone with its owner.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let name =
                format!("hookgate-file-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("replay")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const BOOT: BootId = [1; 16];
    const HOUR_MS: i64 = 3_600_000;
    /// 2026-11-01
    const WALL: i64 = 1_793_491_200;

    /// `passed` seconds after the machine has been up for an hour.
    fn stamp(passed: i64) -> Stamp {
        Stamp { now: Now::at(WALL + passed, 0), boot: BOOT, uptime_ms: HOUR_MS + passed * 1000 }
    }

    fn key(n: u8) -> ReplayKey {
        ReplayKey::from_bytes([n; 16])
    }

    fn done(n: u8) -> Record {
        Record::Done { key: key(n), keep: Keep::UntilStale, uptime_ms: HOUR_MS + i64::from(n) * 1000 }
    }

    fn open(path: &Path, stamp: &Stamp) -> Result<(ReplayFile, Judged, Vec<Kept>), Fault> {
        let mut kept = Vec::new();
        let (file, judged) = ReplayFile::open(path, stamp, |event| kept.push(event))?;
        Ok((file, judged, kept))
    }

    fn age(kept: &[Kept], n: u8) -> Option<u64> {
        kept.iter().find_map(|event| match event {
            Kept::Done { key: of, age, .. } if *of == key(n) => Some(age.as_secs()),
            Kept::Done { .. } | Kept::Forgotten(_) => None,
        })
    }

    /// A file with four events, of which the last two stand behind the last mark.
    fn written(path: &Path) -> Vec<u8> {
        let (mut file, ..) = open(path, &stamp(0)).unwrap();
        file.renew(&stamp(0), [done(1), done(2)].into_iter()).unwrap();
        file.append(&[done(3), Record::Forgotten { key: key(1) }]).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_is_written_is_read_in_its_order() {
        let folder = Folder::new();
        written(&folder.file());
        let (file, judged, kept) = open(&folder.file(), &stamp(10)).unwrap();
        assert_eq!(judged, Judged { records: 6, ..Judged::default() }, "with two marks");
        assert_eq!((age(&kept, 2), age(&kept, 3)), (Some(8), Some(7)));
        assert_eq!(kept.last(), Some(&Kept::Forgotten(key(1))));
        assert_eq!(file.records(), 6);
        let mode = std::fs::metadata(folder.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_an_earlier_format_is_read_as_empty_and_made_anew() {
        let folder = Folder::new();
        let mut earlier = written(&folder.file());
        earlier[16] = 1;
        let sum = crc32fast::hash(&earlier[..28]);
        earlier[28..32].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(folder.file(), &earlier).unwrap();
        let (mut file, judged, kept) = open(&folder.file(), &stamp(10)).unwrap();
        assert_eq!((judged.earlier, kept.as_slice()), (Some(1), &[][..]), "its events had other names");
        assert!(judged.told(0).contains("delivered once more"), "{}", judged.told(0));
        assert_eq!(file.records(), 0, "so that it is made anew");
        file.renew(&stamp(10), [done(9)].into_iter()).unwrap();
        drop(file);
        let (_, judged, kept) = open(&folder.file(), &stamp(10)).unwrap();
        assert_eq!((judged.earlier, kept.len()), (None, 1));
    }

    #[test]
    fn every_torn_end_is_cut_and_written_over() {
        let folder = Folder::new();
        let path = folder.file();
        let whole = written(&path);
        let all = open(&path, &stamp(10)).unwrap().2;
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut file, judged, kept) = open(&path, &stamp(10)).unwrap();
            assert_eq!(kept[..], all[..kept.len()], "{length} bytes hold the first events");
            let records = (length / SIZE).saturating_sub(1);
            assert_eq!(judged.records, records as u64);
            assert_eq!(judged.torn, (length - if length < SIZE { 0 } else { (records + 1) * SIZE }) as u64);
            if records > 0 {
                file.append(&[done(9)]).unwrap();
                drop(file);
                let (_, judged, again) = open(&path, &stamp(10)).unwrap();
                assert_eq!(
                    (judged.torn, again.len()),
                    (0, kept.len() + 1),
                    "{length} bytes, and one more event"
                );
            }
        }
    }

    #[test]
    fn every_changed_byte_before_the_last_mark_is_refused_and_none_is_believed() {
        let folder = Folder::new();
        let path = folder.file();
        let whole = written(&path);
        let all = open(&path, &stamp(10)).unwrap().2;
        let synced = 4 * SIZE; // the header, a mark, two events; then the last mark
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                std::fs::write(&path, &changed).unwrap();
                let record = at / SIZE;
                match open(&path, &stamp(10)) {
                    Err(Fault::Strange(Strange::Foreign)) => assert_eq!(record, 0),
                    Err(Fault::Damaged { offset }) => {
                        assert!(at < synced);
                        assert_eq!(offset, (record * SIZE) as u64);
                    }
                    Ok((_, judged, kept)) => {
                        assert!(at >= synced, "byte {at} was on the disk");
                        assert_eq!(judged.torn, (whole.len() - record * SIZE) as u64);
                        assert_eq!(kept[..], all[..kept.len()]);
                    }
                    Err(fault) => panic!("byte {at}: {fault}"),
                }
            }
        }
    }

    #[test]
    fn a_hole_that_lost_power_leaves_is_a_torn_end() {
        let folder = Folder::new();
        let mut bytes = written(&folder.file());
        let hole = bytes.len() - 2 * SIZE;
        bytes[hole..hole + SIZE].fill(0);
        std::fs::write(folder.file(), &bytes).unwrap();
        let (_, judged, kept) = open(&folder.file(), &stamp(10)).unwrap();
        assert_eq!((judged.torn, kept.len()), (2 * SIZE as u64, 2), "what stands behind the hole goes too");
    }

    #[test]
    fn the_machines_own_clock_decides_while_it_runs() {
        let folder = Folder::new();
        written(&folder.file());
        for jump in [-86_400, 86_400, -WALL] {
            let jumped = Stamp { now: Now::at(WALL + 10 + jump, 0), ..stamp(10) };
            assert_eq!(age(&open(&folder.file(), &jumped).unwrap().2, 2), Some(8), "jumped by {jump} s");
        }
    }

    #[test]
    fn the_wall_clock_decides_after_the_machine_has_restarted() {
        let folder = Folder::new();
        written(&folder.file());
        let restarted =
            |passed, uptime_ms| Stamp { now: Now::at(WALL + passed, 0), boot: [2; 16], uptime_ms };
        let aged = |stamp: &Stamp| age(&open(&folder.file(), stamp).unwrap().2, 2);
        assert_eq!(aged(&restarted(100, 5000)), Some(98));
        assert_eq!(aged(&restarted(-100, 5000)), Some(0), "it has not happened yet: rather too long");
        let mut unset = restarted(100_000, 5000);
        unset.now.doubt = Doubt::Unset;
        assert_eq!(aged(&unset), Some(0), "nobody can say: rather too long");

        // In a run without a name, uptimes prove nothing.
        let nameless = Stamp { boot: [0; 16], ..stamp(0) };
        let (mut file, ..) = open(&folder.file(), &nameless).unwrap();
        file.renew(&nameless, [done(2)].into_iter()).unwrap();
        drop(file);
        let later = Stamp { now: Now::at(WALL + 500, 0), boot: [0; 16], uptime_ms: HOUR_MS };
        assert_eq!(aged(&later), Some(498));
    }

    #[test]
    fn the_newest_mark_knows_best_what_time_it_was() {
        let folder = Folder::new();
        let unset = Stamp { now: Now { doubt: Doubt::Unset, ..Now::at(0, 0) }, ..stamp(0) };
        let (mut file, ..) = open(&folder.file(), &unset).unwrap();
        file.renew(&unset, [done(2)].into_iter()).unwrap();
        let restarted = Stamp { now: Now::at(WALL + 60, 0), boot: [2; 16], uptime_ms: 1000 };
        drop(file);
        let (mut file, _, kept) = open(&folder.file(), &stamp(0)).unwrap();
        assert_eq!(age(&kept, 2), Some(0));
        file.sync(&stamp(10)).unwrap(); // the clock was set meanwhile
        drop(file);
        assert_eq!(age(&open(&folder.file(), &restarted).unwrap().2, 2), Some(58));
    }

    #[test]
    fn one_process_has_it_even_while_it_is_made_anew() {
        let folder = Folder::new();
        let (mut file, ..) = open(&folder.file(), &stamp(0)).unwrap();
        assert!(matches!(open(&folder.file(), &stamp(0)), Err(Fault::InUse)));
        file.renew(&stamp(0), [done(1)].into_iter()).unwrap();
        assert!(matches!(open(&folder.file(), &stamp(0)), Err(Fault::InUse)));
        let mut events = 0;
        assert_eq!(inspect(&folder.file(), &stamp(0), |_| events += 1).unwrap().torn, 0);
        assert_eq!(events, 1, "looking at it is free");
        drop(file);
        open(&folder.file(), &stamp(0)).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_made_anew_stays() {
        let folder = Folder::new();
        let before = written(&folder.file());
        std::fs::create_dir(folder.0.join("replay.new")).unwrap();
        let (mut file, ..) = open(&folder.file(), &stamp(0)).unwrap();
        assert!(file.renew(&stamp(0), [done(1)].into_iter()).is_err());
        assert_eq!(std::fs::read(folder.file()).unwrap(), before);
        file.append(&[done(4)]).unwrap();
        drop(file);
        assert!(age(&open(&folder.file(), &stamp(10)).unwrap().2, 4).is_some());
    }

    #[test]
    fn what_is_no_replay_file_is_left_alone() {
        let folder = Folder::new();
        for text in ["x", "a text file that somebody named by mistake, which is long enough"] {
            std::fs::write(folder.file(), text).unwrap();
            let fault = open(&folder.file(), &stamp(0)).err().unwrap();
            assert!(fault.is_of_configuration() && fault.to_string().contains("something else"), "{fault}");
            assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), text);
        }
        let absent = folder.0.join("absent");
        assert_eq!(inspect(&absent, &stamp(0), |_| ()).unwrap(), Judged::default());
        assert!(!absent.exists(), "looking makes nothing");
        let fault = open(Path::new("/dev/full"), &stamp(0)).err().unwrap();
        assert!(matches!(fault, Fault::NoFile), "{fault}");
        assert!(matches!(open(&folder.0, &stamp(0)), Err(Fault::Io(_))));
    }
}
