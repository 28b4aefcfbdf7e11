//! Why there is no kernel.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_wire::env::{EnvError, KERNEL_MIRROR, PACKAGE_KEYRING, PACKAGE_MIRROR};

use crate::exit;
use crate::kernel::options::MissingOption;
use crate::store::error::StoreError;

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Nothing is at this path, no installed kernel has this name, and it has none of the other forms.
    #[error(
        "no kernel '{spec}': no such file or directory, and no installed kernel of that release{hint}; --kernel takes a source directory, a source tarball, a bzImage or vmlinux, a distribution's package (.deb, .rpm, .pkg.tar.zst) or a directory with an unpacked one, the release of an installed or cached kernel, the key of a cached one, a version to download (6.14.2, 6.14 for the newest of that series, latest, stable or longterm), a range of series (6.12..6.14), a commit to fetch (git+URL#REF), or debian or debian-backports for the newest package of Debian"
    )]
    NotFound {
        /// What was asked for.
        spec: String,
        /// The releases that are installed, as a clause.
        hint: String,
    },
    /// The mirror does not have it.
    #[error(
        "the mirror {mirror} has no Linux {wanted}{}; name another version, or another mirror in {KERNEL_MIRROR}",
        .newest.as_deref().map(|v| format!("; the newest of that series there is {v}")).unwrap_or_default()
    )]
    NotListed {
        /// What was asked for.
        wanted: String,
        /// URL of the mirror.
        mirror: String,
        /// The newest release of the same series.
        newest: Option<String>,
    },
    /// The repository has no such branch or tag.
    #[error(
        "{url} has no branch or tag '{name}'; list them with: git ls-remote {url}; a commit needs all its digits"
    )]
    NoRef {
        /// URL of the repository.
        url: String,
        /// What was asked for.
        name: String,
    },
    /// A range that makes no sense.
    #[error("invalid range of kernels '{spec}': {reason}; write it as 6.12..6.14")]
    Range {
        /// What was asked for.
        spec: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A range where one kernel is needed.
    #[error("'{0}' is a range, and only one kernel can be used here; name one version of it")]
    OnlyOne(String),
    /// Several cached kernels are of this release.
    #[error(
        "several cached kernels are Linux {release}: {}; name one by its key, as in --kernel {}", .found.join(", "), .found.first().and_then(|f| f.split(' ').next()).unwrap_or_default()
    )]
    Ambiguous {
        /// What was asked for.
        release: String,
        /// Their keys and sources.
        found: Vec<String>,
    },
    /// An image is another one than at the start.
    #[error("{0} has changed since the command started; run it again when nothing builds that kernel")]
    Changed(PathBuf),
    /// Nothing is named.
    #[error("--kernel is empty; name a kernel, or leave the option out; see cargo ktstr test --help")]
    Empty,
    /// A download failed.
    #[error(
        "cannot download {url}: {reason}; check the network, or name another mirror of https://cdn.kernel.org/pub/linux/kernel in {KERNEL_MIRROR}"
    )]
    Download {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// What was downloaded is something else.
    #[error(
        "{url} has the SHA-256 {found}, but the mirror's sha256sums.asc says {expected}; what was downloaded is removed; try again, or name another mirror in {KERNEL_MIRROR}"
    )]
    Checksum {
        /// What was asked for.
        url: String,
        /// The digest that it should have.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// The package mirror fails.
    #[error(
        "the package mirror {url}: {reason}; check the network, or name another mirror of http://deb.debian.org/debian in {PACKAGE_MIRROR}"
    )]
    Archive {
        /// URL of the mirror.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The signature of a package mirror cannot be checked, or is wrong.
    #[error(
        "the signature of {url} cannot be verified: {reason}; install gpgv and debian-archive-keyring, or name a keyring in {PACKAGE_KEYRING}, or download the packages yourself and name one with --kernel"
    )]
    Signature {
        /// The signed file.
        url: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// A repository cannot be read.
    #[error("cannot fetch from {url}: {reason}; check the URL and the network with: git ls-remote {url}")]
    Git {
        /// URL of the repository.
        url: String,
        /// What git says.
        reason: String,
    },
    /// There is no git.
    #[error("git is missing; to fetch a kernel's source with it: apt-get install git")]
    NoGit,
    /// Nothing was asked for and nothing was found.
    #[error(
        "no kernel found: KTSTR_KERNEL is not set, there is no ./linux or ../linux, no cached kernel and no readable installed one; give one with --kernel, or build one: cargo ktstr kernel build 6.14"
    )]
    None,
    /// A directory or file that is neither.
    #[error("{path} is not a kernel: {reason}")]
    NotAKernel {
        /// The directory or file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A directory with several kernels.
    #[error("{dir} holds several kernels; name the image of one: {}", paths(.images))]
    Several {
        /// The directory.
        dir: PathBuf,
        /// The images in it.
        images: Vec<PathBuf>,
    },
    /// An installed kernel where a source is needed.
    #[error(
        "{0} is built already, and --kconfig is for builds; leave it out, or name a source: a directory, a tarball, a version (6.14.2), or git+URL#REF"
    )]
    Built(String),
    /// The host's pahole is too old for the kernel.
    #[error(
        "Linux {series} needs pahole {needed} or newer, and this host has {found}: no sched_ext scheduler would load. Install a newer one (Debian 13 has it), or take a kernel that is built already: --kernel debian-backports"
    )]
    Pahole {
        /// The kernel's series.
        series: String,
        /// The oldest version that will do.
        needed: String,
        /// The version that is installed.
        found: String,
    },
    /// The configuration lacks what ktstr needs.
    #[error("the kernel {release} lacks:{}\n{fix}", list(.missing))]
    Lacks {
        /// Release of the kernel.
        release: String,
        /// What is missing, and what for.
        missing: Vec<MissingOption>,
        /// How to fix it.
        fix: String,
    },
    /// The fragment of `--kconfig` cannot be read.
    #[error("--kconfig {path}: {source}; it takes a file of lines like CONFIG_NAME=y")]
    Kconfig {
        /// The file that was named.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The build failed.
    #[error("the kernel did not build; the last of its output:\n{tail}\nall of it: {log}")]
    Build {
        /// The last lines.
        tail: String,
        /// File with the whole output.
        log: PathBuf,
    },
    /// The cache.
    #[error(transparent)]
    Store(StoreError),
}

fn paths(all: &[PathBuf]) -> String {
    all.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

pub(crate) fn list(missing: &[MissingOption]) -> String {
    missing.iter().map(|m| format!("\n  CONFIG_{}: {}", m.name, m.purpose)).collect()
}

impl KernelError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            KernelError::NotFound { .. } | KernelError::None => 10,
            KernelError::NotListed { .. } | KernelError::NoRef { .. } => 10,
            KernelError::NotAKernel { .. } => 11,
            KernelError::Lacks { .. } => exit::KERNEL_LACKS,
            KernelError::Kconfig { .. } | KernelError::Range { .. } => exit::USAGE,
            KernelError::OnlyOne(_)
            | KernelError::Several { .. }
            | KernelError::Built(_)
            | KernelError::Ambiguous { .. }
            | KernelError::Empty => exit::USAGE,
            KernelError::Changed(_) => exit::INCONCLUSIVE,
            KernelError::Build { .. } => 13,
            KernelError::NoGit | KernelError::Pahole { .. } => exit::HOST_LACKS,
            KernelError::Archive { .. } | KernelError::Signature { .. } => exit::DOWNLOAD,
            KernelError::Download { .. } | KernelError::Checksum { .. } | KernelError::Git { .. } => {
                exit::DOWNLOAD
            }
            KernelError::Store(e) => e.exit_status(),
        }
    }
}

impl From<StoreError> for KernelError {
    fn from(e: StoreError) -> KernelError {
        match e {
            StoreError::Download { url, reason } => KernelError::Download { url, reason },
            StoreError::Checksum { url, expected, found } => KernelError::Checksum { url, expected, found },
            StoreError::Build { tail, log } => KernelError::Build { tail, log },
            e => KernelError::Store(e),
        }
    }
}

impl From<EnvError> for KernelError {
    fn from(e: EnvError) -> KernelError {
        KernelError::Store(e.into())
    }
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> KernelError + '_ {
    move |source| KernelError::Store(StoreError::File { path: path.into(), source })
}
