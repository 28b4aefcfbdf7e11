//! Exit statuses as text.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// "exit status 1", "killed by signal 9".
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
