//! What a kernel specification means.
//!
//! In this order: an existing path (a source directory or archive, a distribution's kernel or package, or an image), the release of
//! an installed kernel,
//! `git+URL#REF` ([`super::git`]), key or release of a cached kernel, a version or a range of versions ([`super::version`]).

use std::path::{Path, PathBuf};

use ktstr_wire::env::KERNEL;

use super::git::Commit;
use super::installed::{self, Found};
use super::mirror::Mirror;
use super::source::{self, Source};
use super::version::{Kind, Wanted};
use super::{apt, boot_image, build, cache, package, stock};
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::image::Kernel;

/// Where release candidates are tagged.
const MAINLINE: &str = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git";

/// A specification, classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KernelSpec {
    /// An existing file that is neither an archive nor a package, and no distribution's kernel at its place.
    Image(PathBuf),
    /// An existing directory or archive.
    Source(PathBuf),
    /// A distribution's kernel, installed or unpacked, with what was asked for.
    Stock(Found, String),
    /// A distribution's package.
    Package(PathBuf),
    /// The newest kernel in these suites of Debian.
    Debian(&'static [&'static str]),
    /// The newest release of a kind.
    Newest(Kind),
    /// `URL#REF` of a repository.
    Commit(String),
    /// A release, a series or a range of series. A cached kernel may have this release.
    Version(Wanted),
    /// Anything else: perhaps the key or release of a cached kernel.
    Name(String),
}

impl KernelSpec {
    /// Classifies `text`. Relative paths are below `cwd`.
    pub(crate) fn parse(text: &str, cwd: &Path) -> Result<KernelSpec, KernelError> {
        if text.trim().is_empty() {
            return Err(KernelError::Empty);
        }
        let path = cwd.join(text);
        if path.exists() {
            return existing(path);
        }
        if let Some(found) = installed::on_host().into_iter().find(|f| f.release == text) {
            return Ok(KernelSpec::Stock(found, text.into()));
        }
        if let Some(location) = text.strip_prefix("git+") {
            return Ok(KernelSpec::Commit(location.into()));
        }
        if let Some(suites) = apt::suites(text) {
            return Ok(KernelSpec::Debian(suites));
        }
        if let Some(kind) = Kind::parse(text) {
            return Ok(KernelSpec::Newest(kind));
        }
        KernelSpec::version(text)
    }

    /// A version, or else a name. A release candidate is a tag of the repository in which it is made.
    fn version(text: &str) -> Result<KernelSpec, KernelError> {
        if let Some(tag) = candidate(text) {
            return Ok(KernelSpec::Commit(format!("{MAINLINE}#{tag}")));
        }
        Ok(Wanted::parse(text)?.map_or_else(|| KernelSpec::Name(text.into()), KernelSpec::Version))
    }

    /// The releases of a range, and the release that is the newest of its kind; anything else is one kernel already.
    pub(crate) fn expand(self) -> Result<Vec<KernelSpec>, KernelError> {
        if let KernelSpec::Newest(kind) = self {
            return Ok(vec![newest(kind)?]);
        }
        let KernelSpec::Version(range @ Wanted::Range(..)) = self else { return Ok(vec![self]) };
        let versions = Mirror::from_env()?.choose(range)?;
        let names: Vec<String> = versions.iter().map(|v| v.to_string()).collect();
        eprintln!("kernel: {range} is {}", names.join(", "));
        Ok(versions.into_iter().map(|v| KernelSpec::Version(Wanted::Release(v))).collect())
    }

    /// The source to build.
    pub(crate) fn source(&self) -> Result<Source, KernelError> {
        match self {
            KernelSpec::Image(path) | KernelSpec::Source(path) => Source::open(path),
            KernelSpec::Commit(location) => Ok(Source::Commit(Commit::resolve(location)?)),
            KernelSpec::Version(range @ Wanted::Range(..)) => Err(KernelError::OnlyOne(range.to_string())),
            KernelSpec::Version(wanted) => {
                let mirror = Mirror::from_env()?;
                let version = mirror.choose(*wanted)?.pop().ok_or_else(|| not_found(&wanted.to_string()))?;
                Ok(Source::Release(mirror.release(version)?))
            }
            KernelSpec::Stock(_, name) => Err(KernelError::Built(name.clone())),
            KernelSpec::Package(path) => Err(KernelError::Built(path.display().to_string())),
            KernelSpec::Debian(suites) => {
                Err(KernelError::Built(format!("a kernel of Debian's {}", suites.join(" and "))))
            }
            KernelSpec::Newest(kind) => newest(*kind)?.source(),
            KernelSpec::Name(name) => Err(not_found(name)),
        }
    }

    /// Whether there is nothing to build.
    pub(crate) fn is_built(&self) -> bool {
        matches!(self, KernelSpec::Stock(..) | KernelSpec::Package(_) | KernelSpec::Debian(_))
    }

    /// The kernel to boot. Downloads and builds if needed.
    pub(crate) fn kernel(&self) -> Result<Kernel, KernelError> {
        let cached = match self {
            KernelSpec::Image(path) => return image(path),
            KernelSpec::Stock(found, source) => return stock::kernel(found, source),
            KernelSpec::Package(path) => {
                return stock::of_packages(&package::with_parts(path)?, &path.display().to_string());
            }
            KernelSpec::Debian(suites) => return stock::of_debian(suites),
            KernelSpec::Newest(kind) => return newest(*kind)?.kernel(),
            KernelSpec::Version(wanted) => cache::named(&wanted.to_string())?,
            KernelSpec::Name(name) => cache::named(name)?,
            KernelSpec::Source(_) | KernelSpec::Commit(_) => None,
        };
        if let Some(entry) = cached {
            return cache::kernel(&entry);
        }
        if let KernelSpec::Name(name) = self
            && let Some(kernel) = stock::named(name)?
        {
            return Ok(kernel);
        }
        let source = self.source()?;
        let kernel = cache::kernel(&build::cached_or_built(&source, None)?)?;
        // The same archive may have been built under another name, which need not be there any more.
        Ok(Kernel { source: source.name(), ..kernel })
    }
}

/// The kernel for `spec`, or, without one, the first of `KTSTR_KERNEL`, `./linux`, `../linux`, the newest cached kernel, the
/// installed kernels. Downloads and builds if needed. What was chosen and why goes to standard error.
pub(crate) fn resolve(spec: Option<&str>, cwd: &Path) -> Result<Kernel, KernelError> {
    let (kernel, why) = match spec {
        Some(spec) => (KernelSpec::parse(spec, cwd)?.kernel()?, "as --kernel says".into()),
        None => match KERNEL.text()? {
            Some(spec) => (KernelSpec::parse(&spec, cwd)?.kernel()?, format!("as {KERNEL} says")),
            None => found(cwd)?,
        },
    };
    accept(kernel, &why)
}

/// The kernels for all `specs`, of which ranges are several; without any, as [`resolve`], but `KTSTR_KERNEL` may be a range.
pub(crate) fn resolve_all(specs: &[String], cwd: &Path) -> Result<Vec<Kernel>, KernelError> {
    let specs = match (specs, KERNEL.text()?) {
        ([], None) => return Ok(vec![resolve(None, cwd)?]),
        ([], Some(spec)) => vec![spec],
        (specs, _) => specs.to_vec(),
    };
    let mut all = Vec::new();
    for spec in specs {
        for spec in KernelSpec::parse(&spec, cwd)?.expand()? {
            all.push(accept(spec.kernel()?, "as --kernel says")?);
        }
    }
    Ok(all)
}

/// Says which kernel was chosen, and refuses one that no guest can run.
fn accept(kernel: Kernel, why: &str) -> Result<Kernel, KernelError> {
    eprintln!("kernel: {} ({}), {why}", kernel.release, kernel.image.display());
    kernel.require_for_guests()?;
    Ok(kernel)
}

fn found(cwd: &Path) -> Result<(Kernel, String), KernelError> {
    for dir in ["linux", "../linux"] {
        let path = cwd.join(dir);
        if source::is_kernel_tree(&path) {
            let kernel = KernelSpec::Source(path).kernel()?;
            return Ok((kernel, format!("built from {dir}, for no --kernel was given")));
        }
    }
    if let Some(entry) = cache::store()?.entries()?.pop() {
        return Ok((cache::kernel(&entry)?, "the newest cached one, for no --kernel was given".into()));
    }
    let readable = |f: &Found| std::fs::File::open(&f.image).is_ok();
    match installed::on_host().into_iter().rfind(readable) {
        Some(f) => Ok((stock::kernel(&f, &f.release)?, "installed, for no --kernel was given".into())),
        None => Err(KernelError::None),
    }
}

/// The newest release of a kind, by kernel.org's list.
fn newest(kind: Kind) -> Result<KernelSpec, KernelError> {
    let release = Mirror::from_env()?.newest_of(kind)?;
    eprintln!("kernel: {kind} is {release}");
    KernelSpec::version(&format!("v{release}"))
}

/// The tag of a release candidate such as 7.3-rc4.
fn candidate(text: &str) -> Option<String> {
    let version = text.strip_prefix('v').unwrap_or(text);
    let (series, number) = version.split_once("-rc")?;
    let is_series = matches!(Wanted::parse(series), Ok(Some(Wanted::Newest(_))));
    (is_series && number.parse::<u8>().is_ok()).then(|| format!("v{version}"))
}

/// What an existing path is. Tests run in other directories, and so it becomes absolute.
fn existing(path: PathBuf) -> Result<KernelSpec, KernelError> {
    let absolute = || path.canonicalize().map_err(file_error(&path));
    if package::is_package(&path) {
        return Ok(KernelSpec::Package(absolute()?));
    }
    if path.is_dir() && !installed::below(&path).is_empty() && !source::is_kernel_tree(&path) {
        let root = absolute()?;
        return Ok(KernelSpec::Stock(stock::only_one(&root)?, root.display().to_string()));
    }
    if path.is_dir() || source::is_tarball(&path) {
        return Ok(KernelSpec::Source(path));
    }
    let image = absolute()?;
    match installed::of_image(&image) {
        Some(found) => Ok(KernelSpec::Stock(found, image.display().to_string())),
        None => Ok(KernelSpec::Image(path)),
    }
}

fn image(path: &Path) -> Result<Kernel, KernelError> {
    // Tests run in other directories.
    let path = path.canonicalize().map_err(file_error(path))?;
    let release = boot_image::release(&path)?;
    let config = installed::config_beside(&path, &release);
    let source = path.display().to_string();
    Kernel::new(path, release, config, source)
}

fn not_found(spec: &str) -> KernelError {
    let all: Vec<String> = installed::on_host().into_iter().map(|f| f.release).collect();
    let hint = if all.is_empty() { String::new() } else { format!(" (installed: {})", all.join(", ")) };
    KernelError::NotFound { spec: spec.into(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(spec: &str) -> Result<KernelSpec, KernelError> {
        KernelSpec::parse(spec, Path::new("/nowhere"))
    }

    #[test]
    fn existing_path_comes_before_a_version_of_that_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["6.14", "6.12..6.14"] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let spec = KernelSpec::parse(name, dir.path()).unwrap();
            assert_eq!(spec, KernelSpec::Source(path));
            assert_eq!(spec.clone().expand().unwrap(), vec![spec.clone()]);
            let error = spec.source().unwrap_err();
            assert!(matches!(error, KernelError::NotAKernel { .. }), "{error}");
        }
        std::fs::write(dir.path().join("6.15"), "").unwrap();
        let image = KernelSpec::parse("6.15", dir.path()).unwrap();
        assert_eq!(image, KernelSpec::Image(dir.path().join("6.15")));
    }

    #[test]
    fn text_of_no_form_is_not_found() {
        for spec in ["6", "6.14-rcx", "linux..next", "v6", "debian-testing", "Latest"] {
            let name = parse(spec).unwrap();
            assert_eq!(name.clone().expand().unwrap(), vec![name.clone()]);
            let error = name.source().unwrap_err();
            assert!(matches!(error, KernelError::NotFound { .. }), "{error}");
        }
        assert!(matches!(parse(" "), Err(KernelError::Empty)));
    }

    #[test]
    fn tags_candidates_and_names_of_what_is_newest_are_understood() {
        let release = |spec| match parse(spec).unwrap() {
            KernelSpec::Version(wanted @ Wanted::Release(_)) => wanted.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!([release("v7.2"), release("v7.2.1")], ["7.2.0", "7.2.1"]);
        for spec in ["7.3-rc4", "v7.3-rc4"] {
            assert_eq!(parse(spec).unwrap(), KernelSpec::Commit(format!("{MAINLINE}#v7.3-rc4")));
        }
        assert_eq!(parse("longterm").unwrap(), KernelSpec::Newest(Kind::Longterm));
        let debian = parse("debian-backports").unwrap();
        assert!(debian.is_built());
        assert_eq!(debian.source().unwrap_err().exit_status(), crate::exit::USAGE);
    }

    #[test]
    fn invalid_range_and_range_in_place_of_one_version_are_wrong_usage() {
        let one = parse("6.12..6.14").unwrap().source().unwrap_err();
        for error in [parse("6.14..6.12").unwrap_err(), one] {
            assert_eq!(error.exit_status(), crate::exit::USAGE, "{error}");
        }
    }
}
