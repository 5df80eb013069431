//! The store on a real directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::super::record::tests::record;
use super::super::{Container, Status};
use super::*;

fn id(id: &str) -> ContainerId {
    id.parse().unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("root")).unwrap();
    (dir, store)
}

fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&store.path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_is_there_whole_or_not_at_all() {
    let (_dir, store) = store();
    let (entry, held) = store.create(&id("x"), &record("x")).unwrap();
    assert_eq!(names(&store), ["x"]);
    let metadata = fs::metadata(store.path.join("x")).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(store.path.join("x/state.json")).unwrap().mode() & 0o777, 0o600);
    assert!(matches!(store.create(&id("x"), &record("x")), Err(StoreError::Exists)));
    assert_eq!(names(&store), ["x"], "nothing is left of the second");
    let container = Container::find(&store, &id("x")).unwrap().unwrap();
    assert_eq!(container.status, Status::Creating);
    drop(held);
    let container = Container::look(container.entry).unwrap().unwrap();
    assert_eq!(container.status, Status::Stopped, "its creator is gone, and there is no monitor");
    assert!(entry.claim_removal().unwrap());
    entry.remove().unwrap();
    assert_eq!(names(&store), [""; 0]);
    assert!(!container.entry.claim_removal().unwrap(), "it is removed once");
    assert!(Container::find(&store, &id("x")).unwrap().is_none());
}

#[test]
fn the_record_counts_while_the_monitor_lives() {
    let (_dir, store) = store();
    let (entry, creating) = store.create(&id("x"), &record("x")).unwrap();
    let alive = entry.hold(Lock::Alive).unwrap();
    let status = || Container::find(&store, &id("x")).unwrap().unwrap().status;
    let mut running = record("x");
    running.status = Status::Running;
    entry.write(&running).unwrap();
    assert_eq!(status(), Status::Creating);
    drop(creating);
    assert_eq!(status(), Status::Running);
    drop(alive);
    assert_eq!(status(), Status::Stopped);
}

#[test]
fn what_killed_processes_left_is_swept() {
    let (_dir, store) = store();
    let left = store.path.join("~1.0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("state.json.new"), "{").unwrap();
    let (_name, in_the_making) = store.temporary().unwrap();
    let strange = store.path.join("~2.0");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("precious"), "").unwrap();
    let (entry, _held) = store.create(&id("x"), &record("x")).unwrap();
    assert!(!left.exists());
    assert!(strange.join("precious").exists());
    assert!(in_the_making.is_named().unwrap());
    assert_eq!(store.ids().unwrap(), [id("x")]);
    entry.remove().unwrap();
}

#[test]
fn what_is_not_ours_is_neither_followed_nor_removed() {
    let (dir, store) = store();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("state.json"), serde_json::to_vec(&record("link")).unwrap()).unwrap();
    symlink(&elsewhere, store.path.join("link")).unwrap();
    fs::write(store.path.join("file"), "").unwrap();
    for name in ["link", "file"] {
        let error = Container::find(&store, &id(name)).unwrap_err();
        assert!(matches!(error, StoreError::NotADirectory(_)), "{error}");
        assert!(matches!(store.create(&id(name), &record(name)), Err(StoreError::Exists)));
    }
    assert!(elsewhere.join("state.json").exists());

    let documents = store.path.join("documents");
    fs::create_dir(&documents).unwrap();
    fs::write(documents.join("letter"), "").unwrap();
    fs::write(documents.join("state.json"), "").unwrap();
    let error = store.entry(&id("documents")).unwrap().unwrap().claim_removal().unwrap_err();
    assert!(error.to_string().ends_with("documents: holds \"letter\", which is no file of drupe"), "{error}");
    assert!(documents.join("letter").exists() && documents.join("state.json").exists());

    let shared = store.path.join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(store.entry(&id("shared")), Err(StoreError::NotOurs(_))));
}

#[test]
fn bad_records_are_stale_and_can_be_removed() {
    let (_dir, store) = store();
    type Spoil = fn(&Path);
    let spoils: [Spoil; 6] = [
        |state| fs::remove_file(state).unwrap(),
        |state| fs::write(state, "").unwrap(),
        |state| fs::write(state, "{\"ociVersion\"").unwrap(),
        |state| fs::write(state, "{\"ociVersion\":\"1.0.0\",\"id\":\"x\",\"pid\":1}").unwrap(),
        |state| {
            fs::rename(state, state.with_file_name("control")).unwrap();
            symlink("control", state).unwrap();
        },
        |state| {
            fs::remove_file(state).unwrap();
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, state, FileType::Fifo, mode, 0).unwrap();
        },
    ];
    for spoil in spoils {
        let (entry, held) = store.create(&id("x"), &record("x")).unwrap();
        drop(held);
        spoil(&store.path.join("x/state.json"));
        let container = Container::look(entry).unwrap().unwrap();
        assert!(container.record.is_err());
        assert_eq!(container.status, Status::Stopped);
        assert!(container.monitor().is_none());
        assert!(container.entry.claim_removal().unwrap());
        container.entry.remove().unwrap();
    }
}

#[test]
fn a_container_in_the_making_is_not_waited_for_for_ever() {
    let (_dir, store) = store();
    let (entry, _creating) = store.create(&id("x"), &record("x")).unwrap();
    let container = Container::look(entry).unwrap().unwrap();
    let error = container.settle_within(Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "container is still being created after 0 s");
}

#[test]
fn a_monitor_without_a_record_is_not_over() {
    let (_dir, store) = store();
    let (entry, creating) = store.create(&id("x"), &record("x")).unwrap();
    let alive = entry.hold(Lock::Alive).unwrap();
    drop(creating);
    fs::write(store.path.join("x/state.json"), "of another format").unwrap();
    let container = Container::look(entry).unwrap().unwrap();
    assert!(container.record.is_err());
    assert_eq!(container.status, Status::Running);
    drop(alive);
    let container = Container::look(container.entry).unwrap().unwrap();
    assert_eq!(container.status, Status::Stopped);
}

#[test]
fn a_name_that_is_taken_does_not_keep_a_removal() {
    let (_dir, store) = store();
    let (mut entry, _held) = store.create(&id("x"), &record("x")).unwrap();
    let left = store.path.join("~1.0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("precious"), "").unwrap();
    assert!(matches!(entry.rename(["~1.0".into()].into_iter()), Err(StoreError::Busy)));
    entry.rename(["~1.0", "~1.1"].map(str::to_owned).into_iter()).unwrap();
    assert_eq!(names(&store), ["~1.0", "~1.1"]);
    assert!(left.join("precious").exists());
}

#[test]
fn a_root_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    assert!(Store::find(&root).unwrap().is_none());
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(Store::open(&root), Err(StoreError::NotOurs(_))));
}

#[test]
fn of_many_that_want_an_id_one_at_a_time_has_it() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let (_dir, store) = store();
    let (holders, had) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Ok((entry, held)) = store.create(&id("x"), &record("x")) {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        had.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                        assert!(entry.claim_removal().unwrap());
                        entry.remove().unwrap();
                    }
                }
            });
        }
    });
    assert!(had.into_inner() > 0);
    assert_eq!(names(&store), [""; 0]);
}
