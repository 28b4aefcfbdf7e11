//! `--probes`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ktstr_wire::spec::ProbeLevel;

/// Parses the name of a level.
pub(crate) fn parser() -> impl TypedValueParser<Value = ProbeLevel> {
    let value = |level: ProbeLevel| {
        PossibleValue::new(level.name()).help(match level {
            ProbeLevel::Programs => {
                "Everything of full, and the cost of each of the scheduler's BPF programs; slows every BPF program down"
            }
            ProbeLevel::Full => "Every slice and every migration",
            ProbeLevel::Summary => "Counters and histograms of each task",
            ProbeLevel::Off => "Nothing",
        })
    };
    PossibleValuesParser::new(ProbeLevel::ALL.map(value))
        .try_map(|name| ProbeLevel::from_name(&name).ok_or_else(|| format!("invalid level '{name}'")))
}
