//! One boot of a plan: prepare, start, attend, observe.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{fs, io};

use ktstr_analysis::{BootInputs, HostAccount, Identity, PackedFile};
use ktstr_vmm::{Emulator, Guest, GuestConfig, GuestEnd, Moment, Reservation};
use ktstr_wire::VSOCK_PORT;
use ktstr_wire::accel::Accel;
use ktstr_wire::spec::TestSpec;
use tempfile::TempDir;

use crate::host::steal::StealWatch;
use crate::run::durations::DurationHistory;
use crate::run::error::{RunError, file_error};
use crate::run::host_share::{self, Pinning};
use crate::run::judge::expectations::SPEC_FILE;
use crate::run::judge::verdict::HostObservations;
use crate::run::pack::image::{self, Binaries, Manner};
use crate::run::patience::{Patience, Signs};
use crate::run::plan::{Plan, agent_path};
use crate::run::receive::collect::{Collector, Known};
use crate::run::receive::guest_log::Shape;
use crate::run::receive::log_reader::ReaderPlan;
use crate::run::receive::stops::Stops;
use crate::run::work_dir::WorkDir;
use crate::run::{capsule, finish, identity, layout, report, seed};

impl Plan {
    /// Boots once and gives the published result.
    pub(crate) fn boot(&self, repeat: u32, stop: &AtomicBool) -> Result<finish::Published, RunError> {
        let spec = self.seeded(repeat);
        let share = host_share::claim(&spec, &self.settings, stop)?;
        let mut identity = self.identity(&spec, repeat)?;
        let results = layout::results_dir(&self.ktstr_dir, &identity.kernel, &self.project);
        let work = WorkDir::create(&results, &identity)?;
        let spec_file = work.path().join(SPEC_FILE);
        fs::write(&spec_file, ktstr_wire::message::to_json(&spec)).map_err(file_error(&spec_file))?;
        let ran = self.prepare(&spec, &identity, work.path(), &share).and_then(|prepared| {
            identity.inputs = Some(prepared.inputs.clone());
            self.run_guest(prepared, &identity, &work, &share, stop)
        });
        let mut host = match ran {
            Ok(host) => host,
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
        identity.pinned = host.pinned;
        host.overcommitted = identity.host.nr_cpus.is_some_and(|n| n < spec.topology.nr_cpus());
        Ok(finish::finish(work.path(), identity, &host)?)
    }

    /// Who the boot is: that of a capsule stays who it was.
    fn identity(&self, spec: &TestSpec, repeat: u32) -> Result<Identity, RunError> {
        if let Some(packed) = &self.packed {
            let (run_id, session) = (identity::new_id(), self.settings.session.clone());
            let host = identity::host_facts(self.emulator.as_deref());
            return Ok(Identity { run_id, session, host, ..packed.identity.clone() });
        }
        identity::identity(&identity::Parts {
            spec,
            kernel: &self.kernel,
            scheduler: self.scheduler.as_ref(),
            scheduler_override: self.settings.scheduler_override.as_deref(),
            agent: &agent_path()?,
            position: self.settings.position,
            huge_pages: self.settings.huge_pages,
            project: &self.project,
            accel: self.settings.accel,
            emulator: self.emulator.as_deref(),
            repeat,
            attempt: self.settings.attempt,
            session: self.settings.session.clone(),
        })
        .map_err(file_error(self.scheduler.as_ref().map_or(Path::new("scheduler"), |s| &s.path)))
    }

    /// The spec of one boot. What the test process asked for has the seed of the whole run.
    pub(crate) fn seeded(&self, repeat: u32) -> TestSpec {
        let seed = match self.settings.boot_seed {
            Some(seed) => seed,
            None => seed::of_boot(self.spec.seed, &self.spec.test, repeat),
        };
        TestSpec { seed, ..self.spec.clone() }
    }

    pub(crate) fn image(&self) -> &Path {
        match &self.kernel.sim_image {
            Some(image) if self.settings.accel != Accel::Tcg => image,
            _ => &self.kernel.image,
        }
    }

    /// Runs a guest from its start to its end.
    fn run_guest(
        &self,
        prepared: Prepared,
        identity: &Identity,
        work: &WorkDir,
        share: &Reservation,
        stop: &AtomicBool,
    ) -> Result<HostObservations, RunError> {
        let mut running = self.start(prepared, share)?;
        let patience = Patience::new(expected(self, identity), Instant::now());
        let (end, given_up) =
            self.attend(&mut running, patience, work.path(), stop).map_err(RunError::Affinity)?;
        running.observe(end, given_up).map_err(file_error(work.path()))
    }

    /// Packs the initramfs, and starts to collect what the guest will send.
    fn prepare(
        &self,
        spec: &TestSpec,
        identity: &Identity,
        work: &Path,
        share: &Reservation,
    ) -> Result<Prepared, RunError> {
        let (initramfs, files) = self.pack(spec, identity, work)?;
        let scratch =
            tempfile::Builder::new().prefix("ktstr-").tempdir().map_err(file_error(&std::env::temp_dir()))?;
        fs::write(work.join("scratch"), scratch.path().as_os_str().as_encoded_bytes())
            .map_err(file_error(work))?;
        let config = GuestConfig {
            kernel: self.image().to_path_buf(),
            initramfs,
            topology: self.spec.topology,
            memory_mib: self.spec.memory_mib,
            host_memory: host_share::host_memory(spec, &self.settings, share),
            cmdline: spec.kernel_args.clone(),
            run_dir: scratch.path().into(),
            console_log: work.join("console.log"),
            emulator: self.emulator.as_ref().map(|dir| Emulator {
                dir: dir.clone(),
                order: seed::order(spec.seed),
                slow_cpu: self.settings.slow_cpu,
            }),
        };
        let inputs =
            identity::inputs(&config, self.settings.accel, files).map_err(file_error(&config.initramfs))?;
        let (host, device) = UnixStream::pair().map_err(file_error(work))?;
        let known = Arc::new(OnceLock::new());
        let reader = ReaderPlan {
            shape: Shape {
                nr_cpus: spec.topology.nr_cpus(),
                records_per_cpu: image::records_per_cpu(spec, self.settings.accel == Accel::Sim),
            },
            path: work.join(ktstr_analysis::DRAINED_LOG),
            claimed: share.cpus.clone(),
        };
        let collector =
            Collector::start(host, &work.join("raw.log"), known.clone(), reader).map_err(file_error(work))?;
        Ok(Prepared { config, inputs, scratch, device, known, collector })
    }

    /// Makes the initramfs, or takes that of a capsule; with the files in it.
    fn pack(
        &self,
        spec: &TestSpec,
        identity: &Identity,
        work: &Path,
    ) -> Result<(PathBuf, Vec<PackedFile>), RunError> {
        let initramfs = work.join("initramfs.cpio");
        if let Some(packed) = &self.packed {
            fs::copy(&packed.initramfs, &initramfs).map_err(file_error(&packed.initramfs))?;
            let files = packed.identity.inputs.as_ref().map(|i| i.files.clone());
            return Ok((initramfs, files.unwrap_or_default()));
        }
        let agent = agent_path()?;
        let binaries = Binaries {
            agent: &agent,
            scheduler: self.scheduler.as_ref().map(|s| s.path.as_path()),
            modules: match self.settings.accel {
                Accel::Kvm => &self.kernel.modules.mmio,
                Accel::Tcg | Accel::Sim => &self.kernel.modules.pci,
            },
            config: self.kernel.config_for_guest().map(|c| (self.kernel.release.as_str(), c)),
            extras: &self.extras,
        };
        let sim = self.settings.accel == Accel::Sim;
        let files = image::build(spec, &binaries, Manner { sim, shell: None }, &initramfs)?;
        self.require_unchanged(identity, &agent)?;
        if let Some(parts) = &self.settings.parts {
            let copy = |from: &Path, name: &str| fs::copy(from, parts.join(name)).map_err(file_error(parts));
            copy(&initramfs, capsule::INITRAMFS)?;
            copy(self.image(), capsule::KERNEL)?;
            copy(&work.join(SPEC_FILE), capsule::SPEC)?;
        }
        Ok((initramfs, files))
    }

    /// Boots the guest.
    fn start(&self, prepared: Prepared, share: &Reservation) -> Result<Running, RunError> {
        let Prepared { config, inputs: _, scratch, device, known, collector } = prepared;
        let mut device = Some(device);
        let accept = Box::new(move |port| if port == VSOCK_PORT { device.take() } else { None });
        let guest = ktstr_vmm::start(&config, self.settings.accel, accept)?;
        let threads = guest.cpu_threads();
        let _ = known.set(Known { cpus: threads.clone(), memory: guest.memory() });
        let nr_cpus = config.topology.nr_cpus();
        Ok(Running {
            stops: Stops::of(threads.clone()),
            pinning: threads
                .filter(|_| self.settings.pin)
                .map(|threads| Pinning::new(threads, share, nr_cpus)),
            watch: (self.settings.accel == Accel::Kvm).then(|| StealWatch::start(&guest, nr_cpus)),
            guest,
            collector,
            config,
            _scratch: scratch,
        })
    }

    /// Waits for the guest's end in short steps, so that a full disk, a stream that has ended, and a guest that has stopped are
    /// noticed. Returns the end, and the reason if a guest was given up because nothing changed in it.
    fn attend(
        &self,
        running: &mut Running,
        mut patience: Patience,
        work: &Path,
        stop: &AtomicBool,
    ) -> io::Result<(GuestEnd, Option<String>)> {
        let mut limit = boot_limit(self);
        let (mut up, mut ended) = (false, false);
        loop {
            running.look()?;
            match running.guest.wait(Some(Instant::now() + LOOK_INTERVAL), stop) {
                GuestEnd::TimedOut => {}
                end => return Ok((end, None)),
            }
            patience.step(Instant::now(), running.guest.waits_ns(), running.guest.is_stopped());
            let progress = running.collector.progress();
            if progress.hello && !up {
                up = true;
                limit = patience.own() + end_limit(self);
            }
            if progress.ended && !ended {
                ended = true;
                limit = limit.min(patience.own() + POWER_OFF_LIMIT);
            }
            let stopped = patience.wants_look().then(|| patience.look(signs(&running.guest, work))).flatten();
            if stopped.is_some() || patience.own() >= limit || progress.write_error.is_some() {
                running.guest.kill();
                return Ok((GuestEnd::TimedOut, stopped));
            }
        }
    }
}

/// Time between two looks at a running guest.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Longest wait for the power-off after the guest's last frame.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);

/// A guest that can be started.
struct Prepared {
    config: GuestConfig,
    inputs: BootInputs,
    scratch: TempDir,
    /// The guest's end of the stream that is collected.
    device: UnixStream,
    /// Set once the guest runs.
    known: Arc<OnceLock<Known>>,
    collector: Collector,
}

/// A guest that runs, and what watches it.
struct Running {
    guest: Guest,
    collector: Collector,
    stops: Stops,
    pinning: Option<Pinning>,
    watch: Option<StealWatch>,
    config: GuestConfig,
    /// Removed after the guest.
    _scratch: TempDir,
}

impl Running {
    /// Notes whether the guest is stopped, and binds the threads of its CPUs that are there by now.
    fn look(&mut self) -> io::Result<()> {
        if let Some(now) = Moment::now() {
            self.stops.look(now.ns);
        }
        self.pinning.as_mut().map_or(Ok(()), Pinning::go_on)
    }

    /// Removes the guest, and gives what the host has seen of it.
    fn observe(self, end: GuestEnd, given_up: Option<String>) -> io::Result<HostObservations> {
        let pages = self.guest.pages();
        let slots = self.guest.slots().transpose()?;
        drop(self.guest);
        let progress = self.collector.finish();
        let edges = progress.opening.zip(progress.closing);
        let (stolen, unwatched) = match self.watch.map(|w| w.finish(edges)) {
            Some(Ok(stolen)) => (Some(stolen), None),
            Some(Err(why)) => (None, Some(why.to_string())),
            None => (None, None),
        };
        // The initramfs is as large as the binaries in it and can be made again.
        let _ = fs::remove_file(&self.config.initramfs);
        let stopped_ns =
            edges.and_then(|(opening, closing)| self.stops.within(opening.host.ns..closing.host.ns));
        Ok(HostObservations {
            end: Some(end),
            given_up,
            panic_line: report::panic_line(&self.config.console_log),
            account: HostAccount {
                stopped_ns,
                run_delay_ns: progress.host_run_delay_ns,
                stolen,
                unwatched,
                drained: progress.drained,
            },
            age_ns: progress.age_ns,
            pinned: self.pinning.is_some_and(|p| p.is_done()),
            pages,
            slots,
            log_error: progress.log_error,
            write_error: progress.write_error.map(|e| e.to_string()),
            ..HostObservations::default()
        })
    }
}

/// Longest wait for `Hello`, in the guest's own time (`patience.rs`). Emulation of one CPU boots in 2 s, of 64 CPUs in 20 s on an idle two-core machine; a KVM guest in
/// a guest that is emulated itself took 100 s on a machine with ten times as much to do as it has cores, and this allows for
/// that. A deterministic guest says nothing before its window has ended.
fn boot_limit(plan: &Plan) -> Duration {
    let per_cpu = 3 * u64::from(plan.spec.topology.nr_cpus());
    match plan.settings.accel {
        Accel::Sim => (Duration::from_secs(60 + per_cpu) + end_limit(plan)) * 5,
        Accel::Kvm | Accel::Tcg => Duration::from_secs(300 + per_cpu),
    }
}

/// Longest wait for the end after `Hello`: the guest ends its test by itself before that.
fn end_limit(plan: &Plan) -> Duration {
    Duration::from_nanos(plan.spec.duration_ns).saturating_mul(10) + Duration::from_secs(240)
}

/// The time that a boot of the test is expected to take: from earlier boots, else by a model.
fn expected(plan: &Plan, id: &Identity) -> Duration {
    let (topology, nr_cpus) = (id.topology.to_string(), id.topology.nr_cpus());
    let past = DurationHistory::read(&plan.ktstr_dir);
    Duration::from_millis(past.boot_ms(&id.full_test(), &topology, id.accel, nr_cpus, plan.spec.duration_ns))
}

/// What the guest shows from outside.
fn signs(guest: &Guest, work: &Path) -> Signs {
    let len = |name: &str| fs::metadata(work.join(name)).map_or(0, |m| m.len());
    Signs { memory: guest.memory_digest(), written: len("console.log") + len("raw.log") }
}
