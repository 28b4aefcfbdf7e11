//! A shell at the console, on a copy-on-write view of the host's files.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use ktstr_wire::spec::{HOST_ROOT_TAG, ShellSpec};

use crate::init::system::mount_with;

/// The terminal, which is also the kernel's console.
const TERMINAL: &str = "/dev/ttyS0";

const HOST: &str = "/ktstr/host";
const CHANGES: &str = "/ktstr/changes";
const VIEW: &str = "/ktstr/view";

/// Directories of the view that are the guest's, not the host's.
const OF_THE_GUEST: [&str; 3] = ["proc", "sys", "dev"];

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(crate) struct ShellError {
    what: &'static str,
    source: io::Error,
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ShellError {
    move |source| ShellError { what, source }
}

/// Runs the shell to its end.
pub(crate) fn run(spec: &ShellSpec) -> Result<(), ShellError> {
    make_view()?;
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL).map_err(failed(TERMINAL))?;
    resize(terminal.as_raw_fd(), spec.size);
    let clone = || terminal.try_clone().map_err(failed(TERMINAL));
    let mut command =
        Command::new(if Path::new(VIEW).join("bin/bash").exists() { "/bin/bash" } else { "/bin/sh" });
    if let Some(line) = &spec.command {
        command.args(["-c", line]);
    }
    command
        .env_clear()
        .envs([("HOME", "/root"), ("TERM", &spec.term), ("PS1", r"ktstr:\w\$ ")])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(clone()?)
        .stdout(clone()?)
        .stderr(clone()?);
    let (view, dir) = (CString::new(VIEW), CString::new(spec.dir.as_str()));
    let (view, dir) = (view.unwrap_or_default(), dir.unwrap_or_default());
    // SAFETY: between fork and exec this calls only setsid, ioctl, chroot and chdir, with strings made before.
    unsafe { command.pre_exec(move || enter(&view, &dir)) };
    let status = command.status().map_err(failed("the shell"))?;
    // SAFETY: the descriptor is open. What the UART has not sent would be lost at the power-off.
    unsafe { libc::tcdrain(terminal.as_raw_fd()) };
    if spec.command.is_some() && !status.success() {
        eprintln!("ktstr: the command ended with {status}");
    }
    Ok(())
}

/// Mounts an overlay: the host's root below, changes in memory above.
fn make_view() -> Result<(), ShellError> {
    for dir in [HOST, CHANGES, VIEW] {
        fs::create_dir_all(dir).map_err(failed("directories of the view"))?;
    }
    let options = "trans=virtio,version=9p2000.L,msize=262144,cache=loose";
    mount_with(HOST_ROOT_TAG, HOST, "9p", libc::MS_RDONLY, options)
        .map_err(failed("the host's files by 9p"))?;
    mount_with("tmpfs", CHANGES, "tmpfs", 0, "").map_err(failed("tmpfs"))?;
    let [upper, work] = ["upper", "work"].map(|d| format!("{CHANGES}/{d}"));
    for dir in [&upper, &work] {
        fs::create_dir(dir).map_err(failed("directories of the view"))?;
    }
    let options = format!("lowerdir={HOST},upperdir={upper},workdir={work}");
    mount_with("overlay", VIEW, "overlay", 0, &options).map_err(failed("overlayfs"))?;
    for dir in OF_THE_GUEST {
        let target = format!("{VIEW}/{dir}");
        fs::create_dir_all(&target).map_err(failed("directories of the view"))?;
        mount_with(&format!("/{dir}"), &target, "none", libc::MS_BIND | libc::MS_REC, "")
            .map_err(failed("the guest's own directories"))?;
    }
    Ok(())
}

/// Gives the terminal the size of the host's, if that has one.
fn resize(terminal: i32, (rows, columns): (u16, u16)) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the structure lives until the call returns.
    unsafe { libc::ioctl(terminal, libc::TIOCSWINSZ, &raw const size) };
}

/// Makes standard input the controlling terminal, and the view the root.
fn enter(view: &CString, dir: &CString) -> io::Result<()> {
    // SAFETY: descriptor 0 is the terminal; the strings are NUL-terminated.
    let entered = unsafe {
        libc::setsid();
        libc::ioctl(0, libc::TIOCSCTTY, 0);
        // A directory that is missing in the view: the root.
        libc::chroot(view.as_ptr()) == 0 && libc::chdir(c"/".as_ptr()) == 0 && {
            libc::chdir(dir.as_ptr());
            true
        }
    };
    if entered { Ok(()) } else { Err(io::Error::last_os_error()) }
}
