//! The last bytes of a process's output.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ktstr_wire::AGENT_PRIORITY;

use crate::process::rank;

#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// Earlier bytes were dropped.
    cut: bool,
}

/// Reads a pipe to its end on a thread and keeps the last bytes.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Arc<Mutex<Kept>>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Starts to read; keeps `bytes` bytes.
    pub(crate) fn of(mut pipe: impl Read + Send + 'static, most: usize) -> Tail {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let shared = kept.clone();
        let read = move || {
            // A test body that prints must not wait behind its own workers. A shell's guest has no priorities.
            let _ = rank::raise(0, AGENT_PRIORITY);
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buf) {
                let mut kept = shared.lock().unwrap_or_else(|p| p.into_inner());
                kept.bytes.extend(&buf[..n]);
                let over = kept.bytes.len().saturating_sub(most);
                kept.cut |= over > 0;
                kept.bytes.drain(..over);
            }
        };
        Tail { kept, thread: std::thread::Builder::new().name("tail".into()).spawn(read).ok() }
    }

    /// Waits for the end of the pipe; returns the output and whether its beginning is missing. A process that inherited the pipe
    /// can hold it open: after a second this returns what has arrived.
    pub(crate) fn finish(mut self) -> (String, bool) {
        let thread = self.thread.take();
        for _ in 0..100 {
            if thread.as_ref().is_none_or(|t| t.is_finished()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut kept = self.kept.lock().unwrap_or_else(|p| p.into_inner());
        (String::from_utf8_lossy(kept.bytes.make_contiguous()).into_owned(), kept.cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let mut long = vec![b'a'; 9000];
        long.extend(b"the end");
        let (text, cut) = Tail::of(std::io::Cursor::new(long.clone()), 5000).finish();
        assert_eq!((text.len(), cut), (5000, true));
        assert!(text.ends_with("athe end"));
        let (text, cut) = Tail::of(std::io::Cursor::new(long), 9007).finish();
        assert_eq!((text.len(), cut), (9007, false));
    }
}
