//! What a build needs of the host.

use std::path::Path;

use crate::store::error::StoreError;

/// An error with the Debian packages of all that is missing. `needs` are files by their absolute path and programs by their
/// name, each with its package.
pub(crate) fn require(needs: &[(&str, &'static str)]) -> Result<(), StoreError> {
    let is_there = |what: &str| match what.starts_with('/') {
        true => Path::new(what).exists(),
        false => is_on_path(what),
    };
    let missing: Vec<&str> = needs.iter().filter(|(what, _)| !is_there(what)).map(|(_, p)| *p).collect();
    if missing.is_empty() { Ok(()) } else { Err(StoreError::Tools(missing.join(" "))) }
}

/// Whether a program of this name is in a directory of `PATH`.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|d| d.join(program).is_file())
}

/// The kernel's Makefile and QEMU's `configure` refuse paths with spaces and colons.
pub(crate) fn require_buildable(path: &Path) -> Result<(), StoreError> {
    let refused = |c: char| c.is_whitespace() || c == ':';
    if path.to_string_lossy().contains(refused) { Err(StoreError::Place(path.into())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_nothing_can_be_built_in_are_named_before_a_build() {
        assert!(require_buildable(Path::new("/src/p[1],x/linux")).is_ok());
        for path in ["/src/my linux", "/src/a:b/linux"] {
            let error = require_buildable(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(path) && error.exit_status() == crate::exit::USAGE, "{error}");
        }
    }

    #[test]
    fn packages_of_what_is_missing_are_named() {
        let needs = [("sh", "dash"), ("/no/such.h", "libno-dev"), ("no-such-program", "no")];
        let error = require(&needs).unwrap_err().to_string();
        assert!(error.ends_with("apt-get install libno-dev no"), "{error}");
        assert!(require(&needs[..1]).is_ok());
    }
}
