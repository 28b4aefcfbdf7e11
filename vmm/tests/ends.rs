//! Guest tier: how guests end that do nothing else, in QEMU and on the `/dev/kvm` of any machine.
#![expect(clippy::unwrap_used, reason = "the whole file is a test, its helpers included")]

mod tiny;

use ktstr_vmm::Accel;

#[test]
fn each_end_in_qemu() {
    tiny::every_end(Accel::Tcg, None);
}

#[test]
fn each_end_under_kvm() {
    tiny::every_end(Accel::Kvm, Some(0));
}
