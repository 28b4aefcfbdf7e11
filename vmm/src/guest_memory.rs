//! A running guest's memory, for readers other than the guest's devices.

use std::hash::Hasher;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap,
    GuestMemoryRegion, MemoryRegionAddress,
};

/// Bytes that go into a digest at a time.
const DIGEST_PIECE: usize = 256 << 10;

/// An address range is not memory, or a number is not aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest has no memory at {gpa:#x}")]
pub struct NoMemory {
    /// The guest-physical address.
    pub gpa: u64,
}

/// The memory. It stays readable when the guest has gone.
#[derive(Clone, Debug)]
pub struct GuestMemory(GuestMemoryAtomic<GuestMemoryMmap>);

impl GuestMemory {
    /// Memory whose layout may change.
    pub(crate) fn shared(memory: GuestMemoryAtomic<GuestMemoryMmap>) -> GuestMemory {
        GuestMemory(memory)
    }

    /// Memory whose layout is settled.
    pub(crate) fn own(memory: Arc<GuestMemoryMmap>) -> GuestMemory {
        GuestMemory(memory.into())
    }

    /// Memory of no guest: regions of zeroes by their addresses and lengths, for tests.
    pub fn of_no_guest(regions: &[(u64, usize)]) -> io::Result<GuestMemory> {
        let regions: Vec<_> = regions.iter().map(|(gpa, len)| (GuestAddress(*gpa), *len)).collect();
        let memory = GuestMemoryMmap::from_ranges(&regions).map_err(io::Error::other)?;
        Ok(GuestMemory::own(Arc::new(memory)))
    }

    /// Whether this whole range is memory.
    pub fn holds(&self, gpa: u64, len: usize) -> bool {
        GuestMemoryBackend::check_range(&*self.0.memory(), GuestAddress(gpa), len)
    }

    /// A number that changes when something in it does.
    pub fn digest(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        let mut piece = vec![0; DIGEST_PIECE];
        for region in self.0.memory().iter() {
            for at in (0..region.len()).step_by(DIGEST_PIECE) {
                let len = usize::try_from(region.len() - at).unwrap_or(DIGEST_PIECE).min(DIGEST_PIECE);
                // All of it is in the region.
                let _ = region.read_slice(&mut piece[..len], MemoryRegionAddress(at));
                hasher.write(&piece[..len]);
            }
        }
        hasher.finish()
    }

    /// Reads into `out`. Concurrent writes of the guest may be seen in part.
    pub fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), NoMemory> {
        self.0.memory().read_slice(out, GuestAddress(gpa)).map_err(|_| NoMemory { gpa })
    }

    /// Reads a number, with acquire ordering.
    pub fn load(&self, gpa: u64) -> Result<u64, NoMemory> {
        self.0.memory().load(GuestAddress(gpa), Ordering::Acquire).map_err(|_| NoMemory { gpa })
    }

    /// Writes a number, with release ordering.
    pub fn store(&self, gpa: u64, number: u64) -> Result<(), NoMemory> {
        self.0.memory().store(number, GuestAddress(gpa), Ordering::Release).map_err(|_| NoMemory { gpa })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemory {
        GuestMemory::of_no_guest(&[(0, 0x2000), (0x10_0000, 0x1000)]).unwrap()
    }

    #[test]
    fn what_is_stored_is_read() {
        let memory = memory();
        memory.store(0x10_0ff8, 0x0102_0304_0506_0708).unwrap();
        assert_eq!(memory.load(0x10_0ff8), Ok(0x0102_0304_0506_0708));
        let mut bytes = [0; 4];
        memory.read(0x10_0ffc, &mut bytes).unwrap();
        assert_eq!(bytes, [4, 3, 2, 1]);
    }

    #[test]
    fn digest_changes_with_one_byte() {
        let memory = memory();
        let before = memory.digest();
        assert_eq!(memory.digest(), before);
        memory.store(0x10_0ff8, 1).unwrap();
        assert_ne!(memory.digest(), before);
    }

    #[test]
    fn addresses_beyond_memory_are_refused() {
        let memory = memory();
        assert!(memory.holds(0, 0x2000) && memory.holds(0x10_0000, 0x1000));
        for (gpa, len) in
            [(0, 0x2001), (0x1fff, 2), (0x2000, 1), (0xf_ffff, 2), (u64::MAX, 1), (u64::MAX - 4095, 4096)]
        {
            assert!(!memory.holds(gpa, len), "{gpa:#x}");
            assert_eq!(memory.read(gpa, &mut vec![0; len]), Err(NoMemory { gpa }));
        }
        for gpa in [0x1ffc, 0x2000, 4, u64::MAX, u64::MAX - 7] {
            assert_eq!(memory.load(gpa), Err(NoMemory { gpa }));
            assert_eq!(memory.store(gpa, 1), Err(NoMemory { gpa }));
        }
    }
}
