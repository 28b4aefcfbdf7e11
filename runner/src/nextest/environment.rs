//! A call of nextest or of a test binary, with the environment that its test processes read.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_wire::accel::Accel;
use ktstr_wire::env::{self, Variable};
use ktstr_wire::message::to_json;
use ktstr_wire::spec::ProbeLevel;

use crate::kernel::image::Kernel;
use crate::nextest::error::{TestError, system};
use crate::run::asked::{Asked, DECIDING};
use crate::run::layout;

/// The environment of a call.
#[derive(Clone, Debug)]
pub(crate) struct Invocation<'a> {
    /// Results go to `ktstr` below this directory.
    pub target: &'a Path,
    /// The session that the runs belong to.
    pub session: &'a str,
    pub kernel: &'a ResolvedKernel,
    /// The accelerator.
    pub accel: Accel,
    /// The seed of the run.
    pub seed: Option<u64>,
    /// The range of boots for `--repeat`.
    pub repeats: Range<u32>,
    /// The scheduler that replaces the tests' own.
    pub scheduler: Option<&'a str>,
    /// The seed of a single boot, instead of one derived from the run's.
    pub boot_seed: Option<u64>,
    /// The position of the boot in a randomized order.
    pub position: Option<u32>,
    /// The probe level.
    pub probes: Option<ProbeLevel>,
    /// Pins each vCPU to a host CPU of its own.
    pub pin: bool,
    /// Backs guest memory with huge pages that the host has reserved.
    pub huge_pages: bool,
    /// The kernels and schedulers of a run that has several.
    pub dimensions: &'a [(Variable, String)],
    /// Arguments for nextest.
    pub args: &'a [String],
}

/// Variables that every call sets. A value that the user has set would be ignored.
const ALWAYS_SET: [Variable; 6] =
    [env::RUNNER, env::TARGET_DIR, env::SESSION, env::RESOLVED_KERNEL, env::ACCEL, env::REPEAT];

impl<'a> Invocation<'a> {
    /// One boot of each test.
    pub(crate) fn new(
        target: &'a Path,
        session: &'a str,
        kernel: &'a ResolvedKernel,
        accel: Accel,
    ) -> Invocation<'a> {
        Invocation {
            target,
            session,
            kernel,
            accel,
            seed: None,
            repeats: 0..1,
            scheduler: None,
            boot_seed: None,
            position: None,
            probes: None,
            pin: false,
            huge_pages: false,
            dimensions: &[],
            args: &[],
        }
    }

    /// `cargo nextest run` in the project at `dir`.
    pub(crate) fn nextest(&self, dir: &Path) -> Result<Command, TestError> {
        let mut nextest = layout::cargo();
        nextest.args(["nextest", "run"]).current_dir(dir);
        self.set_environment(&mut nextest)?;
        Ok(nextest)
    }

    /// Sets the environment of a command that starts test processes.
    pub(crate) fn set_environment(&self, command: &mut Command) -> Result<(), TestError> {
        let set = self.variables()?;
        for variable in ALWAYS_SET {
            let value = set.iter().find(|(v, _)| *v == variable).map(|(_, value)| value);
            let users = std::env::var_os(variable.name);
            if let (Some(users), Some(value)) = (users, value)
                && users != *value
            {
                let why = format!(
                    ", but this command sets it to '{}'; unset it and use the options of the command",
                    value.display()
                );
                return Err(variable.error(users, why).into());
            }
        }
        let value_of = |variable: Variable| {
            let own = set.iter().find(|(v, _)| *v == variable).map(|(_, value)| value.clone());
            let value = own.or_else(|| std::env::var_os(variable.name));
            (variable.name.to_string(), value.map(|v| v.to_string_lossy().into_owned()))
        };
        let asked = Asked {
            dir: std::env::current_dir().map_err(system("the current directory"))?,
            nextest: self.args.to_vec(),
            variables: DECIDING.map(value_of).into(),
        };
        command.envs(set).env(env::ASKED, OsStr::new(&*String::from_utf8_lossy(&to_json(&asked))));
        Ok(())
    }

    /// The variables that this environment sets.
    fn variables(&self) -> Result<Vec<(Variable, OsString)>, TestError> {
        let exe = std::env::current_exe().map_err(system("path of this program"))?;
        let mut set: Vec<(Variable, OsString)> = vec![
            (env::RUNNER, exe.into()),
            (env::TARGET_DIR, self.target.into()),
            (env::SESSION, self.session.into()),
            (env::RESOLVED_KERNEL, self.kernel.path().into()),
            (env::ACCEL, self.accel.name().into()),
            (env::FIRST_REPEAT, self.repeats.start.to_string().into()),
            (env::REPEAT, self.repeats.len().to_string().into()),
        ];
        let optional = [
            (env::SEED, self.seed.map(|s| s.to_string())),
            (env::BOOT_SEED, self.boot_seed.map(|s| s.to_string())),
            (env::POSITION, self.position.map(|p| p.to_string())),
            (env::SCHEDULER, self.scheduler.map(str::to_string)),
            (env::PROBES, self.probes.map(|p| p.name().to_string())),
            (env::PIN, self.pin.then(|| "1".into())),
            (env::HUGE_PAGES, self.huge_pages.then(|| "1".into())),
        ];
        set.extend(optional.into_iter().filter_map(|(v, value)| Some((v, value?.into()))));
        set.extend(self.dimensions.iter().map(|(v, value)| (*v, value.into())));
        Ok(set)
    }
}

/// A file with the resolved kernel for the test processes. It is deleted at the end of the session.
#[derive(Debug)]
pub(crate) struct ResolvedKernel {
    path: PathBuf,
}

impl ResolvedKernel {
    pub(crate) fn write(
        ktstr_dir: &Path,
        session: &str,
        kernel: &Kernel,
    ) -> Result<ResolvedKernel, TestError> {
        let dir = ktstr_dir.join("sessions");
        std::fs::create_dir_all(&dir).map_err(system(dir.display().to_string()))?;
        let json = serde_json::to_vec(kernel).map_err(|e| system("kernel description")(e.into()))?;
        // Made first, so that a file that cannot be written whole is gone as well.
        let resolved = ResolvedKernel { path: dir.join(format!("{session}.kernel.json")) };
        std::fs::write(&resolved.path, json).map_err(system(resolved.path.display().to_string()))?;
        Ok(resolved)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ResolvedKernel {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[(Variable, Option<&str>)]) -> Asked {
        let variables = values.iter().map(|(v, value)| (v.name.to_string(), value.map(str::to_string)));
        Asked { variables: variables.collect(), ..Asked::default() }
    }

    #[test]
    fn what_differs_from_what_was_asked_for_is_an_error() {
        let asked = asked(&[(env::ACCEL, Some("sim")), (env::SCHEDULER, None), (env::SEED, Some("7"))]);
        let check = |accel: &'static str, scheduler: Option<&'static str>| {
            asked.check(|v| match v {
                env::ACCEL => Some(accel.into()),
                env::SCHEDULER => scheduler.map(OsString::from),
                _ => Some("7".into()),
            })
        };
        assert_eq!(check("sim", None), Ok(()));
        let text = check("tcg", None).unwrap_err().to_string();
        assert!(text.starts_with("KTSTR_ACCEL is 'tcg', but cargo ktstr set it to 'sim';"), "{text}");
        let text = check("sim", Some("scx_x")).unwrap_err().to_string();
        assert!(text.starts_with("KTSTR_SCHEDULER is 'scx_x', but cargo ktstr left it unset;"), "{text}");
    }

    #[test]
    fn one_of_several_kernels_is_what_was_asked_for() {
        let set = [(env::RESOLVED_KERNEL, Some("/a")), (env::KERNELS, Some("[]"))];
        let of = |v: Variable| Some(if v == env::KERNELS { "[]" } else { "/b" }.into());
        assert_eq!(asked(&set).check(of), Ok(()));
        assert!(asked(&set[..1]).check(of).is_err());
    }
}
