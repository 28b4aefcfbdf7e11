//! Kernels: what `--kernel SPEC` means, building, the cache.
//!
//! [`resolve`] turns a specification into a [`Kernel`] that can be booted. [`source`] says what a source is and what
//! decides a build, [`build`] builds, [`cache`] keeps, [`options`] checks the configuration, [`installed`] finds the
//! distribution's kernels and their modules, [`command`] is `cargo ktstr kernel`.

pub mod build;
pub mod cache;
pub mod command;
pub mod installed;
pub mod options;
pub mod source;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit;
use crate::run::identity::sha256_file;
pub use command::{KernelArgs, run};
use options::MissingOption;

/// A kernel that can be booted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// The bzImage or vmlinux.
    pub image: PathBuf,
    /// The same kernel as a vmlinux, which starts without unpacking itself, and whose boot is short where time is counted in
    /// instructions ([`ktstr_vmm::quicken_calibration`]); only of kernels that were built here. For `sim` and `kvm`.
    pub sim_image: Option<PathBuf>,
    /// `uname -r` as far as it can be told from the outside, else the image's file name.
    pub release: String,
    /// SHA-256 of the image.
    pub sha256: String,
    /// Its configuration, where it is known.
    pub config: Option<String>,
    /// SHA-256 of the configuration.
    pub config_sha256: Option<String>,
    /// Modules to load in this order, decompressed.
    pub modules: Vec<PathBuf>,
    /// What to write after `--kernel` to get it again.
    pub source: String,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Nothing is at this path, and no installed kernel has this name.
    #[error(
        "no kernel '{spec}': no such file or directory, and no installed kernel of that release{hint}; --kernel takes a source directory, a source tarball, a bzImage or vmlinux, or the release of an installed kernel"
    )]
    NotFound {
        /// What was asked for.
        spec: String,
        /// Installed releases.
        hint: String,
    },
    /// Nothing was asked for and nothing was found.
    #[error(
        "no kernel found: KTSTR_KERNEL is not set, there is no ./linux or ../linux, no cached kernel and no readable installed one; give one with --kernel, or build one: cargo ktstr kernel build /usr/src/linux-source-6.12.tar.xz"
    )]
    None,
    /// A directory or file that is neither.
    #[error("{path} is no kernel: {reason}")]
    NotAKernel {
        /// The path.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The configuration lacks what ktstr needs.
    #[error("the kernel {release} lacks:{}\n{mend}", list(.missing))]
    Lacks {
        /// Which kernel.
        release: String,
        /// What is missing, and what for.
        missing: Vec<MissingOption>,
        /// What to do.
        mend: String,
    },
    /// The fragment of `--kconfig` cannot be read.
    #[error("--kconfig {path}: {source}; it takes a file of lines like CONFIG_NAME=y")]
    Kconfig {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The build failed.
    #[error("the kernel did not build; the last of its output:\n{tail}\nall of it: {log}")]
    Build {
        /// The last lines.
        tail: String,
        /// The log.
        log: PathBuf,
    },
    /// The disk of the cache is full.
    #[error(
        "no space left in {0}: a build takes about 3 GB while it runs; free some, or set KTSTR_CACHE_DIR to a directory on another disk"
    )]
    NoSpace(PathBuf),
    /// Programs or headers are missing.
    #[error("to build a kernel, install: apt-get install {0}")]
    Tools(String),
    /// Files.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted; the unfinished build was removed")]
    Interrupted,
    /// The cached kernel is being used.
    #[error("{0} is in use by another process")]
    InUse(String),
}

fn list(missing: &[MissingOption]) -> String {
    missing.iter().map(|m| format!("\n  CONFIG_{}: {}", m.name, m.purpose)).collect()
}

impl KernelError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            KernelError::NotFound { .. } | KernelError::None => 10,
            KernelError::NotAKernel { .. } => 11,
            KernelError::Lacks { .. } => exit::KERNEL_LACKS,
            KernelError::Kconfig { .. } => exit::USAGE,
            KernelError::Build { .. } => 13,
            KernelError::Tools(_) => exit::HOST_LACKS,
            KernelError::NoSpace(_) => exit::NO_SPACE,
            KernelError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => exit::NO_SPACE,
            KernelError::File { .. } | KernelError::InUse(_) => exit::INTERNAL,
            KernelError::Interrupted => exit::INTERRUPTED,
        }
    }

    /// A test wants a scheduler and the kernel has no sched_ext.
    pub fn no_sched_ext(kernel: &Kernel, scheduler: &str) -> KernelError {
        KernelError::Lacks {
            release: kernel.release.clone(),
            missing: options::missing_for_sched_ext(kernel.config.as_deref().unwrap_or_default()),
            mend: format!(
                "the scheduler {scheduler} needs it; build a kernel of 6.12 or newer with: cargo ktstr kernel build <source directory or tarball>"
            ),
        }
    }
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> KernelError + '_ {
    move |source| KernelError::File { path: path.into(), source }
}

impl Kernel {
    /// A kernel from an image and what is known of it.
    fn new(
        image: PathBuf,
        release: String,
        config: Option<String>,
        source: String,
    ) -> Result<Kernel, KernelError> {
        let sha256 = sha256_file(&image).map_err(file_error(&image))?;
        let config_sha256 = config.as_ref().map(|c| source::hex_digest(c.as_bytes()));
        Ok(Kernel {
            image,
            sim_image: None,
            release,
            sha256,
            config,
            config_sha256,
            modules: Vec::new(),
            source,
        })
    }

    /// That it can show the host's files, as far as its configuration is known.
    pub fn require_for_shells(&self) -> Result<(), KernelError> {
        let missing = self.config.as_deref().map(options::missing_for_shells).unwrap_or_default();
        if missing.is_empty() {
            return Ok(());
        }
        let mend =
            "build one with ktstr's own options: cargo ktstr kernel build <source directory or tarball>";
        Err(KernelError::Lacks { release: self.release.clone(), missing, mend: mend.into() })
    }

    /// Whether it has sched_ext; `None` where its configuration is not known.
    pub fn supports_sched_ext(&self) -> Option<bool> {
        self.config.as_deref().map(|c| options::missing_for_sched_ext(c).is_empty())
    }
}

/// The kernel for `spec`, or, without one, the first of `KTSTR_KERNEL`, `./linux`, `../linux`, the newest cached kernel, the
/// installed kernels. Builds if needed. What was chosen and why goes to standard error.
pub fn resolve(spec: Option<&str>, cwd: &Path) -> Result<Kernel, KernelError> {
    let (kernel, why) = choose(spec, cwd)?;
    eprintln!("kernel: {} ({}), {why}", kernel.release, kernel.image.display());
    if let Some(config) = &kernel.config {
        let missing = options::missing_for_guests(config, !kernel.modules.is_empty());
        if !missing.is_empty() {
            let mend =
                "build one with ktstr's own options: cargo ktstr kernel build <source directory or tarball>"
                    .into();
            return Err(KernelError::Lacks { release: kernel.release, missing, mend });
        }
    }
    Ok(kernel)
}

fn choose(spec: Option<&str>, cwd: &Path) -> Result<(Kernel, String), KernelError> {
    if let Some(spec) = spec {
        return Ok((from_spec(spec, cwd)?, "as --kernel says".into()));
    }
    if let Ok(spec) = std::env::var("KTSTR_KERNEL")
        && !spec.is_empty()
    {
        return Ok((from_spec(&spec, cwd)?, "as KTSTR_KERNEL says".into()));
    }
    for dir in ["linux", "../linux"] {
        if source::is_kernel_tree(&cwd.join(dir)) {
            return Ok((from_spec(dir, cwd)?, format!("built from {dir}, for no --kernel was given")));
        }
    }
    if let Some(entry) = cache::entries()?.pop() {
        return Ok((entry.kernel()?, "the newest cached one, for no --kernel was given".into()));
    }
    match installed::releases().pop() {
        Some(release) => Ok((installed::kernel(&release)?, "installed, for no --kernel was given".into())),
        None => Err(KernelError::None),
    }
}

fn from_spec(spec: &str, cwd: &Path) -> Result<Kernel, KernelError> {
    let path = cwd.join(spec);
    if path.is_dir() || source::is_tarball(&path) {
        return build::cached_or_built(&source::Source::open(&path)?, None)?.kernel();
    }
    if path.is_file() {
        let release = installed::image_release(&path)?;
        let config = installed::config_beside(&path, &release);
        return Kernel::new(path, release, config, spec.into());
    }
    if installed::releases().iter().any(|r| r == spec) {
        return installed::kernel(spec);
    }
    let all = installed::releases();
    let hint = if all.is_empty() { String::new() } else { format!(" (installed: {})", all.join(", ")) };
    Err(KernelError::NotFound { spec: spec.into(), hint })
}
