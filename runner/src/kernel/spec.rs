//! What a kernel specification means.
//!
//! In this order: an existing path (a source directory or archive, or an image), the release of an installed kernel, key or release of
//! a cached one,
//! `git+URL#REF` ([`super::git`]), a version or a range of versions ([`super::version`]).

use std::path::Path;

use ktstr_wire::env::KERNEL;

use super::git::Commit;
use super::mirror::Mirror;
use super::source::{self, Source};
use super::version::Wanted;
use super::{build, cache, installed};
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::image::Kernel;

/// The kernel for `spec`, or, without one, the first of `KTSTR_KERNEL`, `./linux`, `../linux`, the newest cached kernel, the
/// installed kernels. Downloads and builds if needed. What was chosen and why goes to standard error.
pub fn resolve(spec: Option<&str>, cwd: &Path) -> Result<Kernel, KernelError> {
    let (kernel, why) = match spec {
        Some(spec) => (from_spec(spec, cwd)?, "as --kernel says".into()),
        None => match KERNEL.text()? {
            Some(spec) => (from_spec(&spec, cwd)?, format!("as {KERNEL} says")),
            None => found(cwd)?,
        },
    };
    eprintln!("kernel: {} ({}), {why}", kernel.release, kernel.image.display());
    kernel.require_for_guests()?;
    Ok(kernel)
}

/// The kernels for all `specs`, of which ranges are several; without any, as [`resolve`], but `KTSTR_KERNEL` may be a range.
pub fn resolve_all(specs: &[String], cwd: &Path) -> Result<Vec<Kernel>, KernelError> {
    let specs = match (specs, KERNEL.text()?) {
        ([], None) => return Ok(vec![resolve(None, cwd)?]),
        ([], Some(spec)) => vec![spec],
        (specs, _) => specs.to_vec(),
    };
    let mut all = Vec::new();
    for spec in specs {
        for spec in expand(&spec, cwd)? {
            all.push(resolve(Some(&spec), cwd)?);
        }
    }
    Ok(all)
}

/// The versions of a range, each as a specification; any other specification stays what it is.
pub fn expand(spec: &str, cwd: &Path) -> Result<Vec<String>, KernelError> {
    if spec.trim().is_empty() {
        return Err(KernelError::Empty);
    }
    let is_here = cwd.join(spec).exists() || is_installed(spec);
    match Wanted::parse(spec) {
        Ok(Some(range @ Wanted::Range(..))) if !is_here => {
            let versions: Vec<String> =
                Mirror::from_env()?.choose(range)?.iter().map(|v| v.to_string()).collect();
            eprintln!("kernel: {spec} is {}", versions.join(", "));
            Ok(versions)
        }
        Err(e) if !is_here => Err(e),
        _ => Ok(vec![spec.into()]),
    }
}

/// The source that `spec` means where it is a path, a commit or a single version.
pub fn source(spec: &str, cwd: &Path) -> Result<Source, KernelError> {
    if spec.trim().is_empty() {
        return Err(KernelError::Empty);
    }
    let path = cwd.join(spec);
    if path.exists() {
        return Source::open(&path);
    }
    if let Some(location) = spec.strip_prefix("git+") {
        return Ok(Source::Commit(Commit::resolve(location)?));
    }
    match Wanted::parse(spec)? {
        None => Err(not_found(spec)),
        Some(Wanted::Range(..)) => Err(KernelError::OnlyOne(spec.into())),
        Some(wanted) => {
            let mirror = Mirror::from_env()?;
            let version = mirror.choose(wanted)?.pop().ok_or_else(|| not_found(spec))?;
            Ok(Source::Release(mirror.release(version)?))
        }
    }
}

fn found(cwd: &Path) -> Result<(Kernel, String), KernelError> {
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
    if !spec.trim().is_empty() && path.is_file() && !source::is_tarball(&path) {
        // Tests run in other directories.
        let path = path.canonicalize().map_err(file_error(&path))?;
        let release = installed::image_release(&path)?;
        let config = installed::config_beside(&path, &release);
        let source = path.display().to_string();
        return Kernel::new(path, release, config, source);
    }
    if !path.exists() && is_installed(spec) {
        return installed::kernel(spec);
    }
    if !path.exists()
        && let Some(entry) = cache::named(spec)?
    {
        return entry.kernel();
    }
    let source = source(spec, cwd)?;
    let kernel = build::cached_or_built(&source, None)?.kernel()?;
    // The same archive may have been built under another name, which need not be there any more.
    Ok(Kernel { source: source.name(), ..kernel })
}

fn is_installed(spec: &str) -> bool {
    installed::releases().iter().any(|r| r == spec)
}

fn not_found(spec: &str) -> KernelError {
    let all = installed::releases();
    let hint = if all.is_empty() { String::new() } else { format!(" (installed: {})", all.join(", ")) };
    KernelError::NotFound { spec: spec.into(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_comes_before_a_version_of_that_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["6.14", "6.12..6.14"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            assert_eq!(expand(name, dir.path()).unwrap(), [name]);
            let error = source(name, dir.path()).unwrap_err();
            assert!(matches!(error, KernelError::NotAKernel { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_none_of_all_forms_is_not_found() {
        for spec in ["6", "6.14-rc1", "linux..next", "v6.14"] {
            assert_eq!(expand(spec, Path::new("/nowhere")).unwrap(), [spec]);
            let error = source(spec, Path::new("/nowhere")).unwrap_err();
            assert!(matches!(error, KernelError::NotFound { .. }), "{error}");
        }
    }

    #[test]
    fn ranges_are_wrong_usage_where_they_make_no_sense_or_one_is_needed() {
        for spec in ["6.14..6.12", "6.12..6.14"] {
            let error = source(spec, Path::new("/nowhere")).unwrap_err();
            assert_eq!(error.exit_status(), crate::exit::USAGE, "{error}");
        }
        assert!(expand("6.14..6.12", Path::new("/nowhere")).is_err());
    }
}
