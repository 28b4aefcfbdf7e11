//! Compiles the BPF programs with clang and generates their skeleton.

mod skeleton;

fn main() {
    skeleton::build("probes", &["-Wno-unused-function"]);
}
