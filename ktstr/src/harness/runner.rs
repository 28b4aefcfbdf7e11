//! The runner, a child process of the test.

use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Once;

use ktstr_wire::env;
use libc::{SIGHUP, SIGINT, SIGTERM, c_int};
use libtest_mimic::Failed;

/// The exit status of a test whose runner was killed: its result is unknown.
const INCONCLUSIVE: u8 = 3;

/// How a runner ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its exit status; [`INCONCLUSIVE`] if a signal killed it.
    pub status: u8,
    /// The message about a runner that was killed before it could print its own.
    pub killed: Option<String>,
}

/// `KTSTR_RUNNER`, else `cargo-ktstr` in a directory above this binary (`target/debug/deps/..`), else on
/// `PATH`.
fn path() -> Result<PathBuf, Failed> {
    const NAME: &str = "cargo-ktstr";
    if let Some(path) = env::RUNNER.path()? {
        return Ok(path);
    }
    let exe = std::env::current_exe()?;
    let above = exe.ancestors().skip(1).take(3).map(|d| d.join(NAME));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).map(|d| d.join(NAME)).collect();
    above.chain(on_path).find(|p| p.is_file()).ok_or_else(|| {
        Failed::from(
            "cargo-ktstr not found: install it (make install in ktstr), or set KTSTR_RUNNER to its path",
        )
    })
}

/// The command that runs a spec.
pub(crate) fn command() -> Result<Command, Failed> {
    let mut command = Command::new(path()?);
    command.arg("internal-run");
    Ok(command)
}

/// Runs the runner with `spec` on its standard input and waits until it ends, even if a signal is sent to
/// both processes. The runner then has to end its guest and to remove files, and nextest considers a test
/// over when this process ends.
pub(crate) fn run(mut command: Command, spec: &[u8]) -> Result<End, Failed> {
    static SIGNALS: Once = Once::new();
    SIGNALS.call_once(outlive_signals);
    let name = PathBuf::from(command.get_program());
    let failed = |e: io::Error| format!("{}: {e}", name.display());
    let parent = std::process::id();
    // SAFETY: between fork and exec this calls only prctl and getppid, which are async-signal-safe, and
    // allocates nothing.
    unsafe { command.stdin(Stdio::piped()).pre_exec(move || end_with(parent)) };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A runner that ends without reading its input prints the reason.
        let _ = stdin.write_all(spec);
    }
    Ok(end(child.wait().map_err(failed)?))
}

fn end(status: ExitStatus) -> End {
    match (status.code().and_then(|c| u8::try_from(c).ok()), status.signal()) {
        (Some(status), _) => End { status, killed: None },
        (None, signal) => End {
            status: INCONCLUSIVE,
            killed: Some(format!(
                "inconclusive: the runner (cargo-ktstr internal-run) was killed by signal {}, SIGKILL (9) perhaps for lack of memory (see dmesg); cargo ktstr stats saves what had arrived from the guest",
                signal.unwrap_or_default()
            )),
        },
    }
}

/// Makes this process ignore the signals that the runner handles itself.
fn outlive_signals() {
    extern "C" fn pass(_: c_int) {}
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // SAFETY: the handler does nothing. A handler, other than SIG_IGN, is not inherited by the runner.
        unsafe { libc::signal(signal, pass as *const () as libc::sighandler_t) };
    }
}

/// Requests SIGTERM from the kernel when the parent thread, which waits for the runner, ends; fails if it has
/// ended already.
fn end_with(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, SIGTERM) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if std::os::unix::process::parent_id() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> End {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, b"spec").unwrap()
    }

    #[test]
    fn status_of_the_runner_becomes_the_status_of_the_test() {
        assert_eq!(sh("read spec; [ $spec = spec ]"), End { status: 0, killed: None });
        assert_eq!(sh("exit 22"), End { status: 22, killed: None });
    }

    #[test]
    fn killed_runner_leaves_a_reason() {
        let end = sh("kill -KILL $$");
        assert_eq!(end.status, INCONCLUSIVE);
        assert!(end.killed.unwrap().contains("killed by signal 9"));
    }

    /// As nextest does, the signal is sent to this process and to the runner, which cleans up.
    #[test]
    fn runner_is_waited_for_when_a_signal_ends_both() {
        let end = sh("trap 'sleep 0.2; exit 143' TERM; kill -TERM $PPID; kill -TERM $$; sleep 9");
        assert_eq!(end, End { status: 143, killed: None });
    }
}
