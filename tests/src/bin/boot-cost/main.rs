//! What it costs until a guest's agent says `Hello`: our own VMM beside QEMU's, with one kernel, one initramfs and one KVM.
//!
//! Where `/dev/kvm` runs guests natively the times are real. Elsewhere this runs in the KVM lab, on one CPU that counts
//! instructions, a nanosecond each, so that the times are the same on every machine.

mod boot;
mod compare;
mod host;
mod process;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("compare") => compare::run(&args[1..]),
        Some("boot") => boot::run(&args[1..]),
        _ => host::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("boot-cost: {e}");
            ExitCode::FAILURE
        }
    }
}
