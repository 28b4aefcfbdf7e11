//! `cargo ktstr kernel build | list | clean`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::kernel::error::KernelError;
use crate::kernel::spec::KernelSpec;
use crate::kernel::{build, cache, mirror, source};
use crate::output::outln;
use crate::store::cache::Entry;

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
    let entries = cache::store()?.entries()?;
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
    let store = cache::store()?;
    let doomed: Vec<Entry> = store.entries()?.into_iter().filter(matches).collect();
    if doomed.is_empty()
        && let Some(wanted) = wanted
    {
        return Err(KernelError::NotFound {
            spec: wanted.into(),
            hint: " (see cargo ktstr kernel list)".into(),
        });
    }
    for e in doomed {
        store.remove(&e)?;
        outln!("removed {} {}", e.key, e.meta.release);
    }
    if wanted.is_none() {
        store.remove_abandoned();
        for dir in [mirror::downloads()?, source::repositories()?] {
            if store.remove_sources(&dir)? {
                outln!("removed {}", dir.display());
            }
        }
    }
    Ok(())
}
