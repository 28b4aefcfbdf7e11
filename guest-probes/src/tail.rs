//! The last of what a process writes.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Bytes that are kept. A dump of sched_ext is at most 32 KiB by default, and schedulers print more than one thing.
const KEPT_BYTES: usize = 256 << 10;

/// Reads a pipe to its end on a thread and keeps the tail.
#[derive(Debug)]
pub struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Starts to read.
    pub fn of(mut pipe: impl Read + Send + 'static) -> Tail {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let shared = kept.clone();
        let read = move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buf) {
                let mut kept = shared.lock().unwrap_or_else(|p| p.into_inner());
                kept.extend(&buf[..n]);
                let over = kept.len().saturating_sub(KEPT_BYTES);
                kept.drain(..over);
            }
        };
        Tail { kept, thread: std::thread::Builder::new().name("tail".into()).spawn(read).ok() }
    }

    /// What is there by now.
    pub fn text(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(|p| p.into_inner());
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    /// Waits for the end of the pipe, and gives what is there. A process that inherited the pipe can hold it open: after
    /// a second this gives what has come.
    pub fn finish(mut self) -> String {
        let thread = self.thread.take();
        for _ in 0..100 {
            if thread.as_ref().is_none_or(|t| t.is_finished()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let mut long = vec![b'a'; KEPT_BYTES];
        long.extend(b"the end");
        let text = Tail::of(std::io::Cursor::new(long)).finish();
        assert_eq!(text.len(), KEPT_BYTES);
        assert!(text.ends_with("athe end"));
    }
}
