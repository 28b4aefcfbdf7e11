//! Downloads of files whose digest is known.
//!
//! A file grows as `NAME.partial`, which an interrupted call leaves and the next one goes on with, and has its name only when
//! its digest was right.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use ureq::http::{StatusCode, header};

use super::http::{Answer, failed, get, refuse_errors};
use super::lock;
use super::progress::Progress;
use crate::digest::sha256_file;
use crate::host::interrupt;
use crate::store::error::{StoreError, file_error};

/// Has the file of `url`, whose SHA-256 is `sha256`, at `path`. Nothing is fetched if a file is there. Several processes may
/// want the same at once: one downloads, the others wait.
pub fn file(url: &str, path: &Path, sha256: &str) -> Result<(), StoreError> {
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(file_error(dir))?;
    }
    let _lock = lock::exclusive(&beside("lock"), &format!("downloading {url}"))?;
    if path.is_file() {
        return Ok(());
    }
    let partial = beside("partial");
    let stop = interrupt::stop_flag().map_err(file_error(&partial))?;
    receive(url, &partial, &stop)?;
    let found = sha256_file(&partial).map_err(file_error(&partial))?;
    if found != sha256 {
        fs::remove_file(&partial).map_err(file_error(&partial))?;
        return Err(StoreError::Checksum { url: url.into(), expected: sha256.into(), found });
    }
    go_on(&partial, &stop)?;
    fs::rename(&partial, path).map_err(file_error(path))
}

/// What an answer to a request for the rest of a file gives.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// Bytes from here on.
    From(u64),
    /// Nothing: all of it is here.
    Nothing,
    /// Nothing that fits to what is here.
    Unusable,
}

/// `have` bytes are here and the rest was asked for (RFC 9110, sections 14.4, 15.3.7 and 15.5.17).
fn rest(status: StatusCode, content_range: Option<&str>, have: u64) -> Rest {
    let span = content_range.and_then(|r| r.strip_prefix("bytes "));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<u64>().ok());
    match status {
        StatusCode::PARTIAL_CONTENT if number(span.and_then(|s| s.split('-').next())) == Some(have) => {
            Rest::From(have)
        }
        StatusCode::RANGE_NOT_SATISFIABLE
            if number(span.and_then(|s| s.strip_prefix("*/"))) == Some(have) =>
        {
            Rest::Nothing
        }
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Rest::Unusable,
        _ => Rest::From(0),
    }
}

/// Makes `partial` whole.
fn receive(url: &str, partial: &Path, stop: &AtomicBool) -> Result<(), StoreError> {
    let have = fs::metadata(partial).map_or(0, |m| m.len());
    let get = |start| interruptible_get(url, start, partial, stop);
    let mut answer = get(have)?;
    let content_range = answer.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
    let mut start = 0;
    if have > 0 {
        match rest(answer.status(), content_range, have) {
            Rest::Nothing => return Ok(()),
            Rest::From(from) => start = from,
            Rest::Unusable => answer = get(0)?,
        }
    }
    refuse_errors(url, &answer)?;
    let total = answer.body().content_length().map(|rest| start + rest);
    let size = total.map_or("unknown size".into(), |t| format!("{:.1} MB", t as f64 / 1e6));
    match start {
        0 => eprintln!("downloading {url} ({size})"),
        _ => eprintln!("going on with {url} after {:.1} MB of {size}", start as f64 / 1e6),
    }
    let mut options = File::options();
    let options = if start > 0 { options.append(true) } else { options.write(true).truncate(true) };
    let out = options.create(true).open(partial).map_err(file_error(partial))?;
    let transfer = Transfer { url, partial, start, total, stop };
    transfer.run(answer.into_body().into_reader(), out)
}

/// An error after a signal.
fn go_on(partial: &Path, stop: &AtomicBool) -> Result<(), StoreError> {
    if stop.load(Ordering::Relaxed) {
        let kept = format!("what came so far is kept in {}, and the next call goes on", partial.display());
        return Err(StoreError::Interrupted(kept));
    }
    Ok(())
}

/// What a thread sends next; a signal does not wait for it.
fn next<T>(from: &Receiver<T>, partial: &Path, stop: &AtomicBool) -> Result<Option<T>, StoreError> {
    loop {
        let sent = from.recv_timeout(Duration::from_millis(50));
        go_on(partial, stop)?;
        match sent {
            Ok(sent) => return Ok(Some(sent)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn interruptible_get(url: &str, start: u64, partial: &Path, stop: &AtomicBool) -> Result<Answer, StoreError> {
    let (sender, receiver) = mpsc::channel();
    let to = url.to_string();
    std::thread::spawn(move || {
        // After a signal nobody listens.
        let _ = sender.send(get(&to, start));
    });
    next(&receiver, partial, stop)?.unwrap_or_else(|| Err(failed(url, "the request ended without an answer")))
}

/// Reads on a thread of its own, which ends when the receiver is gone or nothing more comes.
fn chunks(mut from: impl Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(4);
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; 1 << 16];
            let read = match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    Ok(chunk)
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            if sender.send(read).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Transfer<'a> {
    url: &'a str,
    partial: &'a Path,
    start: u64,
    total: Option<u64>,
    stop: &'a AtomicBool,
}

impl Transfer<'_> {
    fn run(&self, from: impl Read + Send + 'static, mut to: File) -> Result<(), StoreError> {
        let mut progress = self.total.map(|total| Progress::new("download", self.start, total));
        let mut position = self.start;
        let chunks = chunks(from);
        while let Some(chunk) = next(&chunks, self.partial, self.stop)? {
            let chunk = chunk.map_err(|e| self.broken(position, &e.to_string()))?;
            to.write_all(&chunk).map_err(file_error(self.partial))?;
            position += chunk.len() as u64;
            if let Some(progress) = &mut progress {
                progress.set(position);
            }
        }
        if self.total.is_some_and(|total| total != position) {
            return Err(self.broken(position, "the server closed it"));
        }
        Ok(())
    }

    fn broken(&self, position: u64, why: &str) -> StoreError {
        let of = self.total.map(|t| format!(" of {t}")).unwrap_or_default();
        failed(
            self.url,
            format!(
                "the connection broke after {position}{of} bytes ({why}); the same command goes on from there"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_download_goes_on_only_where_the_file_ends() {
        let rest = |status: u16, range| rest(StatusCode::from_u16(status).unwrap(), range, 10);
        assert_eq!(rest(206, Some("bytes 10-19/20")), Rest::From(10));
        assert_eq!(rest(206, Some("bytes 0-19/20")), Rest::Unusable);
        assert_eq!(rest(206, None), Rest::Unusable);
        assert_eq!(rest(200, None), Rest::From(0));
        assert_eq!(rest(416, Some("bytes */10")), Rest::Nothing);
        assert_eq!(rest(416, Some("bytes */5")), Rest::Unusable);
        assert_eq!(rest(416, None), Rest::Unusable);
    }
}
