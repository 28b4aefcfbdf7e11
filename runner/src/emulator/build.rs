//! Building the emulator into the cache.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::emulator::cache;
use crate::emulator::error::EmulatorError;
use crate::emulator::{edits, source};
use crate::store::cache::{Entry, Meta, Work};
use crate::store::error::file_error;
use crate::store::progress::Progress;
use crate::store::requirements::{require, require_buildable};

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

/// The emulator that this version of ktstr uses, built if it is not there.
pub(crate) fn cached_or_built() -> Result<Entry, EmulatorError> {
    let store = cache::store()?;
    let (key, downloads) = (source::key(), store.root.join("downloads"));
    let prepare = || {
        require(&NEEDS)?;
        require_buildable(&store.root)?;
        source::fetch(&downloads).map(drop)
    };
    let build = |work: &Work| Build { key: &key, work }.run(&downloads.join(source::ARCHIVE));
    store.built(&key, prepare, build)
}

struct Build<'a> {
    key: &'a str,
    work: &'a Work,
}

impl Build<'_> {
    fn run(&self, archive: &Path) -> Result<Meta, EmulatorError> {
        eprintln!("emulator: building QEMU {} with ktstr's changes", source::VERSION);
        let qemu = self.work.dir.join("source");
        self.work.unpack(archive, &qemu)?;
        edits::apply(&edits::parse(source::EDITS)?, &qemu)?;
        for (path, text) in source::FILES {
            let path = qemu.join(path);
            fs::write(&path, text).map_err(file_error(&path))?;
        }
        self.install_tools()?;
        let out = self.work.dir.join("out");
        fs::create_dir_all(&out).map_err(file_error(&out))?;
        let output_lines = self.compile(&qemu, &out)?;
        let firmware = self.compile_firmware(&qemu)?;
        self.collect(&qemu, &out, &firmware)?;
        let source = source::ARCHIVE.into();
        Ok(Meta { release: source::VERSION.into(), source, output_lines, ..Meta::default() })
    }

    fn python(&self) -> PathBuf {
        self.work.dir.join("python")
    }

    /// Meson and ninja in a directory of their own: Debian 12's are too old.
    fn install_tools(&self) -> Result<(), EmulatorError> {
        let mut venv = Command::new("/usr/bin/python3");
        venv.args(["-m", "venv"]).arg(self.python());
        self.work.run(venv, None)?;
        let list = self.work.dir.join("requirements.txt");
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
        self.work.run(pip, None)?;
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

    fn compile(&self, qemu: &Path, out: &Path) -> Result<u64, EmulatorError> {
        let mut configure = self.command(qemu.join("configure"));
        let python = self.python().join("bin/python3");
        configure
            .current_dir(out)
            .args(source::CONFIGURE)
            .arg(format!("--python={}", python.display()))
            .arg(format!("--with-pkgversion=ktstr {}", self.key));
        self.work.run(configure, None)?;
        let mut ninja = self.command(self.python().join("bin/ninja"));
        ninja.arg("-C").arg(out).arg(cache::FILES[0]);
        let mut bar = Progress::new("emulator", 0, USUAL_LINES);
        Ok(self.work.run(ninja, Some(&mut bar))?)
    }

    /// The firmware that QEMU brings as source.
    fn compile_firmware(&self, qemu: &Path) -> Result<PathBuf, EmulatorError> {
        let out = self.work.dir.join("firmware");
        let mut meson = self.command(self.python().join("bin/meson"));
        meson.arg("setup").arg(&out).arg(qemu.join("roms/qboot"));
        self.work.run(meson, None)?;
        let mut ninja = self.command(self.python().join("bin/ninja"));
        ninja.arg("-C").arg(&out);
        self.work.run(ninja, None)?;
        Ok(out.join("bios.bin"))
    }

    fn collect(&self, qemu: &Path, out: &Path, firmware: &Path) -> Result<(), EmulatorError> {
        let ready = self.work.ready();
        let mut strip = self.command("strip");
        strip.arg("-o").arg(ready.join(cache::FILES[0])).arg(out.join(cache::FILES[0]));
        self.work.run(strip, None)?;
        fs::copy(firmware, ready.join(cache::FILES[1])).map_err(file_error(&ready))?;
        for licence in LICENCES {
            fs::copy(qemu.join(licence), ready.join(licence)).map_err(file_error(&ready))?;
        }
        Ok(())
    }
}
