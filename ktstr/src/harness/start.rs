//! The `main` of test binaries.

use std::process::ExitCode;

use ktstr_wire::env::{BODY, DRY_RUN, EnvError};

/// Runs a body in a guest, a dry run of a body, or the harness on the host, as the environment says.
pub fn run_main() -> ExitCode {
    let named = || Ok::<_, EnvError>((BODY.text()?, DRY_RUN.text()?));
    match named() {
        Ok((Some(test), _)) => crate::harness::guest::run(&test),
        Ok((None, Some(test))) => crate::harness::dry_run::run(&test),
        Ok((None, None)) => crate::harness::host::run(),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
