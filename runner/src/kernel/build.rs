//! Building a kernel into the cache.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::cache::{self, Entry, Meta};
use super::logged::Logged;
use super::progress::Progress;
use super::source::{FRAGMENT, Source, key, repositories, version_of};
use super::{lock, options};
use crate::host::interrupt;
use crate::kernel::error::{KernelError, file_error};

/// Lines that a build of Linux 6.12 with our fragment prints (measured); used until a build has been counted here.
const USUAL_LINES: u64 = 2_180;

/// Programs that a build needs, and Debian's packages with them.
const TOOLS: [(&str, &str); 8] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("pahole", "pahole"),
    ("lz4", "lz4"),
    ("xz", "xz-utils"),
];

/// Headers that a build needs, and Debian's packages with them.
const HEADERS: [(&str, &str); 2] =
    [("/usr/include/libelf.h", "libelf-dev"), ("/usr/include/openssl/opensslv.h", "libssl-dev")];

fn require_tools() -> Result<(), KernelError> {
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|d| d.join(program).is_file())
    };
    let programs = TOOLS.iter().filter(|(p, _)| !on_path(p));
    let headers = HEADERS.iter().filter(|(h, _)| !Path::new(h).exists());
    let missing: Vec<&str> = programs.chain(headers).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { Err(KernelError::Tools(missing.join(" "))) }
}

/// The kernel's Makefile refuses paths with spaces and colons ("source directory cannot contain spaces or colons").
fn require_buildable(path: &Path) -> Result<(), KernelError> {
    let refused = |c: char| c.is_whitespace() || c == ':';
    if path.to_string_lossy().contains(refused) { Err(KernelError::Place(path.into())) } else { Ok(()) }
}

/// The entry for `source`, built if it is not there. `extra_config` is merged last.
pub(crate) fn cached_or_built(source: &Source, extra_config: Option<&str>) -> Result<Entry, KernelError> {
    let key = key(source, extra_config)?;
    let root = cache::root()?;
    let dir = root.join(&key);
    if let Some(entry) = cache::entry(&dir) {
        return Ok(entry);
    }
    require_tools()?;
    let tree = if let Source::Tree(path) = source { Some(path) } else { None };
    tree.into_iter().chain([&root]).try_for_each(|path| require_buildable(path))?;
    source.fetch()?;
    fs::create_dir_all(&root).map_err(file_error(&root))?;
    let _lock = lock::exclusive(&root.join(format!("{key}.lock")), &format!("building {key}"))?;
    if let Some(entry) = cache::entry(&dir) {
        return Ok(entry);
    }
    let work = root.join(format!("{key}.building"));
    // What a killed build left: its holder is gone, for we have the lock.
    let _ = fs::remove_dir_all(&work);
    remove_abandoned(&root);
    let build =
        Build { source, extra_config, work: &work, stop: interrupt::stop_flag().map_err(file_error(&work))? };
    let result = build.run(&dir);
    if matches!(&result, Err(KernelError::Interrupted(_))) {
        // That takes a while, and the terminal may be gone.
        let _ = writeln!(io::stderr(), "kernel: interrupted; removing the unfinished build");
    }
    let _ = fs::remove_dir_all(&work);
    // The log is what the message of a failed build points to.
    if !matches!(&result, Err(KernelError::Build { .. })) {
        let _ = fs::remove_file(build.log_path());
    }
    result
}

/// Removes what killed builds of other kernels left, which is gigabytes.
pub(crate) fn remove_abandoned(root: &Path) {
    for work in fs::read_dir(root).into_iter().flatten().flatten().map(|d| d.path()) {
        if work.extension().is_none_or(|e| e != "building") {
            continue;
        }
        let abandoned = File::open(work.with_extension("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned && fs::remove_dir_all(&work).is_ok() {
            eprintln!("kernel: removed {}, which a build that was killed had left", work.display());
        }
    }
}

struct Build<'a> {
    source: &'a Source,
    extra_config: Option<&'a str>,
    work: &'a Path,
    stop: std::sync::Arc<AtomicBool>,
}

impl Build<'_> {
    fn log_path(&self) -> PathBuf {
        self.work.with_extension("log")
    }

    fn run(&self, dir: &Path) -> Result<Entry, KernelError> {
        let started = Instant::now();
        let out = self.work.join("out");
        fs::create_dir_all(&out).map_err(file_error(&out))?;
        eprintln!("kernel: building from {} with {}", self.source.name(), version_of("gcc"));
        let tree = self.tree()?;
        self.configure(&tree, &out)?;
        let config_path = out.join(".config");
        let config = fs::read_to_string(&config_path).map_err(file_error(&config_path))?;
        let missing = options::missing_in_build(&config);
        if options::missing_for_guests(&config, false).is_empty() {
            for m in &missing {
                eprintln!("kernel: this source has no CONFIG_{}: {}", m.name, m.purpose);
            }
        } else {
            let release = self.source.name();
            let fix = "the source is too old, or --kconfig turned it off".into();
            return Err(KernelError::Lacks { release, missing, fix });
        }
        let jobs = std::thread::available_parallelism().map_or(1, |n| n.get());
        let lines = self.make(&tree, &out, &[&format!("-j{jobs}"), "bzImage"], true)?;
        let release = fs::read_to_string(out.join("include/config/kernel.release")).unwrap_or_default();
        let meta = Meta {
            release: release.trim().to_string(),
            source: self.source.name(),
            built_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            build_s: started.elapsed().as_secs(),
            output_lines: lines,
        };
        self.publish(&out, &meta, dir)
    }

    /// The source as a directory: what is none is unpacked or checked out into the work directory.
    fn tree(&self) -> Result<PathBuf, KernelError> {
        let into = self.work.join("source");
        let unpack = match self.source {
            Source::Tree(path) => return Ok(path.clone()),
            Source::Tarball(path) => unpack(path, &into),
            Source::Release(release) => unpack(&release.path, &into),
            Source::Commit(commit) => commit.checkout(&repositories()?, &into, &self.work.join("index")),
        };
        fs::create_dir_all(&into).map_err(file_error(&into))?;
        self.run_logged(unpack, None)?;
        if !super::source::is_kernel_tree(&into) {
            let reason = "it holds no kernel source tree".into();
            return Err(KernelError::NotAKernel { path: self.source.name().into(), reason });
        }
        Ok(into)
    }

    fn configure(&self, tree: &Path, out: &Path) -> Result<(), KernelError> {
        self.make(tree, out, &["allnoconfig"], false)?;
        let mut merged = fs::read_to_string(out.join(".config")).map_err(file_error(out))?;
        // The last setting of an option counts; olddefconfig resolves what depends on it.
        for fragment in [FRAGMENT, self.extra_config.unwrap_or_default()] {
            merged.push_str(fragment);
            merged.push('\n');
        }
        fs::write(out.join(".config"), merged).map_err(file_error(out))?;
        self.make(tree, out, &["olddefconfig"], false)?;
        Ok(())
    }

    fn make(&self, tree: &Path, out: &Path, targets: &[&str], progress: bool) -> Result<u64, KernelError> {
        let mut make = Command::new("make");
        make.arg("-C").arg(tree).arg(format!("O={}", out.display())).args(targets);
        // The same source gives the same image.
        make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
            .env("KBUILD_BUILD_USER", "ktstr")
            .env("KBUILD_BUILD_HOST", "ktstr");
        if let Source::Commit(commit) = self.source {
            // Commits have different releases, as with CONFIG_LOCALVERSION_AUTO in a repository.
            make.env("LOCALVERSION", format!("-g{}", commit.short_hash()));
        }
        let mut bar = progress.then(|| Progress::new("kernel", 0, usual_lines()));
        self.run_logged(make, bar.as_mut())
    }

    /// Runs a command with its output in the build's log, and counts the lines.
    fn run_logged(&self, command: Command, bar: Option<&mut Progress>) -> Result<u64, KernelError> {
        Logged { log: self.log_path(), stop: self.stop.clone() }.run(command, bar)
    }

    fn publish(&self, out: &Path, meta: &Meta, dir: &Path) -> Result<Entry, KernelError> {
        let ready = self.work.join("ready");
        fs::create_dir_all(&ready).map_err(file_error(&ready))?;
        fs::copy(out.join("arch/x86/boot/bzImage"), ready.join("bzImage")).map_err(file_error(&ready))?;
        // For deterministic guests, without symbols and debug sections.
        let mut strip = Command::new("strip");
        strip.arg("--strip-all").arg("-o").arg(ready.join("vmlinux")).arg(out.join("vmlinux"));
        self.run_logged(strip, None)?;
        fs::copy(out.join(".config"), ready.join("config")).map_err(file_error(&ready))?;
        let json = serde_json::to_vec_pretty(meta).map_err(|e| file_error(&ready)(e.into()))?;
        fs::write(ready.join("meta.json"), json).map_err(file_error(&ready))?;
        // An unfinished entry of that name has no holder.
        let _ = fs::remove_dir_all(dir);
        fs::rename(&ready, dir).map_err(file_error(dir))?;
        cache::entry(dir).ok_or_else(|| file_error(dir)(io::ErrorKind::NotFound.into()))
    }
}

fn unpack(archive: &Path, into: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(archive).arg("-C").arg(into).arg("--strip-components=1");
    tar
}

/// How many lines a build prints.
fn usual_lines() -> u64 {
    cache::entries().ok().and_then(|mut e| e.pop()).map_or(USUAL_LINES, |e| e.meta.output_lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_that_were_killed_are_removed_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir_all(root.path().join(name).join("source")).unwrap();
        ["killed.building", "running.building", "kept", "unlocked.building"].into_iter().for_each(make);
        let lock = |key: &str| File::create(root.path().join(format!("{key}.lock"))).unwrap();
        drop(lock("killed"));
        let running = lock("running");
        running.try_lock().unwrap();
        remove_abandoned(root.path());
        let is_there = |name: &str| root.path().join(name).exists();
        assert!(!is_there("killed.building") && is_there("running.building") && is_there("kept"));
        // It has not come to its lock yet, which is made first: not one of ours.
        assert!(is_there("unlocked.building"));
    }

    #[test]
    fn paths_that_the_kernel_cannot_be_built_in_are_named_before_a_build() {
        assert!(require_buildable(Path::new("/src/p[1],x/linux")).is_ok());
        for path in ["/src/my linux", "/src/a:b/linux"] {
            let error = require_buildable(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(path) && error.exit_status() == crate::exit::USAGE, "{error}");
        }
    }
}
