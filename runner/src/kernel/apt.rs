//! Kernels from Debian's package mirror: `debian` and `debian-backports`.
//!
//! A suite's `InRelease` is signed and lists the digest of `Packages.xz`, which lists those of the packages (repository format:
//! <https://wiki.debian.org/DebianRepository/Format>). `gpgv` checks the signature; nothing unsigned is used. The last `InRelease` is
//! kept, so that a kernel that was prepared once needs no network.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ktstr_wire::env::{PACKAGE_KEYRING, PACKAGE_MIRROR};

use crate::kernel::compression;
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::installed::version_order;
use crate::store::error::StoreError;
use crate::store::{download, http};

/// The mirror without [`PACKAGE_MIRROR`].
pub(crate) const DEFAULT: &str = "http://deb.debian.org/debian";

/// The keyring without [`PACKAGE_KEYRING`]: that of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The package that depends on the newest kernel.
const NEWEST: &str = "linux-image-amd64";

const INDEX: &str = "main/binary-amd64/Packages.xz";

/// No index is larger.
const MOST_BYTES: u64 = 1 << 30;

/// The suites in which the kernel of a name is looked for; the newest of them is taken. Debian's stable kernel, 6.12, is without
/// sched_ext; those of the backports have it.
pub(crate) fn suites(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "debian" => Some(&["stable", "stable-backports"]),
        "debian-backports" => Some(&["stable-backports"]),
        _ => None,
    }
}

/// A package that is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Listed {
    version: String,
    depends: Vec<String>,
    filename: String,
    sha256: String,
}

/// A kernel that is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub release: String,
    packages: Vec<Listed>,
}

/// A mirror, and where its files are kept.
#[derive(Debug)]
pub(crate) struct Archive {
    base: String,
    dir: PathBuf,
}

impl Newest {
    /// SHA-256 of its packages.
    pub(crate) fn digests(&self) -> Vec<String> {
        self.packages.iter().map(|p| p.sha256.clone()).collect()
    }
}

impl Archive {
    /// The one that the environment names, with its files in `dir`.
    pub(crate) fn from_env(dir: PathBuf) -> Result<Archive, KernelError> {
        let base = PACKAGE_MIRROR.text()?.unwrap_or_else(|| DEFAULT.into());
        if !["https://", "http://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(PACKAGE_MIRROR.error(&base, "").into());
        }
        Ok(Archive { base: base.trim_end_matches('/').into(), dir })
    }

    /// The newest kernel of these suites.
    pub(crate) fn newest(&self, suites: &[&str]) -> Result<Newest, KernelError> {
        let mut all = suites.iter().map(|s| self.newest_of(s)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|n| version_order(&n.release));
        all.pop().ok_or(KernelError::None)
    }

    /// The packages of a kernel, downloaded.
    pub(crate) fn fetch(&self, kernel: &Newest) -> Result<Vec<PathBuf>, KernelError> {
        let fetch = |package: &Listed| {
            let name = package.filename.rsplit('/').next().unwrap_or_default();
            let path = self.dir.join(name);
            self.download(&package.filename, &path, &package.sha256).map(|()| path)
        };
        kernel.packages.iter().map(fetch).collect()
    }

    fn newest_of(&self, suite: &str) -> Result<Newest, KernelError> {
        // `stable` and its like are links, which a cache before the mirror may have from another day.
        let alias = self.release(suite)?;
        let suite = field(&alias, "Codename").unwrap_or(suite);
        let release = self.release(suite)?;
        let sha256 = digest_in(&release, INDEX)
            .ok_or_else(|| self.refused(format!("the suite {suite} lists no {INDEX}")))?;
        let path = self.dir.join(format!("Packages-{sha256}.xz"));
        self.download(&format!("dists/{suite}/{INDEX}"), &path, &sha256)?;
        let packed = fs::read(&path).map_err(file_error(&path))?;
        let index = compression::decompressed(&packed, MOST_BYTES).map_err(file_error(&path))?;
        newest_in(&String::from_utf8_lossy(&index))
            .ok_or_else(|| self.refused(format!("the suite {suite} has no package {NEWEST}")))
    }

    /// What a suite's `InRelease` says, after its signature was checked: of the mirror, or, without network, as it was last seen.
    fn release(&self, suite: &str) -> Result<String, KernelError> {
        let url = format!("{}/dists/{suite}/InRelease", self.base);
        let kept = self.dir.join(format!("{suite}.InRelease"));
        let text = match http::text(&url) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(self.refused(format!("it has no suite {suite}"))),
            Err(StoreError::Download { reason, .. }) if kept.is_file() => {
                eprintln!("kernel: cannot reach {url}: {reason}; taking what it listed at the last look");
                return verified(&url, &fs::read_to_string(&kept).map_err(file_error(&kept))?);
            }
            Err(e) => return Err(self.failed(e)),
        };
        let signed = verified(&url, &text)?;
        if !["Suite", "Codename"].iter().any(|name| field(&signed, name) == Some(suite)) {
            return Err(self.refused(format!("what it has as the suite {suite} is another one")));
        }
        fs::create_dir_all(&self.dir).map_err(file_error(&self.dir))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(file_error(&kept))?;
        file.write_all(text.as_bytes()).map_err(file_error(&kept))?;
        file.persist(&kept).map_err(|e| file_error(&kept)(e.error))?;
        Ok(signed)
    }

    fn download(&self, file: &str, path: &Path, sha256: &str) -> Result<(), KernelError> {
        download::file(&format!("{}/{file}", self.base), path, sha256).map_err(|e| self.failed(e))
    }

    fn refused(&self, reason: String) -> KernelError {
        KernelError::Archive { url: self.base.clone(), reason }
    }

    fn failed(&self, e: StoreError) -> KernelError {
        match e {
            StoreError::Download { .. } | StoreError::Checksum { .. } => self.refused(e.to_string()),
            e => e.into(),
        }
    }
}

/// The part of a clear-signed text that a key of the keyring has signed.
fn verified(url: &str, text: &str) -> Result<String, KernelError> {
    let unchecked = |reason: String| KernelError::Signature { url: url.into(), reason };
    let keyring = PACKAGE_KEYRING.path()?.unwrap_or_else(|| KEYRING.into());
    if !keyring.is_file() {
        return Err(unchecked(format!("there is no keyring {}", keyring.display())));
    }
    let mut gpgv = Command::new("gpgv");
    gpgv.arg("--keyring").arg(&keyring).args(["--output", "-"]);
    let mut input = tempfile::tempfile().map_err(file_error(Path::new("a temporary file")))?;
    input.write_all(text.as_bytes()).map_err(file_error(Path::new("a temporary file")))?;
    std::io::Seek::rewind(&mut input).map_err(file_error(Path::new("a temporary file")))?;
    let out = gpgv.stdin(Stdio::from(input)).output().map_err(|e| match e.kind() {
        ErrorKind::NotFound => unchecked("gpgv is not installed".into()),
        _ => file_error(Path::new("gpgv"))(e),
    })?;
    if !out.status.success() {
        let lines = String::from_utf8_lossy(&out.stderr).into_owned();
        let last = lines.lines().last().unwrap_or("gpgv failed").trim_start_matches("gpgv: ").to_string();
        return Err(unchecked(last));
    }
    String::from_utf8(out.stdout).map_err(|_| unchecked("it is not Unicode".into()))
}

/// The digest of a file in the `SHA256` field of an `InRelease`.
fn digest_in(release: &str, file: &str) -> Option<String> {
    let lines = release.lines().skip_while(|l| *l != "SHA256:").skip(1).take_while(|l| l.starts_with(' '));
    let fields = lines.map(|l| l.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.len() == 3 && f[2] == file).map(|f| f[0].to_ascii_lowercase()).find(|d| is_digest(d))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The kernel that [`NEWEST`] depends on, and the packages of the same release that this one consists of.
fn newest_in(index: &str) -> Option<Newest> {
    let mut listed: BTreeMap<&str, Listed> = BTreeMap::new();
    for (name, package) in index.split("\n\n").filter_map(stanza) {
        // An index may list several versions of a package.
        let older =
            listed.get(name).is_none_or(|l| version_order(&l.version) < version_order(&package.version));
        if older {
            listed.insert(name, package);
        }
    }
    let image = |name: &&String| {
        name.strip_prefix("linux-image-").is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    let first = listed.get(NEWEST)?.depends.iter().find(image)?;
    let release = first.strip_prefix("linux-image-")?;
    let (mut names, mut next) = (vec![first.as_str()], 0);
    while let Some(name) = names.get(next) {
        for dependency in &listed.get(name)?.depends {
            if dependency.ends_with(&format!("-{release}")) && !names.contains(&dependency.as_str()) {
                names.push(dependency);
            }
        }
        next += 1;
    }
    let packages = names.iter().map(|n| listed[n].clone()).collect();
    Some(Newest { release: release.into(), packages })
}

/// A field of one line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

/// A package of the kernel in an index; `None` for others, and for those without a digest.
fn stanza(text: &str) -> Option<(&str, Listed)> {
    let field = |name: &str| field(text, name);
    let package = field("Package").filter(|p| p.starts_with("linux-"))?;
    // "a | b (= 1), c" is a, b and c here: all that matters are names with the kernel's release.
    let names = field("Depends").unwrap_or_default().split([',', '|']);
    let depends = names.filter_map(|d| Some(d.split_whitespace().next()?.to_string())).collect();
    let sha256 = field("SHA256").filter(|d| is_digest(d))?.to_ascii_lowercase();
    let filename = field("Filename").filter(|f| !f.split('/').any(|p| p == ".."))?.to_string();
    let version = field("Version").unwrap_or_default().to_string();
    Some((package, Listed { version, depends, filename, sha256 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::hex_digest;

    fn entry(name: &str, depends: &str) -> String {
        format!(
            "Package: {name}\nVersion: 1\nDepends: {depends}\nFilename: pool/{name}.deb\nSHA256: {}\n",
            hex_digest(name.as_bytes())
        )
    }

    #[test]
    fn newest_kernel_is_all_packages_of_its_release_and_no_others() {
        let index = [
            entry("linux-image-6.18.1+deb13-amd64", "kmod"),
            entry(NEWEST, "linux-image-6.18.1+deb13-amd64 (= 1)").replace("Version: 1", "Version: 6.18.1-1"),
            entry(NEWEST, "linux-base (>= 4), linux-image-7.3.4+deb13-amd64 (= 7.3.4-1)")
                .replace("Version: 1", "Version: 7.3.4-1"),
            entry(
                "linux-image-7.3.4+deb13-amd64",
                "dracut | initramfs-tools, linux-binary-7.3.4+deb13-amd64 (= 1), linux-modules-7.3.4+deb13-amd64 (= 1)",
            ),
            entry("linux-binary-7.3.4+deb13-amd64", "linux-base-7.3.4+deb13-amd64 (= 1)"),
            entry("linux-modules-7.3.4+deb13-amd64", "kmod, linux-base-7.3.4+deb13-amd64 (= 1)"),
            entry("linux-base-7.3.4+deb13-amd64", ""),
            entry(NEWEST, "linux-image-6.18.1+deb13-amd64 (= 1)").replace("Version: 1", "Version: 7.2.11-1"),
            entry("linux-base-7.3.4+deb13-cloud-amd64", ""),
        ];
        let newest = newest_in(&index.join("\n")).unwrap();
        assert_eq!(newest.release, "7.3.4+deb13-amd64");
        let names: Vec<_> = newest.packages.iter().map(|p| p.filename.as_str()).collect();
        let wanted =
            ["image", "binary", "modules", "base"].map(|p| format!("pool/linux-{p}-7.3.4+deb13-amd64.deb"));
        assert_eq!(names, wanted);
        assert_eq!(newest.digests()[0], hex_digest(b"linux-image-7.3.4+deb13-amd64"));
        // A part without a digest is not taken.
        let broken = index.join("\n").replace(&newest.digests()[3], "none");
        assert_eq!(newest_in(&broken), None);
        assert_eq!(newest_in(&index[0]), None);
    }

    #[test]
    fn digest_is_that_of_the_field_and_the_file() {
        let (a, b) = (hex_digest(b"a"), hex_digest(b"b"));
        let release =
            format!("MD5Sum:\n {b} 1 {INDEX}\nSHA256:\n {b} 1 x/{INDEX}\n {a} 1 {INDEX}\nOther:\n {b} 1 y\n");
        assert_eq!(digest_in(&release, INDEX), Some(a));
        assert_eq!(digest_in(&release, "y"), None);
    }
}
