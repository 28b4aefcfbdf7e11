//! Released kernels from a mirror that is laid out like <https://cdn.kernel.org/pub/linux/kernel>.
//!
//! `v6.x/sha256sums.asc` there lists every file with its digest: it says both which releases there are and what their archives
//! must be. Its PGP signature is not verified; what is trusted is the server that HTTPS certifies. The last list is kept, so
//! that what is here already can be used without network.

use std::fs;
use std::path::PathBuf;

use ktstr_wire::env::KERNEL_MIRROR;

use super::cache;
use super::version::{Kind, Listing, Version, Wanted};
use crate::digest::sha256_file;
use crate::kernel::error::{KernelError, file_error};
use crate::store::error::StoreError;
use crate::store::{download, http};

/// The mirror without [`KERNEL_MIRROR`].
pub(crate) const DEFAULT: &str = "https://cdn.kernel.org/pub/linux/kernel";

/// What kernel.org says of its releases. Another mirror has it beside `v6.x`.
const RELEASES: &str = "https://www.kernel.org/releases.json";

/// Where downloads are kept.
pub(crate) fn downloads() -> Result<PathBuf, KernelError> {
    Ok(cache::store()?.root.join("downloads"))
}

/// A mirror, and where its files are kept.
#[derive(Clone, Debug)]
pub struct Mirror {
    base: String,
    dir: PathBuf,
}

/// A release whose archive can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Version of the release.
    pub version: Version,
    /// Where its archive is or will be.
    pub path: PathBuf,
    /// SHA-256 of the archive, in hexadecimal digits.
    pub sha256: String,
    url: String,
    list: PathBuf,
}

impl Release {
    /// Downloads the archive unless it is here.
    pub fn fetch(&self) -> Result<(), KernelError> {
        let result = download::file(&self.url, &self.path, &self.sha256);
        if matches!(result, Err(StoreError::Checksum { .. })) {
            // It may be the list that is wrong, as after a change of the mirror.
            let _ = fs::remove_file(&self.list);
        }
        Ok(result?)
    }
}

impl Mirror {
    /// The mirror at the URL `base`, with its files in `dir`.
    pub fn new(base: &str, dir: PathBuf) -> Result<Mirror, KernelError> {
        if !["https://", "http://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(KERNEL_MIRROR.error(base, "").into());
        }
        Ok(Mirror { base: base.trim_end_matches('/').into(), dir })
    }

    /// The one that the environment names, with its files in the kernel cache.
    pub fn from_env() -> Result<Mirror, KernelError> {
        Mirror::new(KERNEL_MIRROR.text()?.as_deref().unwrap_or(DEFAULT), downloads()?)
    }

    /// The newest version of a kind.
    pub(crate) fn newest_of(&self, kind: Kind) -> Result<String, KernelError> {
        let url = if self.base == DEFAULT { RELEASES.into() } else { format!("{}/releases.json", self.base) };
        let Some(text) = http::text(&url)? else { return Err(self.not_listed(kind.to_string(), None)) };
        let list = serde_json::from_str(&text).unwrap_or_default();
        let reason = || format!("it lists no {kind} release");
        kind.newest_in(&list).ok_or_else(|| KernelError::Download { url: url.clone(), reason: reason() })
    }

    /// The releases that are meant, in order. Only a release that is named in full is not looked up.
    pub fn choose(&self, wanted: Wanted) -> Result<Vec<Version>, KernelError> {
        let (first, last) = match wanted {
            Wanted::Release(version) => return Ok(vec![version]),
            Wanted::Newest(series) => (series, series),
            Wanted::Range(first, last) => (first, last),
        };
        let mut chosen = Vec::new();
        for major in first.major..=last.major {
            chosen.extend(self.newest_list(major)?.newest_of_each(first, last));
        }
        if chosen.is_empty() { Err(self.not_listed(wanted.to_string(), None)) } else { Ok(chosen) }
    }

    /// The release, with the digest of its archive: of the archive itself where that is here, else of a list.
    pub fn release(&self, version: Version) -> Result<Release, KernelError> {
        let major = version.series.major;
        let path = self.dir.join(version.tarball());
        let sha256 = if path.is_file() {
            sha256_file(&path).map_err(file_error(&path))?
        } else if let Some(sha256) = self.kept_list(major).sha256(version) {
            sha256.into()
        } else {
            let list = self.fetch_list(major)?;
            let newest = list.newest(version.series);
            list.sha256(version).ok_or_else(|| self.not_listed(version.to_string(), newest))?.into()
        };
        let url = format!("{}/v{major}.x/{}", self.base, version.tarball());
        Ok(Release { version, path, sha256, url, list: self.list_path(major) })
    }

    fn not_listed(&self, wanted: String, newest: Option<Version>) -> KernelError {
        KernelError::NotListed { wanted, mirror: self.base.clone(), newest: newest.map(|v| v.to_string()) }
    }

    fn list_path(&self, major: u32) -> PathBuf {
        self.dir.join(format!("v{major}.x.sha256sums.asc"))
    }

    /// The list of the last look at the mirror; empty where there was none.
    fn kept_list(&self, major: u32) -> Listing {
        Listing::parse(&fs::read_to_string(self.list_path(major)).unwrap_or_default())
    }

    /// The mirror's list, or, where the mirror cannot be asked, the last one.
    fn newest_list(&self, major: u32) -> Result<Listing, KernelError> {
        let unreachable = match self.fetch_list(major) {
            Err(e @ KernelError::Download { .. }) => e,
            result => return result,
        };
        let kept = self.kept_list(major);
        if kept.is_empty() {
            return Err(unreachable);
        }
        eprintln!("kernel: {unreachable}; taking what it listed at the last look");
        Ok(kept)
    }

    fn fetch_list(&self, major: u32) -> Result<Listing, KernelError> {
        let url = format!("{}/v{major}.x/sha256sums.asc", self.base);
        let Some(text) = http::text(&url)? else {
            return Err(self.not_listed(format!("{major}.x"), None));
        };
        let list = Listing::parse(&text);
        if list.is_empty() {
            let reason = "it lists no linux-VERSION.tar.xz".into();
            return Err(KernelError::Download { url, reason });
        }
        self.keep(major, &text)?;
        Ok(list)
    }

    fn keep(&self, major: u32, text: &str) -> Result<(), KernelError> {
        fs::create_dir_all(&self.dir).map_err(file_error(&self.dir))?;
        let path = self.list_path(major);
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(file_error(&path))?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(file_error(&path))?;
        file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_mirror_is_a_url() {
        for base in ["ftp://x/", "/srv/mirror", "cdn.kernel.org/pub/linux/kernel"] {
            let message = Mirror::new(base, "/".into()).unwrap_err().to_string();
            assert!(message.contains(base) && message.contains(KERNEL_MIRROR.name), "{message}");
        }
    }
}
