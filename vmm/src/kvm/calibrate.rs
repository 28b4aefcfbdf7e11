//! Whether KVM runs guests at the speed of the hardware, measured with a guest of four instructions.
//!
//! `/dev/kvm` can exist and create VMs while every instruction of a guest's kernel is emulated in software, for example where
//! a cloud offers virtual machines without the hardware's virtualization. Such a KVM is a thousand times too slow and knows only
//! some instructions. Only a measurement shows it.

use std::time::{Duration, Instant};

use kvm_ioctls::VcpuExit;
use vm_memory::{Bytes, GuestAddress};

use super::board::Board;
use super::registers;
use crate::kvm::error::KvmError;

/// Memory of the guest, bytes.
const MEMORY_BYTES: u64 = 2 << 20;

/// Address of its code (chosen; above the boot tables).
const CODE: u64 = 0x1_0000;

/// `loop: dec rcx; jnz loop; out 0x80, al; jmp loop`.
const LOOP: [u8; 9] = [0x48, 0xff, 0xc9, 0x75, 0xfb, 0xe6, 0x80, 0xeb, 0xf7];

/// Turns of the loop between exits, one length after the other, until one takes [`LONG`]: 1 us or more to a turn show after
/// the first.
const TURNS: [u64; 3] = [100, 2_000, 20_000];
const LONG: Duration = Duration::from_micros(100);

/// Each length is measured this often, and the fastest counts: load on the host only makes it slower.
const ATTEMPTS: usize = 3;

/// The slowest turn of a native guest, nanoseconds. Hardware takes about 0.3 to 2; emulated guests 2000 and more (both measured).
pub(crate) const NATIVE_NS: f64 = 50.0;

/// Result of the calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Time of one turn of the loop (two instructions), nanoseconds; `None` where KVM gave up on it.
    pub turn_ns: Option<f64>,
    /// Duration of the calibration.
    pub took: Duration,
}

impl Calibration {
    /// Whether guests run at the speed of the hardware.
    pub fn is_native(&self) -> bool {
        self.turn_ns.is_some_and(|ns| ns <= NATIVE_NS)
    }
}

/// Runs the calibration guest.
pub fn calibrate() -> Result<Calibration, KvmError> {
    let start = Instant::now();
    let turn_ns = measure()?;
    Ok(Calibration { turn_ns, took: start.elapsed() })
}

fn measure() -> Result<Option<f64>, KvmError> {
    let failed = |what: &'static str| move |source| KvmError::Operation { what, source };
    let board = Board::new(MEMORY_BYTES)?;
    let memory = board.memory();
    registers::write_tables(memory).map_err(|e| failed("fill memory")(std::io::Error::other(e)))?;
    let code = memory.write_slice(&LOOP, GuestAddress(CODE));
    code.map_err(|e| failed("fill memory")(std::io::Error::other(e)))?;
    let mut vcpu = board.add_vcpu(0)?;
    registers::set_boot_cpu(&vcpu, CODE).map_err(|e| failed("set a CPU's registers")(e.into()))?;
    let mut run = |turns: u64| -> Result<Option<Duration>, KvmError> {
        let regs = |e: kvm_ioctls::Error| failed("set a CPU's registers")(e.into());
        let mut r = vcpu.get_regs().map_err(regs)?;
        r.rcx = turns;
        vcpu.set_regs(&r).map_err(regs)?;
        let start = Instant::now();
        match vcpu.run() {
            Ok(VcpuExit::IoOut(..)) => Ok(Some(start.elapsed())),
            Ok(_) => Ok(None),
            Err(e) => Err(failed("run a CPU")(e.into())),
        }
    };
    // What every exit costs, and the first one's page faults.
    let Some(_) = run(1)? else { return Ok(None) };
    let mut exit = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let Some(t) = run(1)? else { return Ok(None) };
        exit = exit.min(t);
    }
    let mut turn_ns = None;
    for turns in TURNS {
        let mut fastest = Duration::MAX;
        for _ in 0..ATTEMPTS {
            let Some(t) = run(turns)? else { return Ok(None) };
            fastest = fastest.min(t);
        }
        let net = fastest.saturating_sub(exit);
        turn_ns = Some(net.as_nanos() as f64 / turns as f64);
        if net >= LONG {
            break;
        }
    }
    Ok(turn_ns)
}
