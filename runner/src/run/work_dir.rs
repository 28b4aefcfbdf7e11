//! The locked work directory of a run.

use std::fs;
use std::path::{Path, PathBuf};

use ktstr_analysis::Identity;

use crate::run::error::{RunError, file_error};
use crate::run::finish;

/// The directory of an unfinished run, locked while its runner lives.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    _lock: fs::File,
}

impl WorkDir {
    pub(crate) fn create(results: &Path, identity: &Identity) -> Result<WorkDir, RunError> {
        let path = results.join(format!("{}.{}.partial", identity.variant, identity.run_id));
        fs::create_dir_all(&path).map_err(file_error(&path))?;
        match WorkDir::fill(&path, identity) {
            Ok(lock) => Ok(WorkDir { path, _lock: lock }),
            Err(e) => {
                // What cannot be removed is found again by the next `stats`.
                let _ = fs::remove_dir_all(&path);
                Err(e)
            }
        }
    }

    /// Makes the lock and the identity.
    fn fill(path: &Path, identity: &Identity) -> Result<fs::File, RunError> {
        let lock_path = path.join(finish::LOCK_FILE);
        let lock = fs::File::create(&lock_path).map_err(file_error(&lock_path))?;
        lock.lock().map_err(file_error(&lock_path))?;
        let file = path.join(finish::IDENTITY_FILE);
        let json = serde_json::to_vec_pretty(identity)
            .map_err(|e| RunError::File { path: file.clone(), source: e.into() })?;
        fs::write(&file, json).map_err(file_error(&file))?;
        Ok(lock)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an interrupted or failed start left.
    pub(crate) fn remove(&self) {
        // What cannot be removed is found again by the next `stats`.
        let _ = fs::remove_dir_all(&self.path);
    }
}
