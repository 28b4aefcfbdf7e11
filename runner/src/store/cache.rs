//! Entries by key: `~/.cache/ktstr/KIND/KEY/` with files and `meta.json`.
//!
//! Beside an entry are, while it is built, `KEY.building` and `KEY.log`, and `KEY.lock`, which one process at a time holds.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ktstr_wire::env;
use serde::{Deserialize, Serialize};

use crate::host::interrupt;
use crate::host::surroundings::{self, XDG_CACHE_HOME};
use crate::store::error::{StoreError, file_error};
use crate::store::lock;
use crate::store::logged::Logged;
use crate::store::progress::Progress;

/// What is known of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Of a kernel `make kernelrelease`, of an emulator QEMU's release.
    #[serde(alias = "version")]
    pub release: String,
    /// Where it was built from.
    #[serde(default)]
    pub source: String,
    /// When, seconds since 1970.
    pub built_unix_s: u64,
    /// How long it took.
    pub build_s: u64,
    /// Lines that the build printed; the next one's progress is measured by it.
    #[serde(default)]
    pub output_lines: u64,
}

/// Something in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its key.
    pub key: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What is known of it.
    pub meta: Meta,
}

/// Entries of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// What each of them is, in messages.
    pub what: &'static str,
    /// Their directory.
    pub root: PathBuf,
    /// Files of a whole entry.
    pub files: &'static [&'static str],
}

/// `KTSTR_CACHE_DIR`, else `ktstr` in `XDG_CACHE_HOME` or `~/.cache`.
pub(crate) fn root() -> Result<PathBuf, StoreError> {
    let home = || std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from);
    let user = || surroundings::path(XDG_CACHE_HOME).unwrap_or_else(|| home().join(".cache")).join("ktstr");
    Ok(env::CACHE_DIR.path()?.unwrap_or_else(user))
}

impl Store {
    /// The entry of this key, if it is whole.
    pub(crate) fn entry(&self, key: &str) -> Option<Entry> {
        let dir = self.root.join(key);
        let meta = serde_json::from_slice(&fs::read(dir.join("meta.json")).ok()?).ok()?;
        let whole = self.files.iter().all(|f| dir.join(f).is_file());
        whole.then(|| Entry { key: key.into(), dir, meta })
    }

    /// All entries, the newest last.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let dirs = match fs::read_dir(&self.root) {
            Ok(dirs) => dirs,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(file_error(&self.root)(e)),
        };
        let mut all: Vec<Entry> =
            dirs.flatten().filter_map(|d| self.entry(&d.file_name().to_string_lossy())).collect();
        all.sort_by_key(|e| e.meta.built_unix_s);
        Ok(all)
    }

    /// The entry of this key. If there is none, `prepare` checks and fetches what the build needs, and `build` puts the entry's
    /// files into [`Work::ready`] and returns the release, the source and the number of lines. One process builds, others wait.
    pub(crate) fn built<E: From<StoreError>>(
        &self,
        key: &str,
        prepare: impl FnOnce() -> Result<(), E>,
        build: impl FnOnce(&Work) -> Result<Meta, E>,
    ) -> Result<Entry, E> {
        if let Some(entry) = self.entry(key) {
            return Ok(entry);
        }
        prepare()?;
        fs::create_dir_all(&self.root).map_err(file_error(&self.root))?;
        let _lock = lock::exclusive(&self.path(key, "lock"), &format!("building the {} {key}", self.what))?;
        if let Some(entry) = self.entry(key) {
            return Ok(entry);
        }
        let work = Work::new(self.path(key, "building"), self.path(key, "log"))?;
        self.remove_abandoned();
        let started = Instant::now();
        let result = build(&work).and_then(|meta| {
            Ok(self.publish(key, &work, Meta { build_s: started.elapsed().as_secs(), ..meta })?)
        });
        if interrupt::has_arrived() {
            // That takes a while, and the terminal may be gone.
            let _ = writeln!(io::stderr(), "{}: interrupted; removing the unfinished build", self.what);
        }
        let _ = fs::remove_dir_all(&work.dir);
        result
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.root.join(format!("{key}.{extension}"))
    }

    fn publish(&self, key: &str, work: &Work, meta: Meta) -> Result<Entry, StoreError> {
        let (ready, dir) = (work.ready(), self.root.join(key));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let json = serde_json::to_vec_pretty(&Meta { built_unix_s: now, ..meta });
        fs::write(ready.join("meta.json"), json.map_err(|e| file_error(&ready)(e.into()))?)
            .map_err(file_error(&ready))?;
        // An unfinished entry of that name has no holder.
        let _ = fs::remove_dir_all(&dir);
        fs::rename(&ready, &dir).map_err(file_error(&dir))?;
        self.entry(key).ok_or_else(|| file_error(&dir)(io::ErrorKind::NotFound.into()))
    }

    /// Removes an entry that no process is building.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), StoreError> {
        let path = self.path(&entry.key, "lock");
        let lock = File::create(&path).map_err(file_error(&path))?;
        if lock.try_lock().is_err() {
            return Err(StoreError::InUse(entry.key.clone()));
        }
        fs::remove_dir_all(&entry.dir).map_err(file_error(&entry.dir))?;
        let _ = fs::remove_file(&path);
        Ok(())
    }

    /// Removes what killed builds left, which is gigabytes.
    pub(crate) fn remove_abandoned(&self) {
        for work in fs::read_dir(&self.root).into_iter().flatten().flatten().map(|d| d.path()) {
            if work.extension().is_none_or(|e| e != "building") {
                continue;
            }
            let abandoned = File::open(work.with_extension("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
            if abandoned && fs::remove_dir_all(&work).is_ok() {
                eprintln!(
                    "{}: removed {}, which a build that was killed had left",
                    self.what,
                    work.display()
                );
            }
        }
    }

    /// Removes a directory of sources beside the entries, unless another process has a lock on one of them. False if there is none.
    pub(crate) fn remove_sources(&self, dir: &Path) -> Result<bool, StoreError> {
        let Ok(files) = fs::read_dir(dir) else { return Ok(false) };
        let mut held = Vec::new();
        for path in files.flatten().map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "lock")) {
            let lock = File::open(&path).map_err(file_error(&path))?;
            if lock.try_lock().is_err() {
                return Err(StoreError::InUse(path.with_extension("").display().to_string()));
            }
            held.push(lock);
        }
        fs::remove_dir_all(dir).map_err(file_error(dir))?;
        Ok(true)
    }
}

/// The directory of one build, which is removed at its end.
#[derive(Debug)]
pub(crate) struct Work {
    /// For the build's own files.
    pub dir: PathBuf,
    logged: Logged,
}

impl Work {
    fn new(dir: PathBuf, log: PathBuf) -> Result<Work, StoreError> {
        // What a killed build left: its holder is gone, for we have the lock.
        let _ = fs::remove_dir_all(&dir);
        let stop: Arc<AtomicBool> = interrupt::stop_flag().map_err(file_error(&dir))?;
        let work = Work { dir, logged: Logged { log, stop } };
        fs::create_dir_all(work.ready()).map_err(file_error(&work.dir))?;
        Ok(work)
    }

    /// What becomes the entry.
    pub(crate) fn ready(&self) -> PathBuf {
        self.dir.join("ready")
    }

    /// Runs a command of the build, and counts the lines that it prints.
    pub(crate) fn run(&self, command: Command, bar: Option<&mut Progress>) -> Result<u64, StoreError> {
        self.logged.run(command, bar)
    }

    /// Unpacks an archive of one directory `into` a new one.
    pub(crate) fn unpack(&self, archive: &Path, into: &Path) -> Result<(), StoreError> {
        fs::create_dir_all(into).map_err(file_error(into))?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(archive).arg("-C").arg(into).arg("--strip-components=1");
        self.run(tar, None).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(root: &Path) -> Store {
        Store { what: "thing", root: root.into(), files: &["file"] }
    }

    fn built(store: &Store, key: &str) -> Result<Entry, StoreError> {
        store.built(
            key,
            || Ok(()),
            |work| {
                fs::write(work.ready().join("file"), "").map_err(file_error(&work.dir))?;
                Ok(Meta { release: "1".into(), ..Meta::default() })
            },
        )
    }

    #[test]
    fn builds_that_were_killed_are_removed_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir_all(root.path().join(name).join("source")).unwrap();
        ["killed.building", "running.building", "kept", "unlocked.building"].into_iter().for_each(make);
        let lock = |key: &str| File::create(root.path().join(format!("{key}.lock"))).unwrap();
        drop(lock("killed"));
        let running = lock("running");
        running.try_lock().unwrap();
        store(root.path()).remove_abandoned();
        let is_there = |name: &str| root.path().join(name).exists();
        assert!(!is_there("killed.building") && is_there("running.building") && is_there("kept"));
        // It has not come to its lock yet, which is made first: not one of ours.
        assert!(is_there("unlocked.building"));
    }

    #[test]
    fn entry_is_built_once_and_not_removed_while_its_lock_is_held() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let entry = built(&store, "k").unwrap();
        let again = store.built("k", || unreachable!(), |_| unreachable!());
        assert_eq!(Ok(&entry), again.as_ref().map_err(StoreError::to_string));
        assert_eq!(store.entries().unwrap(), std::slice::from_ref(&entry));
        assert!(!root.path().join("k.building").exists());
        let lock = File::create(root.path().join("k.lock")).unwrap();
        lock.try_lock().unwrap();
        assert!(matches!(store.remove(&entry), Err(StoreError::InUse(key)) if key == "k"));
        drop(lock);
        store.remove(&entry).unwrap();
        assert!(store.entry("k").is_none());
    }

    #[test]
    fn build_that_fails_leaves_no_entry_and_no_files() {
        let root = tempfile::tempdir().unwrap();
        let failed =
            store(root.path()).built("k", || Ok(()), |work| Err(StoreError::Place(work.dir.clone())));
        assert!(matches!(failed, Err(StoreError::Place(_))));
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().map(|f| f.file_name()).collect();
        assert_eq!(left, ["k.lock"]);
    }
}
