//! Options that decide how a comparison is judged and shown.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use ktstr_analysis::compare::{Comparison, Line, Policy, View};

use crate::commands::stats::by::By;
use crate::commands::stats::error::StatsError;
use crate::commands::stats::{comparison, markdown, words};
use crate::output::outln;

/// How a comparison is judged and shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// TOML file: what shift matters ([material] METRIC = PART) and what is judged ([judge] METRIC = false)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write the comparison as Markdown to this file, - for standard output in place of the table
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Show every line with its p-value, not only what is judged
    #[arg(long)]
    all: bool,
    /// Show only lines of this metric; what is judged stays the same
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
    /// Show only lines of this role; what is judged stays the same
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

impl ReportArgs {
    pub(crate) fn policy(&self) -> Result<Policy, StatsError> {
        Ok(self.policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default())
    }

    /// What is shown of these comparisons; a metric or role that none has is an error.
    pub(crate) fn view(&self, compared: &[&Comparison]) -> Result<View, StatsError> {
        let known = |of: fn(&Line) -> Option<&String>| -> BTreeSet<String> {
            compared.iter().flat_map(|c| &c.lines).filter_map(of).cloned().collect()
        };
        let check = |what, wanted: &Option<String>, known: BTreeSet<String>| match wanted {
            Some(wanted) if !known.contains(wanted) => Err(StatsError::NoSuchLine {
                what,
                wanted: wanted.clone(),
                known: known.into_iter().collect(),
            }),
            _ => Ok(()),
        };
        check("metric", &self.metric, known(|l| Some(&l.metric)))?;
        check("role", &self.role, known(|l| l.role.as_ref()))?;
        Ok(View { metric: self.metric.clone(), role: self.role.clone() })
    }

    /// Prints a comparison and gives its exit status.
    pub(crate) fn report(&self, compared: &Comparison, json: bool) -> Result<u8, StatsError> {
        let view = self.view(&[compared])?;
        let dash = Path::new("-");
        let markdown = || markdown::markdown(compared, &view, self.all);
        if let Some(path) = self.markdown.as_deref().filter(|p| *p != dash) {
            std::fs::write(path, markdown())
                .map_err(|source| StatsError::Report { path: path.into(), source })?;
        }
        if json {
            outln!("{}", self.json(compared, &view));
        } else if self.markdown.as_deref() == Some(dash) {
            outln!("{}", markdown().trim_end());
        } else {
            comparison::print(compared, &view, self.all);
        }
        Ok(compared.exit_status())
    }

    /// Prints the comparisons with a baseline and gives the worst exit status.
    pub(super) fn report_by(&self, by: &By, json: bool) -> Result<u8, StatsError> {
        let view = self.view(&by.comparisons())?;
        if json {
            let of: serde_json::Map<_, _> =
                by.others.iter().map(|(name, c)| (name.clone(), self.json(c, &view))).collect();
            outln!("{}", serde_json::json!({"baseline": by.baseline, "comparisons": of}));
        } else {
            by.print(&view, self.all);
        }
        Ok(by.exit_status())
    }

    /// The comparison with its verdict, exit status and the lines that are shown.
    pub(crate) fn json(&self, compared: &Comparison, view: &View) -> serde_json::Value {
        let mut shown = compared.clone();
        let filtered = self.metric.is_some() || self.role.is_some();
        shown.lines.retain(|l| view.shows(l) || (self.all && !filtered));
        let mut value = serde_json::json!(shown);
        value["verdict"] = words::verdict(compared).into();
        value["exit_status"] = compared.exit_status().into();
        value
    }
}
