//! Building the emulator into the cache.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::emulator::cache::{self, Entry, Meta};
use crate::emulator::error::EmulatorError;
use crate::emulator::{edits, source};
use crate::host::interrupt;
use crate::kernel::error::file_error;
use crate::kernel::lock;
use crate::kernel::logged::Logged;
use crate::kernel::progress::Progress;

/// Lines that the build prints (measured).
const USUAL_LINES: u64 = 1_330;

/// Files that a build needs, and Debian's packages with them.
const NEEDS: [(&str, &str); 6] = [
    ("/usr/bin/gcc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/usr/bin/pkg-config", "pkg-config"),
    ("/usr/include/glib-2.0/glib.h", "libglib2.0-dev"),
    ("/usr/share/doc/python3-venv", "python3-venv"),
    ("/usr/bin/xz", "xz-utils"),
];

/// QEMU's licences, which go where the program goes.
const LICENCES: [&str; 3] = ["LICENSE", "COPYING", "COPYING.LIB"];

fn require_tools() -> Result<(), EmulatorError> {
    let missing: Vec<&str> =
        NEEDS.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { Err(EmulatorError::Tools(missing.join(" "))) }
}

/// QEMU's `configure` refuses paths with spaces and colons.
fn require_buildable(path: &Path) -> Result<(), EmulatorError> {
    let refused = |c: char| c.is_whitespace() || c == ':';
    if path.to_string_lossy().contains(refused) { Err(EmulatorError::Place(path.into())) } else { Ok(()) }
}

/// The emulator that this version of ktstr uses, built if it is not there.
pub(crate) fn cached_or_built() -> Result<Entry, EmulatorError> {
    let (root, key) = (cache::root()?, source::key());
    let dir = root.join(&key);
    if let Some(entry) = cache::entry(&dir) {
        return Ok(entry);
    }
    require_tools()?;
    require_buildable(&root)?;
    fs::create_dir_all(&root).map_err(file_error(&root))?;
    let _lock = lock::exclusive(&root.join(format!("{key}.lock")), &format!("building the emulator {key}"))?;
    if let Some(entry) = cache::entry(&dir) {
        return Ok(entry);
    }
    let archive = source::fetch(&root.join("downloads"))?;
    let work = root.join(format!("{key}.building"));
    // What a killed build left: its holder is gone, for we have the lock.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).map_err(file_error(&work))?;
    let stop = interrupt::stop_flag().map_err(file_error(&work))?;
    let log = root.join(format!("{key}.log"));
    let build = Build { key, work, logged: Logged { log: log.clone(), stop } };
    let result = build.run(&archive, &dir);
    let _ = fs::remove_dir_all(&build.work);
    // The log is what the message of a failed build points to.
    if !matches!(&result, Err(EmulatorError::Build { .. })) {
        let _ = fs::remove_file(&log);
    }
    result
}

struct Build {
    key: String,
    work: PathBuf,
    logged: Logged,
}

impl Build {
    fn run(&self, archive: &Path, dir: &Path) -> Result<Entry, EmulatorError> {
        let started = Instant::now();
        eprintln!("emulator: building QEMU {} with ktstr's changes", source::VERSION);
        let qemu = self.work.join("source");
        self.unpack(archive, &qemu)?;
        edits::apply(&edits::parse(source::EDITS)?, &qemu)?;
        for (path, text) in source::FILES {
            let path = qemu.join(path);
            fs::write(&path, text).map_err(file_error(&path))?;
        }
        self.install_tools()?;
        let out = self.work.join("out");
        fs::create_dir_all(&out).map_err(file_error(&out))?;
        self.compile(&qemu, &out)?;
        let firmware = self.compile_firmware(&qemu)?;
        let meta = Meta {
            version: source::VERSION.into(),
            built_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            build_s: started.elapsed().as_secs(),
        };
        self.publish(&qemu, &out, &firmware, &meta, dir)
    }

    fn unpack(&self, archive: &Path, into: &Path) -> Result<(), EmulatorError> {
        fs::create_dir_all(into).map_err(file_error(into))?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(archive).arg("-C").arg(into).arg("--strip-components=1");
        self.logged.run(tar, None)?;
        Ok(())
    }

    fn python(&self) -> PathBuf {
        self.work.join("python")
    }

    /// Meson and ninja in a directory of their own: Debian 12's are too old.
    fn install_tools(&self) -> Result<(), EmulatorError> {
        let mut venv = Command::new("/usr/bin/python3");
        venv.args(["-m", "venv"]).arg(self.python());
        self.logged.run(venv, None)?;
        let list = self.work.join("requirements.txt");
        fs::write(&list, source::REQUIREMENTS).map_err(file_error(&list))?;
        let mut pip = Command::new(self.python().join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(list);
        self.logged.run(pip, None)?;
        Ok(())
    }

    /// A command in the build's environment: its own Meson and ninja, no flags of the user's.
    fn command(&self, program: impl Into<OsString>) -> Command {
        let mut path = self.python().join("bin").into_os_string();
        path.push(":/usr/bin:/bin");
        let mut command = Command::new(program.into());
        command.env("PATH", path);
        for variable in ["CFLAGS", "CPPFLAGS", "LDFLAGS", "CC", "CXX"] {
            command.env_remove(variable);
        }
        command
    }

    fn compile(&self, qemu: &Path, out: &Path) -> Result<(), EmulatorError> {
        let mut configure = self.command(qemu.join("configure"));
        let python = self.python().join("bin/python3");
        configure
            .current_dir(out)
            .args(source::CONFIGURE)
            .arg(format!("--python={}", python.display()))
            .arg(format!("--with-pkgversion=ktstr {}", self.key));
        self.logged.run(configure, None)?;
        let mut ninja = self.command(self.python().join("bin/ninja"));
        ninja.arg("-C").arg(out).arg(cache::FILES[0]);
        let mut bar = Progress::new("emulator", 0, USUAL_LINES);
        self.logged.run(ninja, Some(&mut bar))?;
        Ok(())
    }

    /// The firmware that QEMU brings as source.
    fn compile_firmware(&self, qemu: &Path) -> Result<PathBuf, EmulatorError> {
        let out = self.work.join("firmware");
        let mut meson = self.command(self.python().join("bin/meson"));
        meson.arg("setup").arg(&out).arg(qemu.join("roms/qboot"));
        self.logged.run(meson, None)?;
        let mut ninja = self.command(self.python().join("bin/ninja"));
        ninja.arg("-C").arg(&out);
        self.logged.run(ninja, None)?;
        Ok(out.join("bios.bin"))
    }

    fn publish(
        &self,
        qemu: &Path,
        out: &Path,
        firmware: &Path,
        meta: &Meta,
        dir: &Path,
    ) -> Result<Entry, EmulatorError> {
        let ready = self.work.join("ready");
        fs::create_dir_all(&ready).map_err(file_error(&ready))?;
        let mut strip = self.command("strip");
        strip.arg("-o").arg(ready.join(cache::FILES[0])).arg(out.join(cache::FILES[0]));
        self.logged.run(strip, None)?;
        fs::copy(firmware, ready.join(cache::FILES[1])).map_err(file_error(&ready))?;
        for licence in LICENCES {
            fs::copy(qemu.join(licence), ready.join(licence)).map_err(file_error(&ready))?;
        }
        let json = serde_json::to_vec_pretty(meta).map_err(|e| file_error(&ready)(e.into()))?;
        fs::write(ready.join("meta.json"), json).map_err(file_error(&ready))?;
        // An unfinished entry of that name has no holder.
        let _ = fs::remove_dir_all(dir);
        fs::rename(&ready, dir).map_err(file_error(dir))?;
        cache::entry(dir).ok_or_else(|| file_error(dir)(io::ErrorKind::NotFound.into()).into())
    }
}
