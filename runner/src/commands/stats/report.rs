//! Options that decide how a comparison is judged and shown.

use std::path::{Path, PathBuf};

use clap::Args;
use ktstr_analysis::compare::Comparison;
use ktstr_analysis::compare::Policy;

use crate::commands::stats::comparison;
use crate::commands::stats::error::StatsError;
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
}

impl ReportArgs {
    pub(crate) fn policy(&self) -> Result<Policy, StatsError> {
        Ok(self.policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default())
    }

    /// Prints a comparison and gives its exit status.
    pub(crate) fn report(&self, compared: &Comparison, json: bool) -> Result<u8, StatsError> {
        let dash = Path::new("-");
        if let Some(path) = self.markdown.as_deref().filter(|p| *p != dash) {
            std::fs::write(path, comparison::markdown(compared))
                .map_err(|source| StatsError::Report { path: path.into(), source })?;
        }
        if json {
            outln!("{}", serde_json::json!(compared));
        } else if self.markdown.as_deref() == Some(dash) {
            outln!("{}", comparison::markdown(compared).trim_end());
        } else {
            comparison::print(compared);
        }
        Ok(compared.exit_status())
    }
}
