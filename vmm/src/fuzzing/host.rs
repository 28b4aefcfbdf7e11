//! The host's side of the streams that a guest opens.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};

use arbitrary::Arbitrary;

use crate::vsock::device::Accept;

/// A host port that nobody serves.
const REFUSED: u32 = 2;

/// What the host's side of a stream does.
#[derive(Arbitrary, Debug)]
pub(super) enum Act {
    Write(u16),
    Read,
    Close,
    ShutDown,
}

/// The host's end of one stream, and what went through it: it sends the bytes 0, 1, 2, … 250 again and again.
#[derive(Debug)]
pub(super) struct End {
    stream: Option<UnixStream>,
    /// Whether the guest sends the same.
    checked: bool,
    /// Bytes sent to the guest and read from it.
    pub written: usize,
    pub read: usize,
}

impl End {
    /// Whether the host still reads.
    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn act(&mut self, act: &Act) {
        let Some(stream) = &mut self.stream else { return };
        match act {
            Act::Write(len) => {
                let bytes = pattern(self.written, usize::from(*len));
                // A full or closed stream takes less, or nothing.
                self.written += stream.write(&bytes).unwrap_or(0);
            }
            Act::Read => {
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    assert!(
                        !self.checked || bytes[..n] == pattern(self.read, n),
                        "after {} bytes",
                        self.read
                    );
                    self.read += n;
                }
            }
            Act::Close => self.stream = None,
            Act::ShutDown => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
        }
    }
}

/// `len` bytes of a stream, `start` bytes after its beginning.
pub(super) fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|i| (i % 251) as u8).collect()
}

/// All ends, in the order in which the guest connected.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    ends: Arc<Mutex<Vec<End>>>,
    checked: bool,
}

impl Host {
    /// A host that knows what the guest sends: the same as each end.
    pub(super) fn checked() -> Host {
        Host { checked: true, ..Host::default() }
    }

    /// Takes connections to any port but one.
    pub(super) fn accept(&self) -> Accept {
        let host = self.clone();
        Box::new(move |port| {
            let (ours, theirs) = UnixStream::pair().ok().filter(|_| port != REFUSED)?;
            theirs.set_nonblocking(true).ok()?;
            let end = End { stream: Some(theirs), checked: host.checked, written: 0, read: 0 };
            host.ends().push(end);
            Some(ours)
        })
    }

    pub(super) fn ends(&self) -> MutexGuard<'_, Vec<End>> {
        self.ends.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// One of the ends acts, if there is any.
    pub(super) fn act(&self, which: u8, act: &Act) {
        let mut ends = self.ends();
        let nr = ends.len().max(1);
        if let Some(end) = ends.get_mut(usize::from(which) % nr) {
            end.act(act);
        }
    }
}
