//! Commands of a build, with their output in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::store::error::{StoreError, file_error};
use crate::store::progress::Progress;

/// Lines of the output that an error shows.
const TAIL_LINES: usize = 15;

/// Runs commands one after the other.
#[derive(Debug)]
pub(crate) struct Logged {
    /// The file with the output of a command. It stays if the command fails.
    pub log: PathBuf,
    /// Raised by a signal: the command is killed.
    pub stop: Arc<AtomicBool>,
}

impl Logged {
    /// Runs a command, and counts the lines that it prints.
    pub(crate) fn run(
        &self,
        mut command: Command,
        mut bar: Option<&mut Progress>,
    ) -> Result<u64, StoreError> {
        let mut log = File::create(&self.log).map_err(file_error(&self.log))?;
        let (reader, writer) = io::pipe().map_err(file_error(&self.log))?;
        let errors = writer.try_clone().map_err(file_error(&self.log))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(file_error(Path::new(command.get_program())))?;
        drop(command);
        let group = child.id() as i32;
        let done = Arc::new(AtomicBool::new(false));
        let (stop, watch_done) = (self.stop.clone(), done.clone());
        let watcher = std::thread::spawn(move || {
            while !watch_done.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) {
                    kill_group(group);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let (mut lines, mut tail) = (0, VecDeque::new());
        for line in BufReader::new(reader).lines() {
            let line = line.unwrap_or_default();
            let _ = writeln!(log, "{line}");
            lines += 1;
            if let Some(bar) = &mut bar {
                bar.set(lines);
            }
            tail.push_back(line);
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
        }
        let status = child.wait().map_err(file_error(&self.log))?;
        done.store(true, Ordering::Relaxed);
        let _ = watcher.join();
        if status.success() || self.stop.load(Ordering::Relaxed) {
            let _ = std::fs::remove_file(&self.log);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Interrupted("the unfinished build was removed".into()));
        }
        if status.success() {
            return Ok(lines);
        }
        let tail = Vec::from(tail).join("\n");
        if tail.contains("No space left on device") {
            return Err(StoreError::NoSpace(self.log.parent().unwrap_or(&self.log).into()));
        }
        Err(StoreError::Build { tail, log: self.log.clone() })
    }
}

fn kill_group(group: i32) {
    // SAFETY: sends a signal to the process group of our own child, which has not been waited for.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}
