//! Building a kernel into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::source::{FRAGMENT, Source, key, repositories, version_of};
use super::{cache, options, pahole};
use crate::kernel::error::{KernelError, file_error};
use crate::store::cache::{Entry, Meta, Work};
use crate::store::progress::Progress;
use crate::store::requirements::{require, require_buildable};

/// Lines that a build of Linux 6.12 with our fragment prints (measured); used until a build has been counted here.
const USUAL_LINES: u64 = 2_180;

/// Programs and headers that a build needs, and Debian's packages with them.
const NEEDS: [(&str, &str); 10] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("pahole", "pahole"),
    ("lz4", "lz4"),
    ("xz", "xz-utils"),
    ("/usr/include/libelf.h", "libelf-dev"),
    ("/usr/include/openssl/opensslv.h", "libssl-dev"),
];

/// The entry for `source`, built if it is not there. `extra_config` is merged last.
pub(crate) fn cached_or_built(source: &Source, extra_config: Option<&str>) -> Result<Entry, KernelError> {
    let store = cache::store()?;
    let prepare = || {
        require(&NEEDS)?;
        let tree = if let Source::Tree(path) = source { Some(path) } else { None };
        tree.into_iter().chain([&store.root]).try_for_each(|path| require_buildable(path))?;
        source.fetch()
    };
    let build = |work: &Work| Build { source, extra_config, work }.run();
    store.built(&key(source, extra_config)?, prepare, build)
}

struct Build<'a> {
    source: &'a Source,
    extra_config: Option<&'a str>,
    work: &'a Work,
}

impl Build<'_> {
    fn run(&self) -> Result<Meta, KernelError> {
        let out = self.work.dir.join("out");
        fs::create_dir_all(&out).map_err(file_error(&out))?;
        eprintln!("kernel: building from {} with {}", self.source.name(), version_of("gcc"));
        let tree = self.tree()?;
        pahole::require_for(&tree)?;
        self.configure(&tree, &out)?;
        let config_path = out.join(".config");
        let config = fs::read_to_string(&config_path).map_err(file_error(&config_path))?;
        let missing = options::missing_in_build(&config);
        if options::missing_for_guests(&config, |_| false).is_empty() {
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
        self.collect(&out)?;
        let release = release.trim().to_string();
        Ok(Meta { release, source: self.source.name(), output_lines: lines, ..Meta::default() })
    }

    /// The source as a directory: what is none is unpacked or checked out into the work directory.
    fn tree(&self) -> Result<PathBuf, KernelError> {
        let into = self.work.dir.join("source");
        match self.source {
            Source::Tree(path) => return Ok(path.clone()),
            Source::Tarball(path) => self.work.unpack(path, &into)?,
            Source::Release(release) => self.work.unpack(&release.path, &into)?,
            Source::Commit(commit) => {
                fs::create_dir_all(&into).map_err(file_error(&into))?;
                let index = self.work.dir.join("index");
                self.work.run(commit.checkout(&repositories()?, &into, &index), None)?;
            }
        }
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
        Ok(self.work.run(make, bar.as_mut())?)
    }

    fn collect(&self, out: &Path) -> Result<(), KernelError> {
        let ready = self.work.ready();
        fs::copy(out.join("arch/x86/boot/bzImage"), ready.join("bzImage")).map_err(file_error(&ready))?;
        // For deterministic guests, without symbols and debug sections.
        let mut strip = Command::new("strip");
        strip.arg("--strip-all").arg("-o").arg(ready.join("vmlinux")).arg(out.join("vmlinux"));
        self.work.run(strip, None)?;
        fs::copy(out.join(".config"), ready.join("config")).map_err(file_error(&ready))?;
        Ok(())
    }
}

/// How many lines a build prints.
fn usual_lines() -> u64 {
    let newest = cache::store().ok().and_then(|s| s.entries().ok()?.pop());
    newest.map_or(USUAL_LINES, |e| e.meta.output_lines)
}
