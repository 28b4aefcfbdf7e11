//! The cache of built kernels: `~/.cache/ktstr/kernels/KEY/` with `bzImage`, `vmlinux` (see [`Kernel::sim_image`]), `config` and
//! `meta.json`. Beside them are `downloads/` ([`super::mirror`]) and `git/` ([`super::git`]), from which they can be built again.

use std::fs;

use crate::digest::sha256_file;
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::image::Kernel;
use crate::store::cache::{Entry, Store, root};

/// The built kernels.
pub(crate) fn store() -> Result<Store, KernelError> {
    Ok(Store { what: "kernel", root: root()?.join("kernels"), files: &["bzImage", "vmlinux", "config"] })
}

/// The entry with this key, or the one of this release.
pub(crate) fn named(spec: &str) -> Result<Option<Entry>, KernelError> {
    one_named(store()?.entries()?, spec)
}

fn one_named(entries: Vec<Entry>, spec: &str) -> Result<Option<Entry>, KernelError> {
    if let Some(entry) = entries.iter().find(|e| e.key == spec) {
        return Ok(Some(entry.clone()));
    }
    let mut of_release: Vec<Entry> = entries.into_iter().filter(|e| e.meta.release == spec).collect();
    if of_release.len() > 1 {
        let found = of_release.iter().map(|e| format!("{} (from {})", e.key, e.meta.source)).collect();
        return Err(KernelError::Ambiguous { release: spec.into(), found });
    }
    Ok(of_release.pop())
}

/// The kernel of an entry.
pub(crate) fn kernel(entry: &Entry) -> Result<Kernel, KernelError> {
    let config_path = entry.dir.join("config");
    let config = fs::read_to_string(&config_path).map_err(file_error(&config_path))?;
    let meta = &entry.meta;
    let kernel =
        Kernel::new(entry.dir.join("bzImage"), meta.release.clone(), Some(config), meta.source.clone())?;
    let sim_image = entry.dir.join("vmlinux");
    let sim_sha256 = sha256_file(&sim_image).map_err(file_error(&sim_image))?;
    let key = Some(entry.key.clone());
    Ok(Kernel { sim_image: Some(sim_image), sim_sha256: Some(sim_sha256), key, ..kernel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cache::Meta;

    fn made(key: &str, release: &str) -> Entry {
        let meta = Meta { release: release.into(), source: "/s.tar.xz".into(), ..Meta::default() };
        Entry { key: key.into(), dir: key.into(), meta }
    }

    #[test]
    fn kernel_in_the_cache_is_found_by_key_or_release_and_never_guessed() {
        let all = || vec![made("0a", "6.12.1"), made("0b", "6.12.2"), made("0c", "6.12.2")];
        let key = |spec| one_named(all(), spec).map(|e| e.map(|e| e.key));
        assert_eq!(key("6.12.1").unwrap().as_deref(), Some("0a"));
        assert_eq!(key("0c").unwrap().as_deref(), Some("0c"));
        assert_eq!(key("6.12").unwrap(), None);
        let error = key("6.12.2").unwrap_err();
        assert_eq!(error.exit_status(), crate::exit::USAGE);
        assert!(error.to_string().contains("0b (from /s.tar.xz)"), "{error}");
    }
}
