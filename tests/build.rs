//! Compiles the fixture scheduler's BPF program.

#[path = "../guest-probes/skeleton.rs"]
mod skeleton;

fn main() {
    skeleton::build("fixture", &["-I/usr/include/x86_64-linux-gnu"]);
}
