//! Values on the scale on which they are compared.

use crate::catalog::metrics::Scale;

/// Values of a metric, one per boot; `None`: could not be measured. Paired boots have the same index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Values of side A.
    pub(crate) a: Vec<Option<f64>>,
    /// Values of side B.
    pub(crate) b: Vec<Option<f64>>,
}

/// The scale of these values: a ratio needs positive values, and all others can only differ.
pub(crate) fn scale_of(declared: Scale, a: &[Option<f64>], b: &[Option<f64>]) -> Scale {
    let positive = a.iter().chain(b).flatten().all(|v| *v > 0.0);
    if declared == Scale::Ratio && !positive { Scale::Difference } else { declared }
}

/// From a value to its place on the scale, where shifts are differences.
pub(crate) fn to_scale(scale: Scale, value: f64) -> f64 {
    if scale == Scale::Ratio { value.ln() } else { value }
}

/// From a shift on the scale to a ratio or a difference.
pub(crate) fn from_scale(scale: Scale, shift: f64) -> f64 {
    if scale == Scale::Ratio { shift.exp() } else { shift }
}

/// Smallest material shift on the scale: a fraction of the median of side A, or a ratio of 1 and the fraction
/// in either direction.
pub(crate) fn least_shift(scale: Scale, material_frac: f64, a_median: f64) -> f64 {
    if scale == Scale::Ratio { (1.0 + material_frac).ln() } else { material_frac * a_median.abs() }
}

impl Sample {
    /// The sample on a scale.
    pub(crate) fn scaled(scale: Scale, a: &[Option<f64>], b: &[Option<f64>]) -> Sample {
        let side = |values: &[Option<f64>]| values.iter().map(|v| v.map(|v| to_scale(scale, v))).collect();
        Sample { a: side(a), b: side(b) }
    }

    /// Known values of side A and of side B.
    pub(crate) fn known(&self) -> [Vec<f64>; 2] {
        [&self.a, &self.b].map(|side| side.iter().copied().flatten().collect())
    }

    /// Differences from A to B of the pairs with both values.
    pub(crate) fn differences(&self) -> Vec<f64> {
        self.a.iter().zip(&self.b).filter_map(|(a, b)| Some((*b)? - (*a)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_needs_positive_values() {
        let known = |v: &[f64]| v.iter().map(|v| Some(*v)).collect::<Vec<_>>();
        assert_eq!(scale_of(Scale::Ratio, &known(&[1.0]), &[None, Some(2.0)]), Scale::Ratio);
        assert_eq!(scale_of(Scale::Ratio, &known(&[1.0]), &known(&[0.0])), Scale::Difference);
        assert_eq!(scale_of(Scale::Points, &known(&[0.1]), &known(&[0.2])), Scale::Points);
    }

    #[test]
    fn material_ratio_is_as_far_up_as_down() {
        let least = least_shift(Scale::Ratio, 0.25, 1000.0);
        assert!((from_scale(Scale::Ratio, least) - 1.25).abs() < 1e-12);
        assert!((from_scale(Scale::Ratio, -least) - 0.8).abs() < 1e-12);
        assert_eq!(least_shift(Scale::Difference, 0.25, -8.0), 2.0);
    }
}
