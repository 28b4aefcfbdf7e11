//! Reads topologies back from CPUID in the way in which Linux does.

use super::*;

/// CPUID of an Intel Xeon Gold 6248 (Cascade Lake) as far as it concerns topology: Intel SDM volume 2A gives the fields,
/// the values follow the published properties of that CPU (20 cores, 32 KiB L1, 1 MiB L2, 27.5 MiB 11-way L3).
fn intel_host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, None, [0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        entry(1, None, [0x0005_0657, 0x1240_0800, 0x7ffe_fbff, 0xbfeb_fbff]),
        entry(4, Some(0), [0x7c00_4121, 0x01c0_003f, 0x3f, 0]),
        entry(4, Some(1), [0x7c00_4122, 0x01c0_003f, 0x3f, 0]),
        entry(4, Some(2), [0x7c00_4143, 0x03c0_003f, 0x3ff, 0]),
        entry(4, Some(3), [0x7c0f_c163, 0x0280_003f, 0x9fff, 4]),
        entry(4, Some(4), [0; 4]),
        entry(0xb, Some(0), [1, 2, 0x100, 0x12]),
        entry(0xb, Some(1), [6, 40, 0x201, 0x12]),
        entry(0x8000_0000, None, [0x8000_0008, 0, 0, 0]),
        entry(0x8000_0001, None, [0, 0, 0x121, 0x2c10_0800]),
    ]
}

/// CPUID of an AMD EPYC 7763 (Milan) likewise (64 cores, 8 to an L3 of 32 MiB, 512 KiB L2).
fn amd_host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, None, [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        entry(1, None, [0x00a0_0f11, 0x0080_0800, 0x7eda_320b, 0x178b_fbff]),
        entry(0xb, Some(0), [1, 2, 0x100, 0]),
        entry(0xb, Some(1), [7, 128, 0x201, 0]),
        entry(0x8000_0000, None, [0x8000_0023, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        entry(0x8000_0001, None, [0x00a0_0f11, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        entry(0x8000_0006, None, [0x5c00_2200, 0x6c00_4200, 0x0200_6140, 0x0200_9140]),
        entry(0x8000_0008, None, [0x3030, 0x111e_f657, 0x707f, 0x0001_0007]),
        entry(0x8000_001d, Some(0), [0x4121, 0x01c0_003f, 0x3f, 0]),
        entry(0x8000_001d, Some(1), [0x4122, 0x01c0_003f, 0x3f, 0]),
        entry(0x8000_001d, Some(2), [0x4143, 0x01c0_003f, 0x3ff, 2]),
        entry(0x8000_001d, Some(3), [0x0003_c163, 0x03c0_003f, 0x7fff, 1]),
        entry(0x8000_001e, None, [0, 0x100, 0, 0]),
        entry(0x8000_001f, None, [0x0101_fd3f, 0x4173, 0x1fd, 1]),
    ]
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
            assert_eq!(leaf(&e, 1, 0).ebx >> 24, id);
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
    for text in ["1n1l1c1t", "1n1l4c1t", "1n2l2c2t", "2n4l1c2t", "1n3l3c1t", "3n2l5c2t", "2n2l16c2t"] {
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
    assert_eq!((l3.ebx, l3.ecx, l3.edx), (0x0280_003f, 0x9fff, 4));
    let amd = Cpuid::new(&amd_host(), ids, true, None).of(0);
    assert_eq!(leaf(&amd, 0x8000_001d, 3).ecx, 0x7fff);
    assert_eq!(leaf(&amd, 0x8000_0006, 0).edx, 0x0200_9140);
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
    assert_eq!(leaf(&e, 1, 0).ecx & TSC_DEADLINE, 0x7eda_320b & TSC_DEADLINE);
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
