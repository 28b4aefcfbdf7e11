//! The version of pahole that a kernel needs.

use std::fs;
use std::path::Path;

use crate::kernel::error::KernelError;
use crate::kernel::source::version_of;
use crate::kernel::version::Series;

/// From this series on kfuncs have implicit arguments (commit 9edd04c4189e), which an older pahole than [`NEEDED`] writes into BTF as
/// they are: no sched_ext scheduler loads then.
const FIRST: Series = Series { major: 7, minor: 1 };

/// Major and minor number.
const NEEDED: (u32, u32) = (1, 26);

/// An error if the pahole of this host is too old for the kernel in `tree`.
pub(crate) fn require_for(tree: &Path) -> Result<(), KernelError> {
    let makefile = fs::read_to_string(tree.join("Makefile")).unwrap_or_default();
    check(series_of(&makefile), &version_of("pahole"))
}

fn check(series: Option<Series>, pahole: &str) -> Result<(), KernelError> {
    let (Some(series), Some(found)) = (series, number_of(pahole)) else { return Ok(()) };
    if series < FIRST || found >= NEEDED {
        return Ok(());
    }
    let (major, minor) = NEEDED;
    Err(KernelError::Pahole {
        series: series.to_string(),
        needed: format!("{major}.{minor}"),
        found: pahole.trim_start_matches('v').into(),
    })
}

/// The series that the top of a kernel's Makefile names.
fn series_of(makefile: &str) -> Option<Series> {
    let number = |name: &str| {
        let value = makefile.lines().find_map(|l| l.strip_prefix(name)?.trim_start().strip_prefix('='));
        value?.trim().parse().ok()
    };
    Some(Series { major: number("VERSION")?, minor: number("PATCHLEVEL")? })
}

/// `v1.24` as numbers.
fn number_of(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.trim().strip_prefix('v')?.split_once('.')?;
    Some((major.parse().ok()?, minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_pahole_is_refused_for_series_with_implicit_arguments_only() {
        let series = |minor| series_of(&format!("# x\nVERSION = 7\nPATCHLEVEL = {minor}\nSUBLEVEL = 1\n"));
        for (minor, pahole, good) in [
            (0, "v1.24", true),
            (1, "v1.24", false),
            (3, "v1.25", false),
            (1, "v1.26", true),
            (3, "v1.30", true),
            (3, "none", true),
        ] {
            assert_eq!(check(series(minor), pahole).is_ok(), good, "7.{minor} {pahole}");
        }
        let error = check(series(2), "v1.24").unwrap_err();
        assert_eq!(error.exit_status(), crate::exit::HOST_LACKS);
        assert!(
            error.to_string().contains("Linux 7.2 needs pahole 1.26 or newer, and this host has 1.24"),
            "{error}"
        );
        assert_eq!(series_of("all:\n"), None);
    }
}
