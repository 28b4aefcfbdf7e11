//! Compiles the BPF program of the host's witness.

#[path = "../guest-probes/skeleton.rs"]
mod skeleton;

fn main() {
    println!("cargo:rerun-if-changed=../guest-probes/src/bpf/kernel_types.h");
    skeleton::build("witness", &["-I../guest-probes/src/bpf"]);
}
