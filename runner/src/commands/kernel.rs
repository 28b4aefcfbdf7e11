//! `cargo ktstr kernel build | list | clean`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::kernel::error::KernelError;
use crate::kernel::known::{self, Place};
use crate::kernel::spec::KernelSpec;
use crate::kernel::{build, cache, stock};
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
  cargo ktstr kernel build debian-backports
  cargo ktstr kernel build git+https://git.kernel.org/pub/scm/linux/kernel/git/tj/sched_ext.git#for-next

Environment:
  KTSTR_KERNEL_MIRROR  where versions are downloaded from: a mirror of https://cdn.kernel.org/pub/linux/kernel (the default)
  KTSTR_PACKAGE_MIRROR   where packages are downloaded from: a mirror of http://deb.debian.org/debian (the default)
  KTSTR_PACKAGE_KEYRING  the keys that sign that mirror [default: those of the package debian-archive-keyring]
  KTSTR_CACHE_DIR      where downloads and kernels are kept [default: ~/.cache/ktstr]

Sources are checked against the mirror's sha256sums.asc. Its PGP signature is not verified: HTTPS is trusted. Debian's
packages are checked against the mirror's InRelease, whose signature gpgv verifies. A distribution's kernel is not built:
its image, configuration and modules are prepared for guests.")]
    Build {
        /// Source directory or tarball; a version (6.14.2, or 6.14 for the newest of that series) or a range of series
        /// (6.12..6.14), downloaded; git+URL#REF, fetched; or a distribution's kernel, as --kernel of `test` takes it
        #[arg(value_name = "SPEC")]
        source: String,
        /// Configuration fragment, merged last
        #[arg(long, value_name = "FILE")]
        kconfig: Option<PathBuf>,
    },
    /// List the kernels of this machine, built, prepared and installed, with what each can run.
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove kernels from the cache.
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
        if spec.is_built() && extra.is_none() {
            let kernel = spec.kernel()?;
            eprintln!("kernel: {} is a distribution's kernel; there is nothing to build", kernel.release);
            outln!("{} {}", kernel.release, kernel.image.display());
            continue;
        }
        let entry = build::cached_or_built(&spec.source()?, extra.as_deref())?;
        outln!("{} {}", entry.meta.release, entry.dir.join("bzImage").display());
    }
    Ok(())
}

fn list(json: bool) -> Result<(), KernelError> {
    let all = known::all()?;
    if json {
        outln!("{}", serde_json::to_string(&all).unwrap_or_default());
        return Ok(());
    }
    if all.is_empty() {
        outln!(
            "no kernels; prepare one of Debian's with: cargo ktstr kernel build debian-backports, or build one: cargo ktstr kernel build <source directory, tarball or version>"
        );
    }
    let width = all.iter().map(|k| k.release.len()).max().unwrap_or(0);
    for k in all {
        let key = k.key.as_deref().unwrap_or(match k.place {
            Place::Unreadable => "not readable",
            _ => "installed",
        });
        let can = k.can.map_or("configuration unknown".into(), |can| can.line());
        let source = k.meta.map_or_else(|| k.image.display().to_string(), |m| m.source);
        outln!("{key:16}  {:width$}  {can}  ({source})", k.release);
    }
    Ok(())
}

fn clean(wanted: Option<&str>) -> Result<(), KernelError> {
    let matches = |e: &Entry| wanted.is_none_or(|w| e.key == w || e.meta.release == w);
    let stores = [cache::store()?, stock::store()?];
    let mut removed = 0;
    for store in &stores {
        for e in store.entries()?.into_iter().filter(matches) {
            store.remove(&e)?;
            outln!("removed {} {}", e.key, e.meta.release);
            removed += 1;
        }
    }
    if let (0, Some(wanted)) = (removed, wanted) {
        let hint = " (see cargo ktstr kernel list)".into();
        return Err(KernelError::NotFound { spec: wanted.into(), hint });
    }
    if wanted.is_none() {
        for store in &stores {
            store.remove_abandoned();
            for dir in ["downloads", "git"].map(|d| store.root.join(d)) {
                if store.remove_sources(&dir)? {
                    outln!("removed {}", dir.display());
                }
            }
        }
    }
    Ok(())
}
