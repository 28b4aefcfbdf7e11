//! `--probes`.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ktstr_wire::spec::ProbeLevel;

/// Parses the name of a level.
pub fn parser() -> impl TypedValueParser<Value = ProbeLevel> {
    let value = |level: ProbeLevel| {
        PossibleValue::new(level.name()).help(match level {
            ProbeLevel::Programs => {
                "All of full, and what each of the scheduler's BPF programs costs, which slows every BPF program down"
            }
            ProbeLevel::Full => "Every slice and every migration",
            ProbeLevel::Summary => "Counters and histograms of each task",
            ProbeLevel::Off => "Nothing",
        })
    };
    PossibleValuesParser::new(ProbeLevel::ALL.map(value))
        .try_map(|name| ProbeLevel::from_name(&name).ok_or_else(|| format!("invalid level '{name}'")))
}
