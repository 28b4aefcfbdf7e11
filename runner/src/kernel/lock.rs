//! One process at a time does what others want too.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::{KernelError, file_error};

/// The lock in the file at `path`, held until it is dropped or the process ends. Where another process has it, says what that
/// one is doing and waits; the caller then looks whether anything is left to do.
pub fn exclusive(path: &Path, doing: &str) -> Result<File, KernelError> {
    let lock = File::create(path).map_err(file_error(path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("kernel: another process is {doing}; waiting for it");
            lock.lock().map_err(file_error(path))?;
        }
        Err(TryLockError::Error(e)) => return Err(file_error(path)(e)),
    }
    Ok(lock)
}
