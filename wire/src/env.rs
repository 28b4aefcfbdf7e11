//! Every environment variable of ktstr: which program sets it, which reads it, and its values.
//!
//! A variable that is not set has the default in its comment. A value that is empty, malformed, a relative
//! path or the path of a file that cannot be read is an [`EnvError`]; it never stands for the default.
//! `cargo ktstr` then ends with exit status 2 before it boots anything, and in a test process the test fails
//! with the message.
//!
//! `cargo ktstr` makes paths absolute when it starts (`runner/src/host/surroundings.rs`). A test process may
//! have another current directory than the shell that set the variable, and so a relative path is an error
//! there.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// An environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name of the variable.
    pub name: &'static str,
    /// Its values, as the end of "it takes ...".
    pub takes: &'static str,
}

/// A variable with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is '{value}'{why}; it takes {takes}")]
pub struct EnvError {
    /// Name of the variable.
    pub name: &'static str,
    /// Its value, with replacement characters where it is not Unicode.
    pub value: String,
    why: String,
    takes: &'static str,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal, $takes:literal;)+) => {
        $($(#[doc = $doc])+ pub const $id: Variable = Variable { name: $name, takes: $takes };)+
        /// Every variable.
        pub const ALL: &[Variable] = &[$($id),+];
    };
}

variables! {
    /// Set by users. The kernel of commands without `--kernel`, also of tests that were started without
    /// `cargo ktstr`.
    KERNEL = "KTSTR_KERNEL", "what --kernel takes, with an absolute path outside of cargo ktstr";
    /// Set by users. The mirror that releases are downloaded from; else
    /// `https://cdn.kernel.org/pub/linux/kernel`.
    KERNEL_MIRROR = "KTSTR_KERNEL_MIRROR", "a URL that begins with https:// or http://";
    /// Set by users. The mirror that Debian's packages are downloaded from; else `http://deb.debian.org/debian`.
    PACKAGE_MIRROR = "KTSTR_PACKAGE_MIRROR", "a URL that begins with https:// or http://";
    /// Set by users. The keys with which the signature of that mirror is checked; else those of Debian.
    PACKAGE_KEYRING = "KTSTR_PACKAGE_KEYRING", "the absolute path of a keyring of OpenPGP keys, as gpgv takes it";
    /// Set by users. A directory of a server from which the emulator's source is downloaded, before Debian's.
    EMULATOR_MIRROR = "KTSTR_EMULATOR_MIRROR", "a URL that begins with https:// or http://";
    /// Set by users. The directory of kernels and downloads; else `ktstr` in `XDG_CACHE_HOME` or `~/.cache`.
    CACHE_DIR = "KTSTR_CACHE_DIR", "the absolute path of a directory";
    /// Set by users and by the command that a failure prints. The only directory of all schedulers' binaries;
    /// else they are binaries of the workspace or on `PATH`.
    SCHEDULER_DIR = "KTSTR_SCHEDULER_DIR", "the absolute path of a directory with the binaries of all schedulers of the run";
    /// Set by users. Seconds that `cargo ktstr test` may take; else no limit.
    BUDGET_SECS = "KTSTR_BUDGET_SECS", "a whole number of seconds above 0, as in KTSTR_BUDGET_SECS=300";
    /// Set by users and by `cargo ktstr`, read by test processes and by the runner: the scheduler of every
    /// test, in place of the test's own.
    SCHEDULER = "KTSTR_SCHEDULER", "the name of a scheduler's binary with its arguments, or eevdf";
    /// Set by users and by `cargo ktstr`, read by test processes: the seed of the run, from which those of
    /// its boots are derived; else 0.
    SEED = "KTSTR_SEED", "a number from 0 to 18446744073709551615";
    /// Set by users and by `cargo ktstr`, read by the runner: what the probes record; else everything.
    PROBES = "KTSTR_PROBES", "programs, full, summary or off";
    /// Set by `cargo ktstr` and by users of `cargo nextest run`, read by the runner: the accelerator; else
    /// `auto`.
    ACCEL = "KTSTR_ACCEL", "auto, kvm, tcg or sim";
    /// Set by `cargo ktstr test --pin`, read by the runner: each CPU of a guest gets one of the host's.
    PIN = "KTSTR_PIN", "1";
    /// Set by `cargo ktstr test --huge-pages`, read by the runner: guest memory is in huge pages that the
    /// host has reserved.
    HUGE_PAGES = "KTSTR_HUGE_PAGES", "1";
    /// Set by `cargo ktstr` and by users of `cargo nextest run`, read by the runner: boots of each test; else
    /// 1.
    REPEAT = "KTSTR_REPEAT", "a number of boots from 1 to 10000";
    /// Set by `cargo ktstr` and by the command that a failure prints, read by `cargo ktstr test` and by the
    /// runner: number of the first of these boots; else 0.
    FIRST_REPEAT = "KTSTR_FIRST_REPEAT", "the number of a boot, from 0";
    /// Set by `replay`, `explore` and by the command that a failure prints, read by the runner: the seed of
    /// the one boot, as a sidecar has it; else it is derived from the run's.
    BOOT_SEED = "KTSTR_BOOT_SEED", "a number from 0 to 18446744073709551615";
    /// Set by `stats ab`, `stats gate` and `replay`, read by the runner: place of the boot in a session whose
    /// order is random.
    POSITION = "KTSTR_POSITION", "a number from 0";
    /// Set by `cargo ktstr`, read by the runner: a JSON file with the kernel of the session; else the runner
    /// looks for one.
    RESOLVED_KERNEL = "KTSTR_RESOLVED_KERNEL", "the absolute path of a file that cargo ktstr wrote";
    /// Set by `cargo ktstr` and by tests, read by the runner: results go to `ktstr` below this directory;
    /// else to Cargo's target directory.
    TARGET_DIR = "KTSTR_TARGET_DIR", "the absolute path of a directory";
    /// Set by `cargo ktstr`, read by the runner: identifier of the session; else each test is a session of
    /// its own.
    SESSION = "KTSTR_SESSION", "the identifier of a session, letters, digits and dashes";
    /// Set by `cargo ktstr`, read by the runner, as JSON: the request of the command, with which the runner
    /// compares what it was given.
    ASKED = "KTSTR_ASKED", "JSON that cargo ktstr wrote";
    /// Set by `cargo ktstr` and by users, read by test processes: the runner; else `cargo-ktstr` near the
    /// test binary, then on `PATH`.
    RUNNER = "KTSTR_RUNNER", "the absolute path of cargo-ktstr";
    /// Set by users, read by the runner: the guest agent; else `ktstr-guest` beside the runner.
    GUEST = "KTSTR_GUEST", "the absolute path of ktstr-guest";
    /// Set by `cargo ktstr show` and `shell`, read by the runner: a file for the preview of a run, which is
    /// then not executed.
    SHOW = "KTSTR_SHOW", "the absolute path of a file";
    /// Set by the budget, read by test binaries that list their tests: a file to which they append a
    /// [`crate::listing::Described`] for each, as lines of JSON.
    DESCRIBE = "KTSTR_DESCRIBE", "the absolute path of a file";
    /// Set by the budget, read by test binaries: a file with the [`crate::listing::Selection`]; they have no
    /// other tests then.
    SELECTION = "KTSTR_SELECTION", "the absolute path of a file that cargo ktstr wrote";
    /// Set by `cargo ktstr test`, read by test binaries, as JSON: the [`crate::listing::KernelChoice`]s of a
    /// run with several kernels.
    KERNELS = "KTSTR_KERNELS", "JSON that cargo ktstr wrote";
    /// Set by `cargo ktstr test`, read by test binaries, as JSON: the schedulers of a run with several, each
    /// as [`SCHEDULER`] takes it.
    SCHEDULERS = "KTSTR_SCHEDULERS", "JSON that cargo ktstr wrote";
    /// Set by `cargo ktstr test`, read by test binaries that list ignored tests: a file to which they append
    /// a line about the presets that the gauntlet leaves out. nextest does not show the output of listing.
    GAUNTLET_REPORT = "KTSTR_GAUNTLET_REPORT", "the absolute path of a file";
    /// Set by the guest agent, read by the process of a test body: name of the test whose body is to be run.
    BODY = "KTSTR_BODY", "the name of a test";
    /// Set by test processes, read by themselves when they start once more: name of the test whose body is to
    /// be run dry.
    DRY_RUN = "KTSTR_DRY_RUN", "the name of a test";
    /// Set by the guest agent, read by the process of a test body: number of the descriptor of the socket to
    /// the agent.
    AGENT_FD = "KTSTR_AGENT_FD", "the number of a descriptor";
    /// Set by `cargo ktstr capsule`, read by the runner: a directory for the kernel, the guest's files and the
    /// spec.
    CAPSULE_PARTS = "KTSTR_CAPSULE_PARTS", "the absolute path of a directory";
    /// Set by tests, read by the runner: a CPU of guests in `sim` that gets two thirds of its time, to test
    /// that the run reports it.
    SLOW_CPU = "KTSTR_SLOW_CPU", "the number of a CPU";
    /// Set by `make test`, read by tests: the kernel for guests.
    TEST_KERNEL = "KTSTR_TEST_KERNEL", "the absolute path of a bzImage, as cargo ktstr kernel list shows it";
    /// Set by developers, read by unit tests: generated pages are written instead of compared.
    WRITE_DOCS = "KTSTR_WRITE_DOCS", "1";
}

/// For [`std::process::Command::env`].
impl AsRef<OsStr> for Variable {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(self.name)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Variable {
    /// The error about this value. `why` follows it, as in "KTSTR_X is 'y'{why}".
    pub fn error(self, value: impl AsRef<OsStr>, why: impl Into<String>) -> EnvError {
        let value = value.as_ref().to_string_lossy().into_owned();
        EnvError { name: self.name, value, why: why.into(), takes: self.takes }
    }

    fn os(self) -> Result<Option<OsString>, EnvError> {
        match std::env::var_os(self.name) {
            Some(value) if value.is_empty() => Err(self.error(value, ", which is empty")),
            value => Ok(value),
        }
    }

    /// The value as text.
    pub fn text(self) -> Result<Option<String>, EnvError> {
        let text = |value: OsString| value.into_string().map_err(|v| self.error(v, ", which is not Unicode"));
        self.os()?.map(text).transpose()
    }

    /// The value as `read` parses it.
    pub fn read<T>(self, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, EnvError> {
        let Some(text) = self.text()? else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| self.error(&text, ""))
    }

    /// The value as a number.
    pub fn number<T: FromStr>(self) -> Result<Option<T>, EnvError> {
        self.read(|text| text.parse().ok())
    }

    /// Whether the variable is set. Its only value is 1.
    pub fn flag(self) -> Result<bool, EnvError> {
        Ok(self.read(|text| (text == "1").then_some(()))?.is_some())
    }

    /// The value as an absolute path.
    pub fn path(self) -> Result<Option<PathBuf>, EnvError> {
        let Some(path) = self.os()?.map(PathBuf::from) else { return Ok(None) };
        if path.is_absolute() { Ok(Some(path)) } else { Err(self.error(path, ", a relative path")) }
    }

    /// The value, parsed as JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<Option<T>, EnvError> {
        let Some(text) = self.text()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| self.error(&text, format!(": {e}")))
    }

    /// The content of the file with this path, parsed as JSON.
    pub fn json_file<T: DeserializeOwned>(self) -> Result<Option<T>, EnvError> {
        let Some(path) = self.path()? else { return Ok(None) };
        let read = |path: &Path| -> Result<T, String> {
            let json = std::fs::read(path).map_err(|e| format!(": {e}"))?;
            serde_json::from_slice(&json).map_err(|e| format!(": {e}"))
        };
        read(&path).map(Some).map_err(|why| self.error(path, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    /// The errors of all readers.
    fn all_readers(v: Variable) -> [Option<EnvError>; 6] {
        [
            v.text().err(),
            v.number::<u32>().err(),
            v.flag().err(),
            v.path().err(),
            v.json::<u32>().err(),
            v.json_file::<u32>().err(),
        ]
    }

    /// Runs this test again with `value` in [`REPEAT`], and returns the names of the readers that refused it.
    fn refused(value: &OsStr) -> String {
        let test = ["--exact", "env::tests::readers_refuse_invalid_values", "--nocapture"];
        let exe = std::env::current_exe().unwrap();
        let out = Command::new(exe).args(test).env(REPEAT, value).env(WRITE_DOCS, "1").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().find_map(|l| Some(l.split_once("refused ")?.1.to_string())).unwrap_or(text)
    }

    #[test]
    fn readers_refuse_invalid_values() {
        if std::env::var_os(REPEAT.name).is_some() && WRITE_DOCS.flag() == Ok(true) {
            let names = ["text", "number", "flag", "path", "json", "json_file"];
            let refused = names.into_iter().zip(all_readers(REPEAT)).filter(|(_, e)| e.is_some());
            std::println!("refused {}", refused.map(|(n, _)| n).collect::<alloc::vec::Vec<_>>().join(" "));
            return;
        }
        let file = std::env::temp_dir().join(format!("ktstr-env-{}", std::process::id()));
        std::fs::write(&file, "7").unwrap();
        assert_eq!(refused(OsStr::new("")), "text number flag path json json_file");
        assert_eq!(refused(OsStr::new("1")), "path json_file");
        assert_eq!(refused(OsStr::new("x")), "number flag path json json_file");
        assert_eq!(refused(OsStr::new("../x")), "number flag path json json_file");
        assert_eq!(refused(OsStr::new("/nowhere/x")), "number flag json json_file");
        assert_eq!(refused(file.as_os_str()), "number flag json");
        assert_eq!(refused(OsStr::from_bytes(b"/\xff")), "text number flag json json_file");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn error_names_the_variable_its_value_and_what_it_takes() {
        let text = REPEAT.error("many", "").to_string();
        assert_eq!(text, "KTSTR_REPEAT is 'many'; it takes a number of boots from 1 to 10000");
    }

    #[test]
    fn names_are_unique() {
        for (i, v) in ALL.iter().enumerate() {
            assert!(v.name.starts_with("KTSTR_") && ALL[..i].iter().all(|o| o.name != v.name), "{v}");
        }
    }
}
