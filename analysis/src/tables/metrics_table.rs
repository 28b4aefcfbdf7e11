//! The table `metrics`.

use crate::model::metric_row::MetricRow;
use crate::tables::writer::Columns;

/// Metric rows as the columns of [`crate::catalog::columns::METRICS`].
pub(crate) fn columns(rows: &[MetricRow]) -> Columns {
    let r = || rows.iter();
    Columns::new()
        .str("name", r().map(|m| Some(m.name.as_str())))
        .str("scope", r().map(|m| Some(m.scope.as_str())))
        .str("role", r().map(|m| m.role.as_deref()))
        .str("phase", r().map(|m| m.phase.as_deref()))
        .u32("cpu", r().map(|m| m.cpu))
        .u32("llc", r().map(|m| m.llc))
        .u32("node", r().map(|m| m.node))
        .str("stat", r().map(|m| Some(m.stat.as_str())))
        .f64("value", r().map(|m| m.value))
        .str("unit", r().map(|m| Some(m.unit.as_str())))
        .str("polarity", r().map(|m| Some(m.polarity.as_str())))
}
