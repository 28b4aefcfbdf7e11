//! `cargo ktstr doctor`: what this host can do, why, and the command that mends each lack.
//!
//! Owns the list of findings and how it is printed; [`checks`] finds.

mod checks;
pub mod finding;

use clap::Args;

use crate::commands::doctor::finding::{Finding, Level};
use crate::{exit, output};

/// `cargo ktstr doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if tests can run here, 14 if something that every test needs is missing."
)]
pub struct DoctorArgs {
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Looks at everything, prints it, and gives the exit status.
pub fn run(args: &DoctorArgs) -> u8 {
    let findings = checks::all();
    let text = if args.json { json(&findings) } else { text(&findings) };
    output::write(format_args!("{text}"));
    status(&findings)
}

fn status(findings: &[Finding]) -> u8 {
    let missing = findings.iter().any(|f| f.level == Level::Missing);
    if missing { exit::HOST_LACKS } else { exit::OK }
}

fn json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(findings).expect("findings are texts") + "\n"
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for f in findings {
        let mark = match f.level {
            Level::Good => "ok",
            Level::Limited => "limited",
            Level::Missing => "MISSING",
        };
        out.push_str(&format!("{mark:<8} {:<width$}  {}\n", f.name, f.found));
        if let Some(mend) = &f.mend {
            out.push_str(&format!("{:<8} {:<width$}  -> {mend}\n", "", ""));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_printed_with_its_mend_and_sets_the_status() {
        let findings = [
            Finding::good("CPUs", "2"),
            Finding::lack("QEMU", Level::Missing, "not installed", "apt-get install qemu-system-x86"),
        ];
        assert_eq!(
            text(&findings),
            "ok       CPUs  2\nMISSING  QEMU  not installed\n               -> apt-get install qemu-system-x86\n"
        );
        assert_eq!((status(&findings), status(&findings[..1])), (exit::HOST_LACKS, exit::OK));
        let parsed: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(parsed[1]["level"], "missing");
    }

    #[test]
    fn this_host_is_described() {
        let findings = checks::all();
        for name in ["KVM", "accelerator", "CPUs", "last-level caches", "QEMU", "kernels"] {
            assert!(findings.iter().any(|f| f.name == name && !f.found.is_empty()), "{name}: {findings:?}");
        }
        assert!(findings.iter().all(|f| (f.level == Level::Good) == f.mend.is_none()), "{findings:?}");
    }
}
