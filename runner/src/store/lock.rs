//! One process at a time does what others want too.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::host::interrupt;
use crate::store::error::{StoreError, file_error};

/// Time between two attempts of a waiting request.
const STEP: Duration = Duration::from_millis(100);

/// The lock in the file at `path`, held until it is dropped or the process ends. Where another process has it, says what that
/// one is doing and waits; the caller then looks whether anything is left to do.
pub(crate) fn exclusive(path: &Path, doing: &str) -> Result<File, StoreError> {
    let lock = File::create(path).map_err(file_error(path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another process is {doing}; waiting for it");
            while let Err(TryLockError::WouldBlock) = lock.try_lock() {
                if interrupt::has_arrived() {
                    return Err(StoreError::Interrupted(format!("another process goes on {doing}")));
                }
                std::thread::sleep(STEP);
            }
        }
        Err(TryLockError::Error(e)) => return Err(file_error(path)(e)),
    }
    Ok(lock)
}
