//! Boots each VMM in turn and prints the table.

use std::error::Error;
use std::process::Command;

use ktstr_guest::now_ns;

use super::boot::{Sample, Vmm};

/// `compare DIRECTORY VMLINUX BOOTS`. The first boot of each VMM, which fills caches, is not counted.
pub fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [dir, vmlinux, boots] = args else { return Err("compare DIRECTORY VMLINUX BOOTS".into()) };
    let boots: usize = boots.parse()?;
    println!(
        "{:<14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "", "Hello", "process", "set-up", "kernel", "agent", "overhead"
    );
    let mut medians = Vec::new();
    for vmm in Vmm::ALL {
        let mut samples = Vec::new();
        for _ in 0..=boots {
            samples.push(boot(vmm, dir, vmlinux)?);
        }
        samples.remove(0);
        let median = median(&samples);
        println!("{:<14} {median}", vmm.name());
        medians.push(median.hello_ns as f64);
    }
    for (vmm, ns) in Vmm::ALL.iter().zip(&medians).skip(1) {
        println!("ktstr takes {:.3} of the time of {}", medians[0] / ns, vmm.name());
    }
    println!(
        "ms, medians of {boots} boots. Hello: from exec of the VMM; process: CPU time of the VMM in that, the guest's included; set-up: to \
         the first instruction of the guest (QEMU's, and its firmware, count as kernel); kernel: to the start of the agent; overhead: \
         memory of the process less the guest's, MiB"
    );
    Ok(())
}

fn boot(vmm: Vmm, dir: &str, vmlinux: &str) -> Result<Sample, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let out = command.args(["boot", vmm.name(), dir, vmlinux, &now_ns().to_string()]).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(text.trim())
        .map_err(|e| format!("{}: {e}: {text}{}", vmm.name(), String::from_utf8_lossy(&out.stderr)).into())
}

/// Of each number by itself.
fn median(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(field).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    Sample {
        hello_ns: of(|s| s.hello_ns),
        process_ns: of(|s| s.process_ns),
        set_up_ns: of(|s| s.set_up_ns),
        agent_ns: of(|s| s.agent_ns),
        overhead_bytes: of(|s| s.overhead_bytes),
    }
}
