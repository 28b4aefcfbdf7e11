//! Physical addresses of this process's memory.
//!
//! Source: Documentation/admin-guide/mm/pagemap.rst of Linux. It needs CAP_SYS_ADMIN.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ktstr_wire::message::{PAGE_BYTES, Pages};

/// Bit 63 of an entry: the page is present.
const PRESENT: u64 = 1 << 63;
/// Bits 0 to 54: the number of its frame; 0 without privilege.
const FRAME: u64 = (1 << 55) - 1;

/// The frames of `len` bytes from `start`, which begins a page. Valid while the pages do not move: those of BPF arrays
/// never do.
pub(crate) fn frames_of(start: usize, len: usize) -> io::Result<Pages> {
    let mut entries = vec![0; len.div_ceil(PAGE_BYTES) * 8];
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entries, (start / PAGE_BYTES * 8) as u64)?;
    let frames = entries.chunks_exact(8).map(|e| frame_of(e.try_into().map_or(0, u64::from_le_bytes)));
    let frames: Option<Vec<u64>> = frames.collect();
    Ok(merged(&frames.ok_or_else(|| io::Error::other("/proc/self/pagemap hides frames"))?))
}

fn frame_of(entry: u64) -> Option<u64> {
    Some(entry & FRAME).filter(|frame| entry & PRESENT != 0 && *frame != 0)
}

/// Merges consecutive frames into runs.
fn merged(frames: &[u64]) -> Pages {
    let mut pages = Pages::new();
    for frame in frames {
        match pages.last_mut() {
            Some((first, n)) if *first + u64::from(*n) == *frame => *n += 1,
            _ => pages.push((*frame, 1)),
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_a_row_are_one_run() {
        assert_eq!(merged(&[7, 8, 9, 3, 4, 12, 11]), [(7, 3), (3, 2), (12, 1), (11, 1)]);
        assert_eq!(merged(&[]), []);
    }

    #[test]
    fn absent_and_hidden_frames_are_none() {
        assert_eq!(frame_of(PRESENT | 1 << 55 | 5), Some(5));
        assert_eq!(frame_of(5), None);
        assert_eq!(frame_of(PRESENT), None);
    }
}
