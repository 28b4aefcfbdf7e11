//! The kernel's statistics of a BPF program.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::libbpf_sys::{self, bpf_prog_info};

/// The kernel's information on a program.
pub(crate) fn info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    let mut info = bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info has len bytes, asks for no arrays, and lives until the call returns; the descriptor is open.
    let r = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) };
    if r == 0 { Ok(info) } else { Err(io::Error::from_raw_os_error(-r)) }
}
