//! Reads topologies back from CPUID in the way in which Linux does.

use super::*;

/// What an Intel Xeon Platinum 8268 (Cascade Lake, 24 cores of two threads, two packages) says on its CPU with id 0x44, as far as
/// it concerns topology (libvirt, tests/cputestdata/x86_64-cpuid-Xeon-Platinum-8268.xml).
fn intel_host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, None, [0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        entry(1, None, [0x0005_0656, 0x4440_0800, 0x7ffe_fbff, 0xbfeb_fbff]),
        entry(4, Some(0), [0x7c00_4121, 0x01c0_003f, 0x3f, 0]),
        entry(4, Some(1), [0x7c00_4122, 0x01c0_003f, 0x3f, 0]),
        entry(4, Some(2), [0x7c00_4143, 0x03c0_003f, 0x3ff, 0]),
        entry(4, Some(3), [0x7c0f_c163, 0x0280_003f, 0xcfff, 5]),
        entry(0xb, Some(0), [1, 2, 0x100, 0x44]),
        entry(0xb, Some(1), [6, 48, 0x201, 0x44]),
        entry(0x8000_0000, None, [0x8000_0008, 0, 0, 0]),
        entry(0x8000_0001, None, [0, 0, 0x121, 0x2c10_0800]),
    ]
}

/// The same of an Ice Lake server (14 cores of two threads, two packages), on its CPU with id 0x25 (libvirt,
/// tests/cputestdata/x86_64-cpuid-Ice-Lake-Server.xml).
fn ice_lake() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, None, [0x1b, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        entry(1, None, [0x0006_06a0, 0x2520_0800, 0x7ffe_fbff, 0xbfeb_fbff]),
        entry(4, Some(0), [0x3c00_4121, 0x02c0_003f, 0x3f, 0]),
        entry(4, Some(1), [0x3c00_4122, 0x01c0_003f, 0x3f, 0]),
        entry(4, Some(2), [0x3c00_4143, 0x04c0_003f, 0x3ff, 0]),
        entry(4, Some(3), [0x3c07_c163, 0x02c0_003f, 0x6fff, 4]),
        entry(0xb, Some(0), [1, 2, 0x100, 0x25]),
        entry(0xb, Some(1), [5, 28, 0x201, 0x25]),
        entry(0x8000_0000, None, [0x8000_0008, 0, 0, 0]),
        entry(0x8000_0001, None, [0, 0, 0x121, 0x2c10_0800]),
    ]
}

/// The same of an AMD EPYC 7502 (Rome, 32 cores of two threads, four cores to an L3 of 16 MiB), on its CPU with id 0x31 (libvirt,
/// tests/cputestdata/x86_64-cpuid-EPYC-7502-32-Core.xml).
fn amd_host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, None, [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        entry(1, None, [0x0083_0f10, 0x3140_0800, 0x7ed8_320b, 0x178b_fbff]),
        entry(0xb, Some(0), [1, 2, 0x100, 0x31]),
        entry(0xb, Some(1), [7, 64, 0x201, 0x31]),
        entry(0x8000_0000, None, [0x8000_0020, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        entry(0x8000_0001, None, [0x0083_0f10, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        entry(0x8000_0006, None, [0x4800_6400, 0x6800_6400, 0x0200_6140, 0x0400_9140]),
        entry(0x8000_0008, None, [0x3030, 0x018c_f757, 0x703f, 0x0001_0000]),
        entry(0x8000_001d, Some(0), [0x4121, 0x01c0_003f, 0x3f, 0]),
        entry(0x8000_001d, Some(1), [0x4122, 0x01c0_003f, 0x3f, 0]),
        entry(0x8000_001d, Some(2), [0x4143, 0x01c0_003f, 0x3ff, 2]),
        entry(0x8000_001d, Some(3), [0x0001_c163, 0x03c0_003f, 0x3fff, 1]),
        entry(0x8000_001e, None, [0x31, 0x118, 0, 0]),
        entry(0x8000_001f, None, [0x0001_000f, 0x16f, 0x1fd, 1]),
    ]
}

/// A guest with a machine's own topology reads what the machine says, on the CPU that the dump is of.
#[test]
fn leaves_are_those_of_real_machines_of_that_topology() {
    let machines =
        [(intel_host(), "2n1l24c2t", 52), (ice_lake(), "2n1l14c2t", 33), (amd_host(), "1n8l4c2t", 49)];
    for (host, topology, cpu) in machines {
        let cpuid = Cpuid::new(&host, ApicIds::new(topology.parse().unwrap()), true, None).of(cpu);
        let registers = |e: &kvm_cpuid_entry2| [e.eax, e.ebx, e.ecx, e.edx];
        let told =
            |e: &&kvm_cpuid_entry2| [4, 0xb, 0x8000_0006, 0x8000_001d, 0x8000_001e].contains(&e.function);
        for real in host.iter().filter(told) {
            let mut ours = registers(&leaf(&cpuid, real.function, real.index));
            // Rome leaves a bit of the id unused below the package.
            if real.eax == 7 {
                assert_eq!(ours[0], 6);
                ours[0] = 7;
            }
            assert_eq!(ours, registers(real), "leaf {:#x} {} of {topology}", real.function, real.index);
        }
        // The id, and the ids of a package.
        assert_eq!(leaf(&cpuid, 1, 0).ebx, leaf(&host, 1, 0).ebx, "{topology}");
    }
    let rome = Cpuid::new(&amd_host(), ApicIds::new("1n8l4c2t".parse().unwrap()), true, None).of(0);
    // CPUs of a package but one; the bits of an id as above.
    assert_eq!(leaf(&rome, 0x8000_0008, 0).ecx, 0x603f);
}

fn leaf(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    *entries.iter().find(|e| e.function == function && e.index == index).unwrap()
}

/// Bits of ids that share the L3, as leaf `function` tells.
fn llc_shift(entries: &[kvm_cpuid_entry2], function: u32) -> u32 {
    let sharing = ((leaf(entries, function, 3).eax >> 14) & 0xfff) + 1;
    sharing.next_power_of_two().trailing_zeros()
}

/// For every CPU: (core, LLC, package), each numbered in order of appearance, from leaves 0xB and `caches`.
fn read_back(cpuid: &Cpuid, nr: u32, caches: u32) -> Vec<(u32, u32, u32)> {
    let number = |list: &mut Vec<u32>, id: u32| {
        list.iter().position(|x| *x == id).unwrap_or_else(|| {
            list.push(id);
            list.len() - 1
        }) as u32
    };
    let (mut cores, mut llcs, mut packages) = (vec![], vec![], vec![]);
    (0..nr)
        .map(|cpu| {
            let e = cpuid.of(cpu);
            let id = leaf(&e, 0xb, 0).edx;
            assert_eq!(leaf(&e, 1, 0).ebx >> 24, id & 0xff);
            (
                number(&mut cores, id >> leaf(&e, 0xb, 0).eax),
                number(&mut llcs, id >> llc_shift(&e, caches)),
                number(&mut packages, id >> leaf(&e, 0xb, 1).eax),
            )
        })
        .collect()
}

#[test]
fn every_topology_is_read_back_from_both_vendors_leaves() {
    for text in
        ["1n1l1c1t", "1n1l4c1t", "1n2l2c2t", "2n4l1c2t", "1n3l3c1t", "3n2l5c2t", "2n2l16c2t", "5n5l5c1t"]
    {
        let topology: ktstr_wire::topology::Topology = text.parse().unwrap();
        let wanted: Vec<_> = (0..topology.nr_cpus())
            .map(|c| (topology.core_of(c), topology.llc_of(c), topology.node_of(c)))
            .collect();
        for (host, caches) in [(intel_host(), 4), (amd_host(), 0x8000_001d)] {
            let cpuid = Cpuid::new(&host, ApicIds::new(topology), true, None);
            assert_eq!(read_back(&cpuid, topology.nr_cpus(), caches), wanted, "{text}");
        }
    }
}

#[test]
fn cache_sizes_stay_the_hosts() {
    let ids = ApicIds::new("1n2l4c2t".parse().unwrap());
    let intel = Cpuid::new(&intel_host(), ids, true, None).of(0);
    let l3 = leaf(&intel, 4, 3);
    assert_eq!((l3.ebx, l3.ecx, l3.edx), (0x0280_003f, 0xcfff, 5));
    let amd = Cpuid::new(&amd_host(), ids, true, None).of(0);
    assert_eq!(leaf(&amd, 0x8000_001d, 3).ecx, 0x3fff);
    assert_eq!(leaf(&amd, 0x8000_0006, 0).edx, 0x0400_9140);
}

#[test]
fn amd_leaves_number_cores_and_nodes() {
    let ids = ApicIds::new("2n2l2c2t".parse().unwrap());
    let e = Cpuid::new(&amd_host(), ids, true, None).of(13);
    // CPU 13 is the second thread of core 6, which is core 2 of node 1: id 8 + 5.
    let l = leaf(&e, 0x8000_001e, 0);
    assert_eq!((l.eax, l.ebx, l.ecx), (13, 0x102, 1));
    // Eight CPUs and three bits in a package; no SEV.
    assert_eq!(leaf(&e, 0x8000_0008, 0).ecx, 7 | 3 << 12);
    assert!(e.iter().all(|x| x.function != 0x8000_001f));
}

#[test]
fn dies_are_shown_where_a_package_has_several_llcs() {
    let ids = ApicIds::new("1n2l3c2t".parse().unwrap());
    let e = Cpuid::new(&intel_host(), ids, true, None).of(7);
    let levels: Vec<_> = (0..4).map(|i| leaf(&e, 0x1f, i)).map(|l| (l.eax, l.ebx, l.ecx >> 8)).collect();
    assert_eq!(levels, [(1, 2, LEVEL_SMT), (3, 6, LEVEL_CORE), (4, 12, LEVEL_DIE), (0, 0, 0)]);
    // CPU 7 is the second thread of the first core of LLC 1.
    assert_eq!((leaf(&e, 0x1f, 0).edx, leaf(&e, 0, 0).eax), (9, 0x1f));
}

#[test]
fn old_amd_cpus_are_shown_as_one_whose_leaves_linux_reads() {
    let mut host = amd_host();
    // Naples, family 0x17 model 1, and the family 0xf of an emulator's plainest model.
    for signature in [0x0080_0f12, 0x0000_0f61] {
        host[1].eax = signature;
        let ids = ApicIds::new("1n2l2c1t".parse().unwrap());
        assert_eq!(leaf(&Cpuid::new(&host, ids, true, None).of(0), 1, 0).eax, 0x0083_0f10);
    }
    assert!(reads_topology(0x00a0_0f11) && reads_topology(0x0083_0f10));
}

#[test]
fn host_without_an_l3_gets_one() {
    let host: Vec<_> = amd_host().into_iter().filter(|e| e.function < 0x8000_001d).collect();
    let ids = ApicIds::new("1n2l2c1t".parse().unwrap());
    let e = Cpuid::new(&host, ids, false, None).of(3);
    assert_eq!(llc_shift(&e, 0x8000_001d), 1);
    assert_eq!(leaf(&e, 1, 0).ecx & TSC_DEADLINE, 0x7ed8_320b & TSC_DEADLINE);
}

#[test]
fn long_destinations_are_one_more_of_kvms_features() {
    let mut host = intel_host();
    host.push(entry(0x4000_0001, None, [0x0100_3efb, 0, 0, 0]));
    let ids = ApicIds::new("1n1l1c1t".parse().unwrap());
    let features = |cpuid: Cpuid| leaf(&cpuid.of(0), 0x4000_0001, 0).eax;
    let cpuid = Cpuid::new(&host, ids, true, None);
    assert_eq!(features(cpuid.clone()), 0x0100_3efb);
    assert_eq!(features(cpuid.with_long_destinations()), 0x0100_befb);
}

#[test]
fn the_other_vendor_can_be_shown() {
    let ids = ApicIds::new("1n2l2c2t".parse().unwrap());
    let cpuid = Cpuid::new(&amd_host(), ids, true, Some(Vendor::Intel));
    let e = cpuid.of(0);
    assert_eq!(leaf(&e, 0, 0).ebx, 0x756e_6547);
    assert_eq!(leaf(&e, 1, 0).eax, 0x0005_0657);
    assert_eq!(leaf(&e, 0x8000_0001, 0).ecx & TOPOEXT, 0);
    let wanted: Vec<_> = (0..8).map(|c| (c / 2, c / 4, 0)).collect();
    assert_eq!(read_back(&cpuid, 8, 4), wanted);
}
