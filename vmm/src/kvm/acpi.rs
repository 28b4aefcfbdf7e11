//! ACPI tables: which CPUs, memory, nodes and devices there are, and how the guest powers itself off.
//!
//! Source: ACPI 6.5; section numbers stand at each table. The platform is not hardware-reduced, so that kernels without a
//! driver for ACPI serial ports find the ISA interrupt of the console.

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::hmat::{
    DataType, HMAT, LocalityType, MemoryProximityDomain, MinTransferSize, SystemLocality,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::slit::SLIT;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use ktstr_wire::topology::node_distance;

use crate::kvm::apic_ids::ApicIds;
use crate::kvm::layout::{self, SLEEP_TYPE_OFF, gsi, port};
use crate::kvm::memory::Range;

const OEM: [u8; 6] = *b"KTSTR ";
const OEM_TABLE: [u8; 8] = *b"KTSTRVMM";
const OEM_REVISION: u32 = 1;

/// FADT `IAPC_BOOT_ARCH` (section 5.2.9.3): legacy devices, no VGA, no CMOS clock.
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 2 | 1 << 5;

/// Latency between CPUs and memory of one node, and per unit of SLIT distance, nanoseconds (chosen: a two-socket server).
const LATENCY_NS_PER_DISTANCE: u32 = 9;
/// Bandwidth within a node, MB/s (chosen likewise); in inverse proportion to the distance between nodes.
const LOCAL_BANDWIDTH_MB: u32 = 100_000;

/// What the tables tell.
#[derive(Debug)]
pub(crate) struct Platform<'a> {
    pub apic_ids: &'a ApicIds,
    /// Memory of each node.
    pub memory: &'a [Vec<Range>],
}

/// Tables for the area at [`layout::ACPI`], the RSDP first. `None`: more than fits there.
pub(crate) fn tables(platform: &Platform<'_>) -> Option<Vec<u8>> {
    let mut area = Area { bytes: vec![0; Rsdp::len().next_multiple_of(16)] };
    let dsdt = area.add(&dsdt());
    // The FACS lies at a multiple of 64 (section 5.2.10).
    area.bytes.resize(area.bytes.len().next_multiple_of(64), 0);
    let facs = area.add(&FACS::new());
    let mut entries = vec![area.add(&fadt(dsdt, facs)), area.add(&madt(platform.apic_ids))];
    if platform.memory.len() > 1 {
        entries.push(area.add(&srat(platform)));
        entries.push(area.add(&slit(platform.memory.len())));
        entries.push(area.add(&hmat(platform.memory.len())));
    }
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    for entry in entries {
        xsdt.add_entry(entry);
    }
    let xsdt = area.add(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    area.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    (area.bytes.len() as u64 <= layout::ACPI_END - layout::ACPI).then_some(area.bytes)
}

struct Area {
    bytes: Vec<u8>,
}

impl Area {
    /// Appends a table and gives its guest-physical address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let gpa = layout::ACPI + self.bytes.len() as u64;
        table.to_aml_bytes(&mut self.bytes);
        gpa
    }
}

/// A table with this signature whose body follows the header.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Sdt {
    let mut sdt = Sdt::new(*signature, 36, revision, OEM, OEM_TABLE, OEM_REVISION);
    sdt.append_slice(body);
    sdt
}

/// Devices (section 5.2.11.1): the sleep state of power-off, and the virtio-mmio device, which Linux knows as LNRO0005.
fn dsdt() -> Sdt {
    let mut body = Vec::new();
    let off = SLEEP_TYPE_OFF as u8;
    aml::Name::new("_S5_".into(), &aml::Package::new(vec![&off, &off, &aml::ZERO, &aml::ZERO]))
        .to_aml_bytes(&mut body);
    aml::Device::new(
        "_SB_.VSCK".into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, layout::VSOCK as u32, layout::VIRTIO_BYTES as u32),
                    &aml::Interrupt::new(true, true, false, false, gsi::VSOCK),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut body);
    table(b"DSDT", 6, &body)
}

fn io_register(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, u64::from(port))
}

/// Fixed hardware (section 5.2.9): power-off, reset.
fn fadt(dsdt: u64, facs: u64) -> acpi_tables::fadt::FADT {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .firmware_ctrl_64(facs)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::FixRtc)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    // Section 5.2.9: both forms of the two addresses are there.
    fadt.dsdt = (dsdt as u32).into();
    fadt.sci_int = gsi::SCI.into();
    fadt.pm1a_evt_blk = u32::from(port::PM1_EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(port::PM1_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_evt_blk = io_register(port::PM1_EVENT, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = io_register(port::PM1_CONTROL, 16, AccessSize::WordAccess);
    fadt.reset_reg = io_register(port::RESET, 8, AccessSize::ByteAccess);
    fadt.reset_value = crate::kvm::layout::RESET_VALUE;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.finalize()
}

/// Interrupt controllers (section 5.2.12). A local APIC with an id below 255 has the short form (section 5.2.12.12).
fn madt(apic_ids: &ApicIds) -> Sdt {
    let mut body = Vec::new();
    body.extend(layout::LOCAL_APIC.to_le_bytes());
    // PCAT_COMPAT: there are 8259s as well.
    body.extend(1u32.to_le_bytes());
    for cpu in 0..apic_ids.topology().nr_cpus() {
        let id = apic_ids.of(cpu);
        match u8::try_from(id) {
            Ok(id) if id < 255 => {
                body.extend([0, 8, cpu as u8, id]);
                body.extend(1u32.to_le_bytes());
            }
            _ => {
                body.extend([9, 16, 0, 0]);
                for word in [id, 1, cpu] {
                    body.extend(word.to_le_bytes());
                }
            }
        }
    }
    body.extend([1, 12, 0, 0]);
    body.extend(layout::IO_APIC.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    // The timer's interrupt 0 is input 2 (section 5.2.12.5); the SCI is active high and level-triggered.
    body.extend([2, 10, 0, 0]);
    body.extend(2u32.to_le_bytes());
    body.extend(0u16.to_le_bytes());
    body.extend([2, 10, 0, gsi::SCI as u8]);
    body.extend(u32::from(gsi::SCI).to_le_bytes());
    body.extend(0b1101u16.to_le_bytes());
    table(b"APIC", 5, &body)
}

/// Which node CPUs and memory belong to (section 5.2.16).
fn srat(platform: &Platform<'_>) -> Sdt {
    let mut body = Vec::new();
    body.extend(1u32.to_le_bytes());
    body.extend([0; 8]);
    let topology = platform.apic_ids.topology();
    for cpu in 0..topology.nr_cpus() {
        body.extend([2, 24, 0, 0]);
        for word in [topology.node_of(cpu), platform.apic_ids.of(cpu), 1, 0, 0] {
            body.extend(word.to_le_bytes());
        }
    }
    for (node, ranges) in (0u32..).zip(platform.memory) {
        for range in ranges {
            body.extend([1, 40]);
            body.extend(node.to_le_bytes());
            body.extend([0; 2]);
            body.extend(range.start.to_le_bytes());
            body.extend(range.len.to_le_bytes());
            body.extend([0; 4]);
            body.extend(1u32.to_le_bytes());
            body.extend([0; 8]);
        }
    }
    table(b"SRAT", 3, &body)
}

fn distance(a: usize, b: usize) -> u32 {
    node_distance(a as u32, b as u32)
}

/// Distances between nodes (section 5.2.17).
fn slit(nodes: usize) -> SLIT {
    let mut slit = SLIT::new(OEM, OEM_TABLE, OEM_REVISION, nodes as u32);
    for a in 0..nodes {
        for b in 0..a {
            slit.set_distance(a, b, distance(a, b) as u8);
        }
    }
    slit
}

/// Latency and bandwidth between nodes (section 5.2.28).
fn hmat(nodes: usize) -> HMAT {
    let mut hmat = HMAT::new(OEM, OEM_TABLE, OEM_REVISION);
    for node in 0..nodes as u32 {
        hmat.add_memory_proximity(MemoryProximityDomain::new(node, node));
    }
    // Units: 1000 ps, and 100 MB/s.
    let latency = |d: u32| (d * LATENCY_NS_PER_DISTANCE) as u16;
    let bandwidth = |d: u32| (LOCAL_BANDWIDTH_MB / 100 * 10 / d) as u16;
    hmat.add_system_locality(locality(DataType::AccessLatency, 1000, nodes, &latency));
    hmat.add_system_locality(locality(DataType::AccessBandwidth, 100, nodes, &bandwidth));
    hmat
}

fn locality(kind: DataType, unit: u64, nodes: usize, value: &dyn Fn(u32) -> u16) -> SystemLocality {
    let mut table =
        SystemLocality::new(LocalityType::Memory, kind, MinTransferSize::SizeByteAligned, unit, nodes, nodes);
    for a in 0..nodes {
        table.set_initiator_value(a, a as u32);
        table.set_target_value(a, a as u32);
        for b in 0..nodes {
            table.set_entry_value(a, b, value(distance(a, b)));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::memory;

    fn built(topology: &str) -> Vec<u8> {
        let topology: ktstr_wire::topology::Topology = topology.parse().unwrap();
        let apic_ids = ApicIds::new(topology);
        let memory = memory::of_nodes(1 << 30, topology.numa_nodes);
        tables(&Platform { apic_ids: &apic_ids, memory: &memory }).unwrap()
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// Follows RSDP and XSDT, checks every sum, and gives each table by its signature.
    fn followed(area: &[u8]) -> Vec<(String, Vec<u8>)> {
        let at = |gpa: u64| (gpa - layout::ACPI) as usize;
        let sum = |b: &[u8]| b.iter().fold(0u8, |a, b| a.wrapping_add(*b));
        let take = |gpa: u64| {
            let start = at(gpa);
            let len = u32::from_le_bytes(area[start + 4..start + 8].try_into().unwrap()) as usize;
            let table = area[start..start + len].to_vec();
            assert_eq!(sum(&table), 0, "{}", String::from_utf8_lossy(&table[..4]));
            (String::from_utf8(table[..4].to_vec()).unwrap(), table)
        };
        assert_eq!((&area[..8], sum(&area[..36])), (&b"RSD PTR "[..], 0));
        let (_, xsdt) = take(u64_at(area, 24));
        let mut found: Vec<_> = xsdt[36..].chunks(8).map(|c| take(u64_at(c, 0))).collect();
        found.push(take(u64_at(&found[0].1, 140)));
        found
    }

    #[test]
    fn one_node_has_no_tables_of_nodes() {
        let tables = followed(&built("1n2l2c2t"));
        let names: Vec<_> = tables.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["FACP", "APIC", "DSDT"]);
        // Header, address, flags; eight CPUs; an I/O APIC; two overrides.
        assert_eq!(tables[1].1.len(), 44 + 8 * 8 + 12 + 20);
    }

    #[test]
    fn nodes_have_affinity_distances_and_latencies() {
        let tables = followed(&built("2n4l1c2t"));
        let names: Vec<_> = tables.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["FACP", "APIC", "SRAT", "SLIT", "HMAT", "DSDT"]);
        let srat = &tables[2].1;
        assert_eq!(srat.len(), 48 + 16 * 24 + 2 * 40);
        // CPU 8 is the first of node 1: domain, then APIC id.
        assert_eq!(srat[48 + 8 * 24 + 4..][..8], [1, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(tables[3].1[44..], [10, 20, 20, 10]);
    }

    #[test]
    fn the_largest_topology_fits() {
        assert!(built("16n4l2c2t").len() < 0x2_0000);
        // 5 LLCs of 5 cores: ids up to (7 << 6 | 4 << 3 | 4), which need the long form.
        let madt = &followed(&built("8n5l5c1t"))[1].1;
        assert!(madt[44..].windows(8).any(|w| w == [9, 16, 0, 0, 0xe4, 1, 0, 0]));
    }
}
