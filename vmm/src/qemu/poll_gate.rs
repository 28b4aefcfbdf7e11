//! The gate before QEMU's event loops (`gate.c` says what for).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// The library that keeps it.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gate.so"));

/// Bits of the shared word, as in `gate.c`.
const WAITS: u32 = 1;
const OPEN: u32 = 2;

/// A gate that opens only while QEMU's emulating thread waits, until it is opened for good.
#[derive(Debug)]
pub struct Gate {
    library: File,
    state: File,
    word: *const AtomicU32,
}

// SAFETY: the word is in a mapping of this value's own and only accessed atomically.
unsafe impl Send for Gate {}
// SAFETY: as above.
unsafe impl Sync for Gate {}

impl Gate {
    /// Both files are memory: a path could not be preloaded if it had a space in it.
    pub fn new() -> io::Result<Gate> {
        let (mut library, state) = (memory_file(c"gate.so")?, memory_file(c"gate")?);
        library.write_all(LIBRARY)?;
        state.set_len(size_of::<AtomicU32>() as u64)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let len = size_of::<AtomicU32>();
        // SAFETY: a new shared mapping of a file of that length; the kernel chooses the place.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, state.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let gate = Gate { library, state, word: start.cast() };
        // Until the emulating thread is there, nothing needs to wait for it.
        gate.word().store(WAITS, Ordering::SeqCst);
        Ok(gate)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the mapping lives as long as self, and the kernel aligned it to a page.
        unsafe { &*self.word }
    }

    /// Descriptors that QEMU has to inherit.
    pub fn inherited(&self) -> [RawFd; 2] {
        [self.library.as_raw_fd(), self.state.as_raw_fd()]
    }

    /// What QEMU needs in its environment.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", format!("/proc/self/fd/{}", self.library.as_raw_fd())),
            (ktstr_wire::env::GATE_FD.name, self.state.as_raw_fd().to_string()),
        ]
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.word().fetch_or(OPEN, Ordering::SeqCst);
        // SAFETY: the word is mapped; waking touches no other memory.
        unsafe { libc::syscall(libc::SYS_futex, self.word, libc::FUTEX_WAKE, libc::c_int::MAX) };
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and no reference into it outlives self.
        unsafe { libc::munmap(self.word.cast_mut().cast(), size_of::<AtomicU32>()) };
    }
}

fn memory_file(name: &std::ffi::CStr) -> io::Result<File> {
    // SAFETY: the name is NUL-terminated and lives until the call returns.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Set in the process that the gate is preloaded into.
    const PRELOADED: &str = ktstr_wire::env::GATE_TEST.name;

    struct Emulation {
        mutex: std::cell::UnsafeCell<libc::pthread_mutex_t>,
        cond: std::cell::UnsafeCell<libc::pthread_cond_t>,
        wanted: AtomicBool,
        waits: AtomicBool,
    }

    // SAFETY: pthread's own types are made to be shared.
    unsafe impl Sync for Emulation {}

    static EMULATION: Emulation = Emulation {
        mutex: std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
        cond: std::cell::UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
        wanted: AtomicBool::new(true),
        waits: AtomicBool::new(false),
    };

    impl Emulation {
        /// As QEMU's thread does it: sleeps until there is work, works without sleeping while there is.
        fn run(&self) {
            loop {
                while self.wanted.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                // SAFETY: both were initialised, and this thread holds the mutex when it waits.
                unsafe {
                    libc::pthread_mutex_lock(self.mutex.get());
                    while !self.wanted.load(Ordering::SeqCst) {
                        self.waits.store(true, Ordering::SeqCst);
                        libc::pthread_cond_wait(self.cond.get(), self.mutex.get());
                    }
                    self.waits.store(false, Ordering::SeqCst);
                    libc::pthread_mutex_unlock(self.mutex.get());
                }
            }
        }

        fn set_wanted(&self, wanted: bool) {
            self.wanted.store(wanted, Ordering::SeqCst);
            while self.waits.load(Ordering::SeqCst) == wanted {
                // SAFETY: both were initialised. Who says that it waits holds the mutex until it does.
                unsafe {
                    libc::pthread_mutex_lock(self.mutex.get());
                    libc::pthread_cond_signal(self.cond.get());
                    libc::pthread_mutex_unlock(self.mutex.get());
                }
                std::thread::yield_now();
            }
        }
    }

    /// An event loop's thread that polls nothing, once.
    fn poll() -> std::thread::JoinHandle<()> {
        std::thread::spawn(|| {
            // SAFETY: no descriptors.
            unsafe { libc::poll(std::ptr::null_mut(), 0, 0) };
        })
    }

    /// The gate holds it for as long as this looks.
    fn assert_held(poll: &std::thread::JoinHandle<()>) {
        std::thread::sleep(Duration::from_millis(50));
        assert!(!poll.is_finished(), "the gate is open while the emulation works");
    }

    fn in_the_preloaded_process() {
        poll().join().unwrap();
        std::thread::Builder::new().name("ALL CPUs/TCG".into()).spawn(|| EMULATION.run()).unwrap();
        EMULATION.set_wanted(false);
        poll().join().unwrap();
        EMULATION.set_wanted(true);
        let held = poll();
        assert_held(&held);
        EMULATION.set_wanted(false);
        held.join().unwrap();
        EMULATION.set_wanted(true);
        let held = poll();
        assert_held(&held);
        println!("working");
        held.join().unwrap();
    }

    #[test]
    fn event_loops_pass_only_while_the_emulation_waits_or_the_gate_is_opened() {
        if std::env::var_os(PRELOADED).is_some() {
            return in_the_preloaded_process();
        }
        let gate = Gate::new().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name =
            "qemu::poll_gate::tests::event_loops_pass_only_while_the_emulation_waits_or_the_gate_is_opened";
        command.args(["--exact", name, "--nocapture"]).env(PRELOADED, "1").envs(gate.environment());
        let inherited = gate.inherited();
        // SAFETY: fcntl is async-signal-safe.
        unsafe { command.pre_exec(move || inherited.into_iter().try_for_each(crate::host::child::inherit)) };
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut said = io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("working") {
            line.clear();
            assert!(io::BufRead::read_line(&mut said, &mut line).unwrap() > 0, "it ended early");
        }
        gate.open();
        let mut rest = String::new();
        io::Read::read_to_string(&mut said, &mut rest).unwrap();
        assert!(child.wait().unwrap().success(), "{rest}");
    }
}
