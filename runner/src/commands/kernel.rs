//! `cargo ktstr kernel build | list | clean`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::kernel::cache::{self, Entry};
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::spec::KernelSpec;
use crate::kernel::{build, mirror, source};
use crate::output::outln;

/// `cargo ktstr kernel`.
#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Debug, Subcommand)]
enum KernelCommand {
    /// Build a kernel for guests into the cache, unless it is there.
    #[command(after_help = "Examples:
  cargo ktstr kernel build ../linux
  cargo ktstr kernel build /usr/src/linux-source-6.12.tar.xz --kconfig lab.config
  cargo ktstr kernel build 6.14.2
  cargo ktstr kernel build 6.12..6.14
  cargo ktstr kernel build git+https://git.kernel.org/pub/scm/linux/kernel/git/tj/sched_ext.git#for-next

Environment:
  KTSTR_KERNEL_MIRROR  where versions are downloaded from: a mirror of https://cdn.kernel.org/pub/linux/kernel (the default)
  KTSTR_CACHE_DIR      where downloads and kernels are kept [default: ~/.cache/ktstr]

Downloads are checked against the mirror's sha256sums.asc. Its PGP signature is not verified: HTTPS is trusted.")]
    Build {
        /// Source directory or tarball; a version (6.14.2, or 6.14 for the newest of that series) or a range of series
        /// (6.12..6.14), downloaded; or git+URL#REF, fetched
        #[arg(value_name = "SPEC")]
        source: String,
        /// Configuration fragment, merged last
        #[arg(long, value_name = "FILE")]
        kconfig: Option<PathBuf>,
    },
    /// List the cached kernels, the newest last.
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove cached kernels.
    Clean {
        /// Key or release of a cached kernel
        #[arg(required_unless_present = "all")]
        kernel: Option<String>,
        /// All kernels, and the sources that were downloaded or fetched
        #[arg(long)]
        all: bool,
    },
}

impl KernelArgs {
    /// Whether the command changes nothing.
    pub(crate) fn only_lists(&self) -> bool {
        matches!(self.command, KernelCommand::List { .. })
    }
}

/// Runs the subcommand.
pub(crate) fn run(args: &KernelArgs) -> Result<(), KernelError> {
    match &args.command {
        KernelCommand::Build { source, kconfig } => build(source, kconfig.as_deref()),
        KernelCommand::List { json } => list(*json),
        KernelCommand::Clean { kernel, .. } => clean(kernel.as_deref()),
    }
}

fn build(source: &str, kconfig: Option<&Path>) -> Result<(), KernelError> {
    let read =
        |p: &Path| fs::read_to_string(p).map_err(|source| KernelError::Kconfig { path: p.into(), source });
    let extra = kconfig.map(read).transpose()?;
    let cwd = Path::new(".");
    for spec in KernelSpec::parse(source, cwd)?.expand()? {
        let entry = build::cached_or_built(&spec.source()?, extra.as_deref())?;
        outln!("{} {}", entry.meta.release, entry.dir.join("bzImage").display());
    }
    Ok(())
}

fn list(json: bool) -> Result<(), KernelError> {
    let entries = cache::entries()?;
    if json {
        let rows: Vec<_> = entries
            .iter()
            .map(|e| serde_json::json!({"key": e.key, "image": e.dir.join("bzImage"), "meta": e.meta}))
            .collect();
        outln!("{}", serde_json::Value::from(rows));
        return Ok(());
    }
    if entries.is_empty() {
        outln!(
            "no cached kernels; build one with: cargo ktstr kernel build <source directory, tarball or version>"
        );
    }
    for e in entries {
        outln!("{}  {:24} {}", e.key, e.meta.release, e.meta.source);
    }
    Ok(())
}

fn clean(wanted: Option<&str>) -> Result<(), KernelError> {
    let matches = |e: &Entry| wanted.is_none_or(|w| e.key == w || e.meta.release == w);
    let doomed: Vec<Entry> = cache::entries()?.into_iter().filter(matches).collect();
    if doomed.is_empty()
        && let Some(wanted) = wanted
    {
        return Err(KernelError::NotFound {
            spec: wanted.into(),
            hint: " (see cargo ktstr kernel list)".into(),
        });
    }
    for e in doomed {
        let lock_path = cache::root()?.join(format!("{}.lock", e.key));
        let lock = File::create(&lock_path).map_err(file_error(&lock_path))?;
        if lock.try_lock().is_err() {
            return Err(KernelError::InUse(e.key));
        }
        fs::remove_dir_all(&e.dir).map_err(file_error(&e.dir))?;
        let _ = fs::remove_file(&lock_path);
        outln!("removed {} {}", e.key, e.meta.release);
    }
    if wanted.is_none() {
        build::remove_abandoned(&cache::root()?);
        [mirror::downloads()?, source::repositories()?].iter().try_for_each(|dir| clean_sources(dir))?;
    }
    Ok(())
}

/// Removes a directory of sources, unless another process has the lock on one of them.
fn clean_sources(dir: &Path) -> Result<(), KernelError> {
    let Ok(files) = fs::read_dir(dir) else { return Ok(()) };
    let mut held = Vec::new();
    for path in files.flatten().map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "lock")) {
        let lock = File::open(&path).map_err(file_error(&path))?;
        if lock.try_lock().is_err() {
            return Err(KernelError::InUse(path.with_extension("").display().to_string()));
        }
        held.push(lock);
    }
    fs::remove_dir_all(dir).map_err(file_error(dir))?;
    outln!("removed {}", dir.display());
    Ok(())
}
