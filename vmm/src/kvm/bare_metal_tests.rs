//! Guests of a few instructions, on the `/dev/kvm` of any machine, for every device and every way to end.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use kvm_bindings::{CpuId, KVM_MP_STATE_RUNNABLE, kvm_mp_state};
use vm_memory::{Bytes, GuestAddress};

use super::apic_ids::ApicIds;
use super::board::Board;
use super::layout;
use super::machine::Machine;
use super::ports::Console;
use super::registers;
use super::state::MachineEnd;
use crate::vsock::packet::{HOST_CID, Header, TYPE_STREAM, op};

const CODE: u64 = 0x2_0000;
const PORT: u32 = 5201;

/// A running guest and what it has written to its console.
struct BareMetal {
    machine: Machine,
    console: std::fs::File,
    host: UnixStream,
}

/// Starts these instructions in 64-bit mode with the devices' addresses mapped; `prepare` fills memory before.
fn start(code: &[u8], prepare: impl Fn(&super::memory::Memory)) -> BareMetal {
    start_on(None, code, prepare)
}

/// The same; with `split`, the I/O APIC is ours, and the CPU has this APIC id.
fn start_on(split: Option<u32>, code: &[u8], prepare: impl Fn(&super::memory::Memory)) -> BareMetal {
    let board = Board::new(2 << 20).unwrap();
    let io_apic = board.add_interrupts(split.is_some()).unwrap();
    let memory = board.memory();
    registers::write_tables(memory).unwrap();
    // 2 MiB for the devices and 2 for the I/O APIC, through a page directory of the fourth GiB.
    let (pdpt, pd) = (layout::PAGE_TABLES + 0x1000, 0x1_0000u64);
    memory.write_obj(pd | 3, GuestAddress(pdpt + 3 * 8)).unwrap();
    for gpa in [layout::VSOCK, layout::IO_APIC.into()] {
        let entry = (gpa - layout::GAP_START) >> 21;
        memory.write_obj(gpa | 1 << 7 | 3, GuestAddress(pd + entry * 8)).unwrap();
    }
    prepare(memory);
    memory.write_slice(code, GuestAddress(CODE)).unwrap();
    let vcpu = board.add_vcpu(split.unwrap_or(0)).unwrap();
    if split.is_some() {
        let cpuid = board.cpuid(ApicIds::new("1n1l1c1t".parse().unwrap()), None).unwrap();
        vcpu.set_cpuid2(&CpuId::from_entries(&cpuid.of(0)).unwrap()).unwrap();
        // KVM takes the CPU with id 0 for the one that boots, and has the others wait.
        vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE }).unwrap();
    }
    registers::set_boot_cpu(&vcpu, CODE).unwrap();
    let console = tempfile::tempfile().unwrap();
    let (host, device) = UnixStream::pair().unwrap();
    let mut device = Some(device);
    let accept = Box::new(move |port| if port == PORT { device.take() } else { None });
    let output = Console::new(console.try_clone().unwrap());
    let devices = board.add_devices(output, accept, Instant::now(), io_apic).unwrap();
    let machine = Machine::run(board, devices, vec![vcpu]).unwrap();
    BareMetal { machine, console, host }
}

impl BareMetal {
    fn end(&mut self) -> Option<MachineEnd> {
        self.machine.wait(Duration::from_secs(20))
    }

    fn console(self) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        drop(self.machine);
        let mut text = vec![0; 4096];
        let n = self.console.read_at(&mut text, 0).unwrap();
        text.truncate(n);
        text
    }
}

/// `mov dx, PORT; mov al, BYTE; out dx, al`.
fn out(port: u16, byte: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, byte, 0xee]
}

/// `mov dx, PORT; out dx, al`.
fn out_al(port: u16) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xee]
}

/// `mov dx, 0x604; mov ax, 0x3400; out dx, ax`: sleep type 5, and go.
const POWER_OFF: [u8; 10] = [0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef];

/// `mov eax, GPA`.
fn load_gpa(gpa: u64) -> Vec<u8> {
    [&[0xb8][..], &(gpa as u32).to_le_bytes()].concat()
}

/// `jmp .`, with interrupts off, as they are at the start.
const SPIN: [u8; 2] = [0xeb, 0xfe];

fn threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let names = names.map(|t| std::fs::read_to_string(t.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|n| n.starts_with("vcpu") || n.trim() == "vsock").count()
}

#[test]
fn serial_text_and_power_off() {
    let mut code: Vec<u8> = b"ktstr\n!".iter().flat_map(|b| out(layout::port::SERIAL, *b)).collect();
    code.extend(POWER_OFF);
    let mut guest = start(&code, |_| {});
    assert_eq!(guest.end(), Some(MachineEnd::PoweredOff));
    assert_eq!(guest.console(), b"ktstr\n!");
}

#[test]
fn resets_by_both_registers() {
    for (port, byte) in [(layout::port::RESET, 1), (0x64, 0xfe)] {
        assert_eq!(start(&out(port, byte), |_| {}).end(), Some(MachineEnd::Reset));
    }
}

#[test]
fn boot_timer_notes_when() {
    // mov byte [rax], 123
    let code = [load_gpa(layout::BOOT_TIMER), vec![0xc6, 0x00, 123], POWER_OFF.to_vec()].concat();
    let mut guest = start(&code, |_| {});
    assert_eq!(guest.end(), Some(MachineEnd::PoweredOff));
    assert!(guest.machine.boot_time().is_some_and(|t| t < Duration::from_secs(20)));
}

#[test]
fn triple_fault_is_no_reset() {
    // ud2, with an empty table of interrupts.
    assert_eq!(start(&[0x0f, 0x0b], |_| {}).end(), Some(MachineEnd::TripleFault { cpu: 0 }));
}

#[test]
fn guests_that_never_end_are_stopped_at_once_and_leave_no_thread() {
    // cli; hlt; and a loop without any exit.
    for code in [&[0xfa, 0xf4][..], &SPIN] {
        let mut guest = start(code, |_| {});
        assert_eq!(guest.machine.wait(Duration::from_millis(20)), None);
        let stopping = Instant::now();
        drop(guest.machine);
        assert!(stopping.elapsed() < Duration::from_secs(5));
        let mut rest = Vec::new();
        guest.host.read_to_end(&mut rest).unwrap();
    }
    // Other tests of this program may have guests at the same time; nextest gives each a process of its own.
    if std::env::var_os("NEXTEST").is_some() {
        assert_eq!(threads(), 0);
    }
}

/// Queues: descriptors, rings and buffers of both directions, in memory below 2 MiB.
const RX_AT: u64 = 0x4_0000;
const TX_AT: u64 = 0x5_0000;

/// One descriptor with one buffer at `at + 0x3000`, offered.
fn offer(memory: &super::memory::Memory, at: u64, bytes: u32, flags: u16) {
    memory.write_obj(at + 0x3000, GuestAddress(at)).unwrap();
    memory.write_obj(bytes, GuestAddress(at + 8)).unwrap();
    memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
    memory.write_obj(1u16, GuestAddress(at + 0x1000 + 2)).unwrap();
}

#[test]
fn vsock_registers_notification_and_answer() {
    let request = Header {
        src_cid: 3,
        dst_cid: HOST_CID,
        src_port: 1000,
        dst_port: PORT,
        kind: TYPE_STREAM,
        op: op::REQUEST,
        buf_alloc: 1 << 16,
        ..Default::default()
    };
    // mov eax, [rax]: the magic value, whose first byte goes to the console.
    let mut code = [load_gpa(layout::VSOCK), vec![0x8b, 0x00], out_al(layout::port::SERIAL)].concat();
    code.extend(load_gpa(layout::VSOCK));
    let mut registers = vec![(0x70, 3)];
    for (queue, at) in [(0u32, RX_AT), (1, TX_AT)] {
        let at = at as u32;
        registers.extend([
            (0x30, queue),
            (0x38, 2),
            (0x80, at),
            (0x90, at + 0x1000),
            (0xa0, at + 0x2000),
            (0x44, 1),
        ]);
    }
    registers.extend([(0x70, 15), (0x50, 1)]);
    for (offset, value) in registers {
        // mov dword [rax + OFFSET], VALUE
        code.extend([0xc7, 0x80]);
        code.extend(u32::to_le_bytes(offset));
        code.extend(u32::to_le_bytes(value));
    }
    // mov eax, the index of the used ring; loop: cmp word [rax], 0; je loop
    code.extend(load_gpa(RX_AT + 0x2002));
    code.extend([0x66, 0x83, 0x38, 0x00, 0x74, 0xfa]);
    // The operation that was answered: mov al, [rax]
    code.extend(load_gpa(RX_AT + 0x3000 + 30));
    code.extend([0x8a, 0x00]);
    code.extend(out_al(layout::port::SERIAL));
    code.extend(POWER_OFF);
    let mut guest = start(&code, |memory| {
        offer(memory, RX_AT, 4096, 2);
        offer(memory, TX_AT, 44, 0);
        memory.write_slice(&request.to_bytes(), GuestAddress(TX_AT + 0x3000)).unwrap();
    });
    assert_eq!(guest.end(), Some(MachineEnd::PoweredOff));
    assert_eq!(guest.console(), [b'v', op::RESPONSE as u8]);
}

/// A table of interrupts, and what LIDT reads.
const IDT: u64 = 0x1_3000;
const IDTR: u64 = 0x1_2000;
const VECTOR: u8 = 0x31;

/// Registers of the local APIC in x2APIC mode: switches it on, and takes interrupts.
const X2APIC_ON: [u8; 28] = [
    0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, // mov ecx, IA32_APIC_BASE; rdmsr
    0x0d, 0, 0x0c, 0, 0, 0x0f, 0x30, // or eax, 0xc00; wrmsr
    0xb9, 0x0f, 8, 0, 0, // mov ecx, the spurious interrupt vector's register
    0xb8, 0xff, 1, 0, 0, 0x31, 0xd2, // mov eax, 0x1ff; xor edx, edx
    0x0f, 0x30, // wrmsr
];

#[test]
fn interrupts_go_through_our_io_apic_to_any_id() {
    for id in [0, 3, 300] {
        // lidt [IDTR]
        let mut code = [&[0x0f, 0x01, 0x1c, 0x25][..], &(IDTR as u32).to_le_bytes(), &X2APIC_ON].concat();
        code.extend(load_gpa(layout::IO_APIC.into()));
        let entry = 0x10 + 2 * layout::gsi::SERIAL;
        let destination = (id & 0xff) << 24 | (id >> 8) << 17;
        for (offset, word) in [(0, entry + 1), (0x10, destination), (0, entry), (0x10, VECTOR.into())] {
            // mov dword [rax + OFFSET], WORD
            code.extend([0xc7, 0x40, offset]);
            code.extend(u32::to_le_bytes(word));
        }
        // sti; and the serial port, which can always send, is to say so.
        code.push(0xfb);
        code.extend(out(layout::port::SERIAL + 1, 2));
        code.extend(SPIN);
        let handler = code.len() as u64 + CODE;
        code.extend(out(layout::port::SERIAL, b'!'));
        code.extend(POWER_OFF);
        let mut guest = start_on(Some(id), &code, |memory| {
            // An interrupt gate (Intel SDM volume 3, section 7.14.1) to the code segment.
            let gate = handler & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (handler >> 16) << 48;
            memory.write_obj(gate, GuestAddress(IDT + u64::from(VECTOR) * 16)).unwrap();
            memory.write_obj(0xfffu16, GuestAddress(IDTR)).unwrap();
            memory.write_obj(IDT, GuestAddress(IDTR + 2)).unwrap();
        });
        assert_eq!(guest.end(), Some(MachineEnd::PoweredOff), "{id}");
        assert_eq!(guest.console(), b"!", "{id}");
    }
}

#[test]
fn calibration_says_what_this_host_is() {
    let c = super::calibrate::calibrate().unwrap();
    // A turn is two instructions, which no CPU does in a hundredth of a nanosecond; KVM may also have given up.
    assert!(c.turn_ns.is_none_or(|ns| ns > 0.01 && ns < 1e6), "{c:?}");
    assert_eq!(c.is_native(), c.turn_ns.is_some_and(|ns| ns <= super::calibrate::NATIVE_NS));
}
