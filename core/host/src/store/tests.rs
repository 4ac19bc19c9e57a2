use super::*;
use receptor_core::workceptor::{Change, Record, State};
use std::os::unix::fs::PermissionsExt as _;

fn id(text: &str) -> UnitId {
    UnitId::parse(text).unwrap()
}

fn store(dir: &Path) -> UnitStore {
    UnitStore::open(dir, "node-1").unwrap()
}

fn created(store: &UnitStore, unit: &str) -> UnitId {
    let unit = id(unit);
    let record = Record::command("cat", String::new());
    assert_eq!(
        store.run(&unit, UnitTask::Create { record, sync: true }),
        UnitTaskResult::Done
    );
    unit
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn failed_with(result: UnitTaskResult) -> UnitError {
    match result {
        UnitTaskResult::Failed(error) => error,
        other => panic!("did not fail: {other:?}"),
    }
}

#[test]
fn names_that_leave_the_data_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["", ".", "..", "a/b", "a\0b"] {
        assert!(UnitStore::open(dir.path(), bad).is_err(), "{bad:?}");
    }
    assert!(UnitStore::open(&dir.path().join("a/b/c"), "node").is_ok());
    assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    fs::write(dir.path().join("file"), "").unwrap();
    let text = UnitStore::open(&dir.path().join("file"), "node").unwrap_err();
    assert!(text.starts_with("mkdir ") && text.contains("file/node: "), "{text}");
}

#[test]
fn a_created_unit_has_the_classic_layout_and_modes() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = created(&store, "abc12345");
    let path = dir.path().join("node-1/abc12345");
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("status")), 0o600);
    let record = Record::command("cat", String::new());
    assert_eq!(
        failed_with(store.run(&unit, UnitTask::Create { record, sync: true })),
        UnitError::Exists
    );
    let result = store.run(
        &unit,
        UnitTask::WriteStdin {
            offset: 0,
            data: Bytes::from_static(b"in"),
        },
    );
    assert_eq!(result, UnitTaskResult::Done);
    let UnitTaskResult::Record(record) = store.run(
        &unit,
        UnitTask::Update {
            change: Change::Starting,
            sync: true,
        },
    ) else {
        panic!("not updated")
    };
    assert_eq!(store.unit_dir(&unit).read().unwrap(), record);
    assert_eq!(mode(&path.join("stdin")), 0o600);
    assert_eq!(mode(&path.join("status.lock")), 0o600);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 3, "no temporary file stays");
    let refused = failed_with(store.run(
        &unit,
        UnitTask::Update {
            change: Change::Starting,
            sync: false,
        },
    ));
    assert_eq!(refused, UnitError::Refused(record));
}

#[test]
fn output_is_read_written_and_hashed_by_offset() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = created(&store, "u");
    let read = |offset, max| store.run(&unit, UnitTask::ReadOutput { offset, max });
    assert_eq!(read(0, 10), UnitTaskResult::Data(Bytes::new()));
    let content: Vec<u8> = (0..3_000_001_u32).map(|number| (number * 7 % 251) as u8).collect();
    for offset in (0..content.len()).step_by(1 << 18) {
        let piece = &content[offset..content.len().min(offset + (1 << 18))];
        let task = UnitTask::WriteOutput {
            offset: offset as u64,
            data: Bytes::copy_from_slice(piece),
        };
        assert_eq!(store.run(&unit, task), UnitTaskResult::Done);
    }
    assert_eq!(read(0, usize::MAX), UnitTaskResult::Data(content.clone().into()));
    assert_eq!(
        read(2_999_999, 10),
        UnitTaskResult::Data(Bytes::copy_from_slice(&content[2_999_999..]))
    );
    assert_eq!(read(u64::MAX, 10), UnitTaskResult::Data(Bytes::new()));
    for len in [0, 1, 2_000_000, u64::MAX] {
        let part = &content[..usize::try_from(len).unwrap_or(usize::MAX).min(content.len())];
        let mut hasher = HighwayHasher::new(Key::default());
        hasher.append(part);
        let expected = UnitTaskResult::Hash {
            checksum: hasher.finalize64(),
            size: content.len() as u64,
        };
        assert_eq!(store.run(&unit, UnitTask::HashOutput { len }), expected);
    }
}

#[test]
fn a_missing_unit_is_missing_to_every_task_and_gone_to_remove() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = id("nobody");
    let data = Bytes::from_static(b"x");
    for task in [
        UnitTask::WriteStdin {
            offset: 0,
            data: data.clone(),
        },
        UnitTask::WriteOutput { offset: 0, data },
        UnitTask::DropStdin,
        UnitTask::ReadStdin { offset: 0, max: 1 },
        UnitTask::ReadOutput { offset: 0, max: 1 },
        UnitTask::HashOutput { len: 1 },
        UnitTask::Update {
            change: Change::Starting,
            sync: true,
        },
    ] {
        assert_eq!(failed_with(store.run(&unit, task)), UnitError::Missing);
    }
    assert_eq!(
        store.run(&unit, UnitTask::Remove { tombstone: None }),
        UnitTaskResult::Done
    );
    assert!(matches!(
        failed_with(store.run(&unit, UnitTask::Cancel)),
        UnitError::Io(_)
    ));
}

#[test]
fn a_removed_unit_leaves_nothing_not_even_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = created(&store, "u");
    store.run(
        &unit,
        UnitTask::WriteOutput {
            offset: 0,
            data: Bytes::from_static(b"old"),
        },
    );
    fs::create_dir_all(dir.path().join("node-1/.removing-u/x")).unwrap();
    assert_eq!(
        store.run(&unit, UnitTask::Remove { tombstone: None }),
        UnitTaskResult::Done
    );
    assert_eq!(fs::read_dir(store.dir()).unwrap().count(), 0);
    // The open file of the removed unit is not taken for the new one's.
    let unit = created(&store, "u");
    let data = UnitTaskResult::Data(Bytes::new());
    assert_eq!(store.run(&unit, UnitTask::ReadOutput { offset: 0, max: 9 }), data);
    fs::rename(dir.path().join("node-1/u"), dir.path().join("node-1/.removing-u")).unwrap();
    assert!(store.scan().unwrap().units.is_empty());
    assert_eq!(fs::read_dir(store.dir()).unwrap().count(), 0);
}

#[test]
fn a_scan_finds_units_and_names_what_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let good = created(&store, "b");
    store.run(
        &good,
        UnitTask::WriteStdin {
            offset: 0,
            data: Bytes::from_static(b"12345"),
        },
    );
    for (unit, status) in [("a", ""), ("c", "{\"State\":")] {
        created(&store, unit);
        fs::write(store.dir().join(unit).join("status"), status).unwrap();
        fs::write(store.dir().join(unit).join("status.lock"), "").unwrap();
    }
    fs::create_dir(store.dir().join("d")).unwrap();
    fs::write(store.dir().join("d/stdout"), "of somebody").unwrap();
    fs::create_dir(store.dir().join("not.an-id")).unwrap();
    fs::write(store.dir().join("file"), "").unwrap();
    store.store_epoch(7).unwrap();
    let scan = store.scan().unwrap();
    let ids: Vec<_> = scan.units.iter().map(|unit| unit.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert!(scan.units[0].record.as_ref().unwrap_err().contains("empty"));
    assert_eq!(scan.units[1].record.as_ref().unwrap().state, State::Pending);
    assert_eq!((scan.units[1].stdin_size, scan.units[1].stdout_size), (5, 0));
    assert!(scan.units[2].record.is_err());
    assert_eq!(scan.units[3].record, Err("it has no status file".to_owned()));
    assert_eq!(scan.problems.len(), 2, "{:?}", scan.problems);
    assert_eq!(store.load_epoch(), Ok(Some(7)));
}

#[test]
fn what_a_crash_leaves_of_a_unit_being_made_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    created(&store, "u");
    fs::write(store.dir().join("u/status"), "").unwrap();
    let scan = store.scan().unwrap();
    assert!(scan.units.is_empty() && scan.problems.is_empty(), "{scan:?}");
    assert!(!store.dir().join("u").exists());
}

#[test]
fn writers_wait_for_the_lock_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = created(&store, "u");
    store.run(
        &unit,
        UnitTask::Update {
            change: Change::Starting,
            sync: false,
        },
    );
    let identity = crate::identity::of(std::process::id()).unwrap();
    store.run(
        &unit,
        UnitTask::Update {
            change: Change::RunnerUp { identity },
            sync: false,
        },
    );
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            let (store, unit) = (&store, &unit);
            scope.spawn(move || {
                for number in 0..50 {
                    let change = Change::OutputSize(number * 4 + writer);
                    assert!(matches!(
                        store.run(unit, UnitTask::Update { change, sync: false }),
                        UnitTaskResult::Record(_)
                    ));
                }
            });
        }
    });
    assert_eq!(store.unit_dir(&unit).read().unwrap().stdout_size, 49 * 4 + 3);
}

/// A classic node leaves such directories, and its own lock in them.
#[test]
fn directories_without_a_record_are_units_that_failed_if_a_unit_has_left_something() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for (name, file) in [("unit1", "status.lock"), ("unit2", "stdout"), ("unit3", "notes")] {
        let path = dir.path().join("node-1").join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(file), "x").unwrap();
    }
    let scan = store.scan().unwrap();
    let found: Vec<_> = scan.units.iter().map(|unit| (unit.id.as_str(), &unit.record)).collect();
    let missing = Err("it has no status file".to_owned());
    assert_eq!(found, [("unit1", &missing), ("unit2", &missing)]);
    assert_eq!(scan.problems.len(), 1, "{:?}", scan.problems);
    let strange = dir.path().join("node-1/unit3/notes");
    assert!(strange.exists(), "what is not ours is not removed");
    let unit = UnitId::parse("unit1").unwrap();
    assert_eq!(
        store.run(&unit, UnitTask::Remove { tombstone: None }),
        UnitTaskResult::Done
    );
    assert!(!dir.path().join("node-1/unit1").exists());
}

#[test]
fn a_record_is_written_in_its_place_until_the_first_barrier_and_never_after_it() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = id("abc12345");
    let mut record = Record::remote(receptor_core::workceptor::RemoteExtra::default());
    record.detail = "a detail that is longer than the next ".repeat(8);
    let create = UnitTask::Create { record, sync: false };
    assert_eq!(store.run(&unit, create), UnitTaskResult::Done);
    let status = store.unit_dir(&unit).path().join("status");
    let (inode, length) = fs::metadata(&status).map(|found| (found.ino(), found.len())).unwrap();
    let update = |change, sync| match store.run(&unit, UnitTask::Update { change, sync }) {
        UnitTaskResult::Record(record) => record,
        other => panic!("{other:?}"),
    };
    // Shorter than before.
    let short = update(Change::StdinComplete, true);
    assert_eq!(store.unit_dir(&unit).read().unwrap(), short);
    let found = fs::metadata(&status).unwrap();
    assert_eq!((found.ino(), found.len()), (inode, length));
    let expired = Change::Expired {
        detail: "too late".into(),
    };
    let expired = update(expired, false);
    assert_eq!(store.unit_dir(&unit).read().unwrap(), expired);
    let found = fs::metadata(&status).unwrap();
    assert_ne!(found.ino(), inode);
    assert!(found.len() < length);
}

/// What a crash of the machine leaves of a unit that no barrier had made durable, with the lock only if a change came before.
fn unborn(dir: &Path, unit: &str, record: &[u8], stdin: &[u8]) -> PathBuf {
    let path = dir.join("node-1").join(unit);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("status"), record).unwrap();
    fs::write(path.join("stdin"), stdin).unwrap();
    path
}

#[test]
fn a_unit_without_a_barrier_becomes_durable_with_its_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = id("abc12345");
    let record = Record::command("cat", String::new());
    let create = UnitTask::Create { record, sync: false };
    assert_eq!(store.run(&unit, create), UnitTaskResult::Done);
    let path = dir.path().join("node-1/abc12345");
    let write = UnitTask::WriteStdin {
        offset: 0,
        data: Bytes::from_static(b"input"),
    };
    assert_eq!(store.run(&unit, write), UnitTaskResult::Done);
    assert!(store.fresh().contains(&unit));
    let start = |sync| UnitTask::Update {
        change: Change::Starting,
        sync,
    };
    assert!(matches!(store.run(&unit, start(true)), UnitTaskResult::Record(_)));
    assert!(!store.fresh().contains(&unit));
    assert!(
        !path.join("status.lock").exists(),
        "a crash would look like that of a unit that counts"
    );
    assert!(matches!(
        failed_with(store.run(&unit, start(true))),
        UnitError::Refused(_)
    ));
    assert!(path.join("status.lock").exists());
    assert_eq!(store.run(&unit, UnitTask::Sync), UnitTaskResult::Done);
    assert_eq!(
        store.run(&unit, UnitTask::Remove { tombstone: None }),
        UnitTaskResult::Done
    );
    assert_eq!(failed_with(store.run(&unit, UnitTask::Sync)), UnitError::Missing);
}

#[test]
fn what_a_crash_leaves_of_a_unit_without_a_barrier_goes_and_damaged_units_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let record = Record::command("cat", String::new()).to_json();
    let gone = [
        unborn(dir.path(), "empty", b"", b""),
        unborn(dir.path(), "stdin", b"", b"input"),
        unborn(dir.path(), "zeros", &[0; 300], b"input"),
    ];
    let kept = [
        unborn(dir.path(), "whole", &record, b"input"),
        unborn(dir.path(), "garbage", b"{", b"input"),
        unborn(dir.path(), "locked", b"", b"input"),
        unborn(dir.path(), "ran", b"", b"input"),
    ];
    fs::write(kept[2].join("status.lock"), "").unwrap();
    fs::write(kept[3].join("stdout"), "").unwrap();
    let scan = store.scan().unwrap();
    assert_eq!(scan.problems, [] as [String; 0]);
    assert!(gone.iter().all(|path| !path.exists()));
    assert!(kept.iter().all(|path| path.exists()));
    assert_eq!(scan.units.len(), kept.len());
}

#[test]
fn the_checksum_of_what_was_written_in_order_is_known_and_of_anything_else_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let unit = created(&store, "abc12345");
    let expected = |data: &[u8]| HighwayHasher::new(Key::default()).hash64(data);
    let write = |offset, data: &'static [u8]| {
        let data = Bytes::from_static(data);
        store.run(&unit, UnitTask::WriteOutput { offset, data });
    };
    let hash = |len| match store.run(&unit, UnitTask::HashOutput { len }) {
        UnitTaskResult::Hash { checksum, size } => (checksum, size),
        other => panic!("{other:?}"),
    };
    write(0, b"some ");
    write(5, b"output");
    assert_eq!(hash(11), (expected(b"some output"), 11));
    assert_eq!(hash(u64::MAX), (expected(b"some output"), 11));
    assert_eq!(hash(4), (expected(b"some"), 11));
    write(0, b"same");
    assert_eq!(hash(11), (expected(b"same output"), 11));
    store.handles.forget(&unit);
    write(11, b"!");
    assert_eq!(hash(12), (expected(b"same output!"), 12));
}
