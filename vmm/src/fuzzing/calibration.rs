//! Kernel images in which the calibration of the APIC's timer is changed.

use crate::kernel_image::{NOP, NR_PAUSES, PAUSE, quicken_calibration};

/// An image stays as it is, or two pauses in it become two NOPs.
pub fn calibration(data: &[u8]) {
    let mut image = data.to_vec();
    let is_changed = quicken_calibration(&mut image);
    assert_eq!(image.len(), data.len());
    let changed: Vec<usize> = (0..data.len()).filter(|i| image[*i] != data[*i]).collect();
    assert_eq!(changed.len(), if is_changed { NR_PAUSES } else { 0 });
    for at in changed {
        assert_eq!((&data[at..at + 2], &image[at..at + 2]), (&PAUSE[..], &NOP[..]));
    }
}
