//! A kernel that can be booted, and what is known of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::sha256_file;
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::modules::Modules;
use crate::kernel::options::{self, MissingOption};

/// A kernel that can be booted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// The bzImage or vmlinux.
    pub image: PathBuf,
    /// The same kernel as a vmlinux, which starts without unpacking itself. Not of images that lie alone. For `sim` and `kvm`.
    pub sim_image: Option<PathBuf>,
    /// `uname -r` as far as the image shows it, else the image's file name.
    pub release: String,
    /// SHA-256 of the image.
    pub sha256: String,
    /// Its configuration, where it is known.
    pub config: Option<String>,
    /// SHA-256 of the configuration.
    pub config_sha256: Option<String>,
    /// SHA-256 of [`Kernel::sim_image`].
    #[serde(default)]
    pub sim_sha256: Option<String>,
    /// Its key in the cache, if it is there.
    #[serde(default)]
    pub key: Option<String>,
    /// Modules that guests need.
    #[serde(default)]
    pub modules: Modules,
    /// What to write after `--kernel` to get it again.
    pub source: String,
}

impl KernelError {
    /// A test wants a scheduler and the kernel has no sched_ext.
    pub fn no_sched_ext(kernel: &Kernel, scheduler: &str) -> KernelError {
        KernelError::Lacks {
            release: kernel.release.clone(),
            missing: options::missing_for_sched_ext(kernel.config.as_deref().unwrap_or_default()),
            fix: format!(
                "the scheduler {scheduler} needs it; build a kernel of 6.12 or newer, such as: cargo ktstr kernel build 6.12"
            ),
        }
    }
}

impl Kernel {
    /// A kernel from an image and what is known of it.
    pub(crate) fn new(
        image: PathBuf,
        release: String,
        config: Option<String>,
        source: String,
    ) -> Result<Kernel, KernelError> {
        let sha256 = sha256_file(&image).map_err(file_error(&image))?;
        let config_sha256 = config.as_ref().map(|c| crate::digest::hex_digest(c.as_bytes()));
        Ok(Kernel {
            image,
            sim_image: None,
            sim_sha256: None,
            key: None,
            release,
            sha256,
            config,
            config_sha256,
            modules: Modules::default(),
            source,
        })
    }

    /// That the images are those that were resolved.
    pub fn require_unchanged(&self) -> Result<(), KernelError> {
        let sim = self.sim_image.as_ref().zip(self.sim_sha256.as_ref());
        for (path, sha256) in sim.into_iter().chain([(&self.image, &self.sha256)]) {
            if sha256_file(path).map_err(file_error(path))? != *sha256 {
                return Err(KernelError::Changed(path.clone()));
            }
        }
        Ok(())
    }

    /// An error where something is missing.
    fn lacks(&self, missing: Vec<MissingOption>) -> Result<(), KernelError> {
        if missing.is_empty() {
            return Ok(());
        }
        let fix = "build one with ktstr's own options: cargo ktstr kernel build <source directory, tarball or version>";
        Err(KernelError::Lacks { release: self.release.clone(), missing, fix: fix.into() })
    }

    /// That it can run guests, as far as its configuration is known.
    pub(crate) fn require_for_guests(&self) -> Result<(), KernelError> {
        let config = self.config.as_deref();
        self.lacks(
            config.map(|c| options::missing_for_guests(c, |m| self.modules.has(m))).unwrap_or_default(),
        )
    }

    /// That it can show the host's files, as far as its configuration is known.
    pub fn require_for_shells(&self) -> Result<(), KernelError> {
        let config = self.config.as_deref();
        self.lacks(
            config.map(|c| options::missing_for_shells(c, |m| self.modules.has(m))).unwrap_or_default(),
        )
    }

    /// That ktstr's own VMM can run it, as far as its configuration is known.
    pub fn require_for_kvm(&self) -> Result<(), KernelError> {
        let config = self.config.as_deref();
        self.lacks(config.map(|c| options::missing_for_kvm(c, |m| self.modules.has(m))).unwrap_or_default())
    }

    /// The configuration for `/boot/config-RELEASE` of a guest whose kernel does not show its own: libbpf reads `__kconfig` variables
    /// of schedulers from `/proc/config.gz` or from there.
    pub fn config_for_guest(&self) -> Option<&str> {
        self.config.as_deref().filter(|c| !options::has_ikconfig(c))
    }

    /// Whether it has sched_ext; `None` where its configuration is not known.
    pub fn supports_sched_ext(&self) -> Option<bool> {
        self.config.as_deref().map(|c| options::missing_for_sched_ext(c).is_empty())
    }
}
