//! `cargo ktstr doctor`: what this host can do, and how to fix what is missing.

mod checks;
pub(crate) mod finding;

use clap::Args;

use crate::commands::doctor::finding::{Finding, Level};
use crate::{exit, output};

/// `cargo ktstr doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if tests can run here, 14 if something that every test needs is missing."
)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints every finding and returns the exit status.
pub(crate) fn run(args: &DoctorArgs) -> u8 {
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
    serde_json::to_string_pretty(findings).unwrap_or_default() + "\n"
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
        if let Some(fix) = &f.fix {
            out.push_str(&format!("{:<8} {:<width$}  -> {fix}\n", "", ""));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_is_printed_with_its_fix_and_sets_the_status() {
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
    fn report_of_each_kind_of_host() {
        for (host, findings) in checks::tests::hosts() {
            insta::assert_snapshot!(host, text(&findings));
        }
    }

    #[test]
    fn this_host_is_described() {
        let findings = checks::all();
        for name in ["KVM", "accelerator", "CPUs", "last-level caches", "QEMU", "kernels"] {
            assert!(findings.iter().any(|f| f.name == name && !f.found.is_empty()), "{name}: {findings:?}");
        }
        assert!(findings.iter().all(|f| (f.level == Level::Good) == f.fix.is_none()), "{findings:?}");
    }
}
