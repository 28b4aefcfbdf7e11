//! One run's life: from the spec that a test process wrote to the files under `target/ktstr/`.
//!
//! 1. read the spec, refuse a test that cannot be meant ([`terms`]), resolve the kernel, find the scheduler's binary ([`scheduler`]);
//! 2. make a work directory `VARIANT.RUN_ID.partial/` and lock it, write `identity.json`;
//! 3. build the initramfs ([`image`]), boot the guest, append what it sends to `raw.log` ([`collect`]) and what the probes write
//!    into its memory, if that would not hold it, to `drained.log` ([`drain`]);
//! 4. when the guest is gone: convert, compute, judge ([`verdict`]), publish ([`finish`]);
//! 5. print what failed ([`report`]).
//!
//! Invariants: nothing of a run has its final name before it is complete; whatever happens, the guest is gone when this
//! returns; a run whose runner was killed is finished by [`crate::recover`] from the same directory.

pub mod collect;
pub mod drain;
pub mod extras;
pub mod finish;
pub mod guest_log;
pub mod host_time;
pub mod identity;
pub mod image;
pub mod layout;
pub mod report;
pub mod rerun;
pub mod scheduler;
pub mod script;
pub mod seed;
pub mod share;
pub mod stops;
pub mod terms;
pub mod verdict;

#[cfg(test)]
mod self_check_tests;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ktstr_analysis::{HostAccount, Identity};
use ktstr_vmm::kvm::KvmError;
use ktstr_vmm::{Guest, GuestConfig, GuestEnd, Moment, Share, StartError};
use ktstr_wire::env::{self, EnvError};
use ktstr_wire::spec::TestSpec;
use ktstr_wire::{VSOCK_PORT, WIRE_VERSION};

use crate::accel::Mode;
use crate::budget::estimate;
use crate::exit;
use crate::invocation::Asked;
use crate::kernel::{Kernel, KernelError};
use crate::witness::Watch;
use collect::{Collector, Known, Progress};
use drain::ReaderPlan;
use guest_log::Shape;
use share::Pinning;
use stops::Stops;
use verdict::{Circumstances, Judgement};

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The spec of the test cannot be read.
    #[error("test spec on standard input: {0}")]
    Spec(String),
    /// The test binary was built with another version of ktstr.
    #[error(
        "the test was built with wire version {found}, this cargo-ktstr speaks {WIRE_VERSION}; build both from the same ktstr (cargo update -p ktstr, make install)"
    )]
    Version {
        /// Version of the test binary.
        found: u16,
    },
    /// The accelerator of the test is wrong.
    #[error("accel = '{0}' of the test; it takes {takes}", takes = env::ACCEL.takes)]
    Accel(String),
    /// A variable of the environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// A condition of the test cannot be meant.
    #[error("{condition}: {why}")]
    Assertion {
        /// As the test has it.
        condition: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its guest would refuse what the body does.
    #[error("the test cannot be run: {0}")]
    Steps(String),
    /// `--pin` where there are too few CPUs.
    #[error(
        "--pin: the guest has {guest} CPUs and this host {host}; leave --pin out, or choose a test with fewer CPUs"
    )]
    Pin {
        /// CPUs of the guest.
        guest: usize,
        /// CPUs that this process may use.
        host: usize,
    },
    /// A thread of the guest could not be bound to its CPU.
    #[error("--pin: {0}")]
    Affinity(io::Error),
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No scheduler.
    #[error(transparent)]
    Scheduler(#[from] scheduler::SchedulerError),
    /// Something else that the test names is missing.
    #[error(transparent)]
    Extra(#[from] extras::ExtraError),
    /// The guest agent is not installed beside this program.
    #[error(
        "guest agent not found at {0}; build it (cargo build -p cargo-ktstr) or set KTSTR_GUEST to its path"
    )]
    NoAgent(PathBuf),
    /// The initramfs could not be made.
    #[error("initramfs: {0}")]
    Image(#[from] ktstr_vmm::InitramfsError),
    /// The guest could not be started.
    #[error(transparent)]
    Start(#[from] ktstr_vmm::StartError),
    /// Files of the run.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The results could not be made from what arrived.
    #[error(transparent)]
    Finish(#[from] finish::FinishError),
    /// A file is another one than the one that the run is to be known by.
    #[error("{0} changed while it was packed for the guest; run the test again when nothing writes to it")]
    Changed(PathBuf),
    /// SIGINT or SIGTERM.
    #[error("interrupted; the guest is gone and the unfinished run was removed")]
    Interrupted,
}

impl RunError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            RunError::Spec(_) | RunError::Version { .. } => exit::INTERNAL,
            RunError::Accel(_) | RunError::Env(_) => exit::USAGE,
            RunError::Assertion { .. } | RunError::Steps(_) => exit::TEST_INVALID,
            RunError::Kernel(e) => e.exit_status(),
            RunError::Scheduler(e) | RunError::Extra(extras::ExtraError::Scheduler(e)) => e.exit_status(),
            RunError::Extra(_) => exit::HOST_LACKS,
            RunError::NoAgent(_) | RunError::Pin { .. } | RunError::Affinity(_) => exit::HOST_LACKS,
            RunError::Image(e) => exit::of_causes(e, exit::INTERNAL),
            RunError::Start(StartError::Kvm(KvmError::Boot(_) | KvmError::Topology { .. })) => {
                exit::BOOT_ERROR
            }
            // /dev/kvm and its like: the message says what to do about the permission.
            RunError::Start(e) => match exit::of_causes(e, exit::HOST_LACKS) {
                exit::NO_SPACE => exit::NO_SPACE,
                _ => exit::HOST_LACKS,
            },
            RunError::File { source, .. } => exit::of_causes(source, exit::INTERNAL),
            RunError::Finish(e) => exit::of_causes(e, exit::INTERNAL),
            RunError::Changed(_) => exit::INCONCLUSIVE,
            RunError::Interrupted => exit::INTERRUPTED,
        }
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |source| RunError::File { path: path.into(), source }
}

/// Reads the spec that a test process writes.
pub fn read_spec(from: impl io::Read) -> Result<TestSpec, RunError> {
    let spec_error = |e: serde_json::Error| RunError::Spec(e.to_string());
    let value: serde_json::Value = serde_json::from_reader(from).map_err(spec_error)?;
    match value.get("wire_version").and_then(|v| v.as_u64()).and_then(|v| u16::try_from(v).ok()) {
        Some(WIRE_VERSION) => serde_json::from_value(value).map_err(spec_error),
        Some(found) => Err(RunError::Version { found }),
        None => Err(RunError::Spec("no wire_version".into())),
    }
}

/// Everything that one boot needs and that the repetitions share.
#[derive(Debug)]
pub struct Plan {
    /// The test.
    pub spec: TestSpec,
    /// The kernel.
    pub kernel: Kernel,
    /// The scheduler's binary.
    pub scheduler: Option<scheduler::Program>,
    /// What else travels into the guest.
    pub extras: Vec<extras::Extra>,
    /// `target/ktstr`.
    pub ktstr_dir: PathBuf,
    /// State of the project.
    pub project: layout::Project,
    /// How it is run.
    pub settings: Settings,
}

/// How a test process was told to run its test.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The invocation that this run belongs to.
    pub session: String,
    /// How guests are run.
    pub mode: Mode,
    /// Numbers of the boots.
    pub repeats: std::ops::Range<u32>,
    /// Number of the attempt that nextest makes at the test, from 1.
    pub attempt: u32,
    /// The seed of the boot, where it is not derived from the run's.
    pub boot_seed: Option<u64>,
    /// Place of the boot in a session whose order is random.
    pub position: Option<u32>,
    /// What `cargo ktstr` was asked for, where it started the test.
    pub asked: Option<Asked>,
    /// The scheduler in place of the test's own, with its arguments.
    pub scheduler_override: Option<String>,
    /// Each CPU of the guest has one of the host's.
    pub pin: bool,
    /// The guest's memory is in huge pages that the host has reserved.
    pub huge_pages: bool,
}

impl Plan {
    /// Finds what the spec names.
    pub fn new(
        spec: TestSpec,
        kernel: Kernel,
        ktstr_dir: PathBuf,
        settings: Settings,
    ) -> Result<Plan, RunError> {
        let manifest_dir = Path::new(&spec.manifest_dir);
        let scheduler = match &spec.scheduler {
            Some(s) if kernel.supports_sched_ext() == Some(false) => {
                return Err(KernelError::no_sched_ext(&kernel, &s.name).into());
            }
            Some(s) => Some(scheduler::find(&s.binary, manifest_dir)?),
            None => None,
        };
        let extras = extras::find(&spec, scheduler.as_ref().map(|s| s.path.as_path()))?;
        let project = layout::Project::of(manifest_dir);
        // Else `cargo ktstr` has said it.
        if settings.asked.is_none() {
            project.tell_refusal();
        }
        Ok(Plan { scheduler, extras, project, ktstr_dir, spec, kernel, settings })
    }

    /// Boots once and gives the published result.
    pub fn boot(&self, repeat: u32, stop: &AtomicBool) -> Result<finish::Published, RunError> {
        let spec = self.seeded(repeat);
        let share = share::claim(&spec, &self.settings, stop)?;
        let mut identity = identity::identity(&identity::Parts {
            spec: &spec,
            kernel: &self.kernel,
            scheduler: self.scheduler.as_ref(),
            scheduler_override: self.settings.scheduler_override.as_deref(),
            agent: &agent_path()?,
            position: self.settings.position,
            huge_pages: self.settings.huge_pages,
            project: &self.project,
            accel: self.settings.mode.name(),
            repeat,
            attempt: self.settings.attempt,
            session: self.settings.session.clone(),
        })
        .map_err(file_error(self.scheduler.as_ref().map_or(Path::new("scheduler"), |s| &s.path)))?;
        let results = layout::results_dir(&self.ktstr_dir, &identity.kernel, &self.project);
        let work = WorkDir::create(&results, &identity)?;
        let spec_file = work.path().join(terms::SPEC_FILE);
        fs::write(&spec_file, ktstr_wire::message::to_json(&spec)).map_err(file_error(&spec_file))?;
        let mut around = match self.run_guest(&spec, &identity, &work, &share, stop) {
            Ok(around) => around,
            Err(e) => {
                work.remove();
                return Err(e);
            }
        };
        if stop.load(Ordering::Relaxed) {
            work.remove();
            return Err(RunError::Interrupted);
        }
        // The next guest need not wait for the tables of this one.
        drop(share);
        identity.pinned = around.pinned;
        around.overcommitted = identity.host.nr_cpus.is_some_and(|n| n < spec.topology.nr_cpus());
        Ok(finish::finish(work.path(), identity, &around)?)
    }

    /// The spec of one boot. What the test process asked for has the seed of the whole run.
    fn seeded(&self, repeat: u32) -> TestSpec {
        let seed = match self.settings.boot_seed {
            Some(seed) => seed,
            None => seed::of_boot(self.spec.seed, &self.spec.test, repeat),
        };
        TestSpec { seed, ..self.spec.clone() }
    }

    /// That what was packed, and the kernel, are what the identity has the digests of.
    fn require_unchanged(&self, identity: &Identity, agent: &Path) -> Result<(), RunError> {
        self.kernel.require_unchanged()?;
        let test = Path::new(&self.spec.binary);
        let require = |path: &Path, found: io::Result<String>, sha256: &str| match found {
            Ok(found) if found == sha256 => Ok(()),
            Ok(_) => Err(RunError::Changed(path.into())),
            Err(e) => Err(file_error(path)(e)),
        };
        require(test, identity::sha256_file(test), &identity.test_sha256)?;
        require(agent, identity::sha256_file(agent), &identity.guest_sha256)?;
        if let Some((scheduler, sha256)) = self.scheduler.as_ref().zip(identity.scheduler_sha256.as_ref()) {
            let found = identity::scheduler_sha256(&scheduler.path, Path::new(&self.spec.manifest_dir));
            require(&scheduler.path, found, sha256)?;
        }
        Ok(())
    }

    fn image(&self) -> &Path {
        match &self.kernel.sim_image {
            Some(image) if self.settings.mode != Mode::Tcg => image,
            _ => &self.kernel.image,
        }
    }

    fn run_guest(
        &self,
        spec: &TestSpec,
        identity: &Identity,
        work: &WorkDir,
        share: &Share,
        stop: &AtomicBool,
    ) -> Result<Circumstances, RunError> {
        let work = work.path();
        let initramfs = work.join("initramfs.cpio");
        let agent = agent_path()?;
        let binaries = image::Binaries {
            agent: &agent,
            scheduler: self.scheduler.as_ref().map(|s| s.path.as_path()),
            modules: &self.kernel.modules,
            extras: &self.extras,
        };
        let sim = self.settings.mode == Mode::Sim;
        let manner = image::Manner { sim, shell: None };
        image::build(spec, &binaries, manner, &initramfs)?;
        self.require_unchanged(identity, &agent)?;
        let scratch =
            tempfile::Builder::new().prefix("ktstr-").tempdir().map_err(file_error(&std::env::temp_dir()))?;
        fs::write(work.join("scratch"), scratch.path().as_os_str().as_encoded_bytes())
            .map_err(file_error(work))?;
        let config = GuestConfig {
            kernel: self.image().to_path_buf(),
            initramfs: initramfs.clone(),
            topology: self.spec.topology,
            memory_mib: self.spec.memory_mib,
            host_memory: share::host_memory(spec, &self.settings, share),
            cmdline: spec.kernel_args.clone(),
            run_dir: scratch.path().into(),
            console_log: work.join("console.log"),
        };
        let (host, device) = UnixStream::pair().map_err(file_error(work))?;
        let known = Arc::new(OnceLock::new());
        let reader = ReaderPlan {
            shape: Shape {
                nr_cpus: spec.topology.nr_cpus(),
                records_per_cpu: image::records_per_cpu(spec, sim),
            },
            path: work.join(ktstr_analysis::DRAINED_LOG),
            claimed: share.cpus.clone(),
        };
        let collector =
            Collector::start(host, &work.join("raw.log"), known.clone(), reader).map_err(file_error(work))?;
        let mut device = Some(device);
        let accept = Box::new(move |port| if port == VSOCK_PORT { device.take() } else { None });
        let mut guest = ktstr_vmm::start(&config, self.settings.mode.accel(), accept)?;
        let threads = guest.cpu_threads();
        let _ = known.set(Known { cpus: threads.clone(), memory: guest.memory() });
        let mut stops = Stops::of(threads.clone());
        let mut pinning = threads
            .filter(|_| self.settings.pin)
            .map(|threads| Pinning::new(threads, share, spec.topology.nr_cpus()));
        let watch = (self.settings.mode == Mode::Kvm).then(|| Watch::start(&guest, spec.topology.nr_cpus()));
        let end =
            wait(&mut guest, &collector, self, Looks { pinning: pinning.as_mut(), stops: &mut stops }, stop)
                .map_err(RunError::Affinity)?;
        let pages = guest.pages();
        drop(guest);
        let progress = collector.finish();
        let (stolen, unwatched) = match watch.map(|w| w.finish(progress.opening.zip(progress.closing))) {
            Some(Ok(stolen)) => (Some(stolen), None),
            Some(Err(why)) => (None, Some(why.to_string())),
            None => (None, None),
        };
        // The initramfs is as large as the binaries in it and can be made again.
        let _ = fs::remove_file(&initramfs);
        Ok(Circumstances {
            end: Some(end),
            panic_line: report::panic_line(&config.console_log),
            host: HostAccount {
                stopped_ns: window_of(&progress).and_then(|window| stops.within(window)),
                run_delay_ns: progress.host_run_delay_ns,
                stolen,
                unwatched,
                drained: progress.drained,
            },
            age_ns: progress.age_ns,
            pinned: pinning.is_some_and(|p| p.is_done()),
            pages,
            log_error: progress.log_error,
            write_error: progress.write_error.map(|e| e.to_string()),
            ..Circumstances::default()
        })
    }
}

/// Longest wait for `Hello`. Emulation of one CPU boots in 2 s, of 64 CPUs in 20 s on an idle two-core machine; a KVM guest in
/// a guest that is emulated itself took 100 s on a machine with ten times as much to do as it has cores, and this allows for
/// that. A deterministic guest says nothing before its window has ended.
fn boot_limit(plan: &Plan) -> Duration {
    let per_cpu = 3 * u64::from(plan.spec.topology.nr_cpus());
    match plan.settings.mode {
        Mode::Sim => (Duration::from_secs(60 + per_cpu) + end_limit(plan)) * 5,
        Mode::Kvm | Mode::Tcg => Duration::from_secs(300 + per_cpu),
    }
}

/// Longest wait for the end after `Hello`: the guest ends its test by itself before that.
fn end_limit(plan: &Plan) -> Duration {
    Duration::from_nanos(plan.spec.duration_ns).saturating_mul(10) + Duration::from_secs(240)
}

/// The window by the host's clock, as far as the host heard of it.
fn window_of(progress: &Progress) -> Option<Range<u64>> {
    Some(progress.opening?.host.ns..progress.closing?.host.ns)
}

/// What is looked after while a guest runs.
struct Looks<'a> {
    pinning: Option<&'a mut Pinning>,
    stops: &'a mut Stops,
}

impl Looks<'_> {
    fn go_on(&mut self) -> io::Result<()> {
        if let Some(now) = Moment::now() {
            self.stops.look(now.ns);
        }
        self.pinning.as_mut().map_or(Ok(()), |pinning| pinning.go_on())
    }
}

/// Waits in short steps, so that a full disk and a stream that has ended are noticed.
fn wait(
    guest: &mut Guest,
    collector: &Collector,
    plan: &Plan,
    mut looks: Looks<'_>,
    stop: &AtomicBool,
) -> io::Result<GuestEnd> {
    let start = Instant::now();
    let mut limit = start + boot_limit(plan);
    let (mut up, mut ended) = (false, false);
    loop {
        looks.go_on()?;
        match guest.wait(Some(Instant::now() + Duration::from_millis(100)), stop) {
            GuestEnd::TimedOut => {}
            end => return Ok(end),
        }
        let progress = collector.progress();
        if progress.hello && !up {
            up = true;
            limit = Instant::now() + end_limit(plan);
        }
        if progress.ended && !ended {
            ended = true;
            limit = limit.min(Instant::now() + Duration::from_secs(30));
        }
        if Instant::now() >= limit || progress.write_error.is_some() {
            guest.kill();
            return Ok(GuestEnd::TimedOut);
        }
    }
}

/// The guest agent: `KTSTR_GUEST`, or the one beside this program.
pub fn agent_path() -> Result<PathBuf, RunError> {
    let path = match env::GUEST.path()? {
        Some(path) => path,
        None => std::env::current_exe()
            .map_err(file_error(Path::new("cargo-ktstr")))?
            .with_file_name("ktstr-guest"),
    };
    if path.is_file() { Ok(path) } else { Err(RunError::NoAgent(path)) }
}

/// The directory of an unfinished run, locked while its runner lives.
#[derive(Debug)]
struct WorkDir {
    path: PathBuf,
    _lock: fs::File,
}

impl WorkDir {
    fn create(results: &Path, identity: &Identity) -> Result<WorkDir, RunError> {
        let path = results.join(format!("{}.{}.partial", identity.variant, identity.run_id));
        fs::create_dir_all(&path).map_err(file_error(&path))?;
        match WorkDir::fill(&path, identity) {
            Ok(lock) => Ok(WorkDir { path, _lock: lock }),
            Err(e) => {
                // What cannot be removed is found again by the next `stats`.
                let _ = fs::remove_dir_all(&path);
                Err(e)
            }
        }
    }

    /// Makes the lock and the identity.
    fn fill(path: &Path, identity: &Identity) -> Result<fs::File, RunError> {
        let lock_path = path.join(finish::LOCK_FILE);
        let lock = fs::File::create(&lock_path).map_err(file_error(&lock_path))?;
        lock.lock().map_err(file_error(&lock_path))?;
        let file = path.join(finish::IDENTITY_FILE);
        let json = serde_json::to_vec_pretty(identity)
            .map_err(|e| RunError::File { path: file.clone(), source: e.into() })?;
        fs::write(&file, json).map_err(file_error(&file))?;
        Ok(lock)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an interrupted or failed start left.
    fn remove(&self) {
        // What cannot be removed is found again by the next `stats`.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Runs a test as `internal-run` does: every repetition in turn, reports on stdout. Gives the exit status of the first
/// boot that did not pass.
pub fn run_all(plan: &Plan, stop: &AtomicBool) -> Result<u8, RunError> {
    let mut status = exit::OK;
    for i in plan.settings.repeats.clone() {
        let start = Instant::now();
        let published = plan.boot(i, stop)?;
        let id = &published.sidecar.identity;
        let wall_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        estimate::note(&plan.ktstr_dir, &id.full_test(), &id.topology.to_string(), &id.accel, wall_ms);
        report::print(&published, plan);
        if published.judgement.exit_status != exit::OK {
            // nextest takes what follows this word on standard error into its reports.
            eprintln!("Error: {}", published.judgement.reason());
        }
        crate::session::append(&plan.ktstr_dir, &plan.settings.session, &published);
        let Judgement { exit_status, .. } = published.judgement;
        if status == exit::OK {
            status = exit_status;
        }
    }
    Ok(status)
}
