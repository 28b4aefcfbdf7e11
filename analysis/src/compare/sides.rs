//! The two sides of a comparison: the boots of each, and the dimensions in which the sides differ.
//!
//! No run is on both sides. Filters select the runs of each side on disk ([`Sides::by_filters`]), or a
//! command has booted the runs of each side ([`Sides::of_boots`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::runs::index::{DIMENSIONS, Filters, dimension, matches};
use crate::runs::sidecar::Sidecar;

/// Error of the selection of two sides.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidesError {
    /// The filters of both sides are equal.
    #[error(
        "the sides are the same; name what differs, as in: cargo ktstr stats compare --a-scheduler eevdf --b-scheduler scx_simple"
    )]
    Same,
    /// Only one side has a filter on a dimension, so that the other side would have all its values.
    #[error(
        "side {side} names no {dimension}; add --{}-{dimension} with one of: {}", .side.to_ascii_lowercase(), .values.join(", ")
    )]
    OneSided {
        /// The side without the filter.
        side: char,
        /// Name of the dimension.
        dimension: &'static str,
        /// Values of the runs in this dimension.
        values: Vec<String>,
    },
    /// A value of a filter matches several values.
    #[error("side {side}: {dimension} '{wanted}' is one of {}; name one of them", .values.join(", "))]
    Ambiguous {
        /// Name of the side.
        side: char,
        /// Name of the dimension.
        dimension: &'static str,
        /// The value in the filter.
        wanted: String,
        /// The values that match.
        values: Vec<String>,
    },
    /// No run matches the filters of a side.
    #[error("side {side}: no run has {wanted}; {there}\ncargo ktstr stats list-values shows all values")]
    NoMatch {
        /// Name of the side.
        side: char,
        /// Filters of the side.
        wanted: String,
        /// Values of the runs.
        there: String,
    },
    /// A run is on both sides.
    #[error("run {run} ({variant}) is on both sides; a boot cannot be compared with itself")]
    Shared {
        /// Identifier of the run.
        run: String,
        /// Name of its files.
        variant: String,
    },
    /// Every pair has the same values on both sides.
    #[error("both sides ran with {0}; name another value on one side")]
    Alike(String),
}

/// The boots of one side.
#[derive(Clone, Debug, Default)]
pub struct Side<'a> {
    /// Runs with a result.
    pub runs: Vec<&'a Sidecar>,
    /// Reasons of runs without a result, by test.
    pub without_result: BTreeMap<String, Vec<String>>,
}

/// Two sides, which have no run in common.
#[derive(Clone, Debug)]
pub struct Sides<'a> {
    pub(crate) a: Side<'a>,
    pub(crate) b: Side<'a>,
    /// Dimensions in which the sides differ by request.
    pub(crate) asked: Vec<&'static str>,
    /// Dimensions that do not pair the boots: `asked`, and those that may differ because of them.
    pub(crate) unpaired_by: Vec<&'static str>,
    /// Number of boots of each test on each side, if it is known.
    pub(crate) rounds: Option<usize>,
}

/// Runs of both sides with the same values of the dimensions that pair.
pub(crate) type Pair<'a> = (Vec<&'a Sidecar>, Vec<&'a Sidecar>);

impl<'a> Sides<'a> {
    /// The runs of both sides, first those of A.
    pub fn runs(&self) -> impl Iterator<Item = &'a Sidecar> {
        self.a.runs.iter().chain(&self.b.runs).copied()
    }

    /// Selects the runs of both sides by filters, which must be on the same dimensions.
    pub fn by_filters(runs: &[&'a Sidecar], a: &Filters, b: &Filters) -> Result<Sides<'a>, SidesError> {
        let asked: Vec<&'static str> = DIMENSIONS.into_iter().filter(|d| a.get(d) != b.get(d)).collect();
        if asked.is_empty() {
            return Err(SidesError::Same);
        }
        for dimension in asked.iter().copied() {
            let (side, filters) = match (a.contains_key(dimension), b.contains_key(dimension)) {
                (false, _) => ('A', a),
                (_, false) => ('B', b),
                _ => continue,
            };
            return Err(SidesError::OneSided { side, dimension, values: values(runs, filters, dimension) });
        }
        let side = |name: char, filters: &Filters| {
            let runs = chosen(runs, name, filters, &asked)?;
            Ok(Side { runs, without_result: BTreeMap::new() })
        };
        let (a, b) = (side('A', a)?, side('B', b)?);
        Sides { a, b, unpaired_by: asked.clone(), asked, rounds: None }.checked()
    }

    /// Sides of booted runs, with one boot of each test in every round. The scheduler of a test may differ
    /// between commits, so that neither dimension pairs the boots.
    pub fn of_boots(
        a: Side<'a>,
        b: Side<'a>,
        asked: &[&'static str],
        rounds: usize,
    ) -> Result<Sides<'a>, SidesError> {
        let unpaired_by = vec!["scheduler", "commit"];
        Sides { a, b, asked: asked.to_vec(), unpaired_by, rounds: Some(rounds) }.checked()
    }

    /// Counts each boot once, by its first attempt, and checks that the sides differ.
    fn checked(mut self) -> Result<Sides<'a>, SidesError> {
        for side in [&mut self.a, &mut self.b] {
            let mut seen = BTreeSet::new();
            side.runs.retain(|r| !r.identity.is_retry() && seen.insert(&r.identity.run_id));
        }
        let on_a: BTreeSet<&str> = self.a.runs.iter().map(|r| r.identity.run_id.as_str()).collect();
        if let Some(both) = self.b.runs.iter().find(|r| on_a.contains(r.identity.run_id.as_str())) {
            let id = &both.identity;
            return Err(SidesError::Shared { run: id.run_id.clone(), variant: id.variant.clone() });
        }
        let pairs = self.pairs();
        let mut whole = pairs.values().filter(|(a, b)| !a.is_empty() && !b.is_empty()).peekable();
        if let Some(first) = whole.peek()
            && let Some(what) = self.alike(first)
            && whole.all(|pair| self.alike(pair).is_some())
        {
            return Err(SidesError::Alike(what));
        }
        Ok(self)
    }

    /// The common values of a pair in the dimensions that have to differ, if it does not differ in any.
    pub(crate) fn alike(&self, (a, b): &Pair<'a>) -> Option<String> {
        let same = self.asked.iter().all(|d| set(a, d) == set(b, d));
        same.then(|| {
            let value = |d: &&str| format!("{d} {}", set(a, d).into_iter().collect::<Vec<_>>().join(" and "));
            self.asked.iter().map(value).collect::<Vec<_>>().join(", ")
        })
    }

    /// The dimensions that pair boots.
    pub(crate) fn pairing(&self) -> Vec<&'static str> {
        DIMENSIONS.into_iter().filter(|d| !self.unpaired_by.contains(d)).collect()
    }

    /// The runs by the values of the dimensions that pair boots.
    pub(crate) fn pairs(&self) -> BTreeMap<Vec<String>, Pair<'a>> {
        let pairing = self.pairing();
        let key = |run: &Sidecar| pairing.iter().map(|d| dimension(run, d)).collect::<Vec<_>>();
        let mut pairs: BTreeMap<Vec<String>, Pair<'a>> = BTreeMap::new();
        self.a.runs.iter().for_each(|r| pairs.entry(key(r)).or_default().0.push(r));
        self.b.runs.iter().for_each(|r| pairs.entry(key(r)).or_default().1.push(r));
        pairs
    }
}

/// The values of runs in a dimension.
pub(crate) fn set(runs: &[&Sidecar], name: &str) -> BTreeSet<String> {
    runs.iter().map(|r| dimension(r, name)).collect()
}

/// The values of a dimension among the runs that match everything else, or, if none does, among all.
fn values(runs: &[&Sidecar], filters: &Filters, name: &str) -> Vec<String> {
    let others: Filters = filters.iter().filter(|(d, _)| **d != name).map(|(d, v)| (*d, v.clone())).collect();
    let matching: Vec<&Sidecar> = runs.iter().copied().filter(|r| matches(r, &others)).collect();
    let found = if matching.is_empty() { set(runs, name) } else { set(&matching, name) };
    found.into_iter().collect()
}

fn chosen<'a>(
    runs: &[&'a Sidecar],
    side: char,
    filters: &Filters,
    asked: &[&'static str],
) -> Result<Vec<&'a Sidecar>, SidesError> {
    let chosen: Vec<&Sidecar> = runs.iter().copied().filter(|r| matches(r, filters)).collect();
    if chosen.is_empty() {
        let wanted: Vec<String> = filters.iter().map(|(d, v)| format!("{d} {v}")).collect();
        let there = filters.keys().map(|d| format!("{d} may be {}", values(runs, filters, d).join(", ")));
        let there = there.collect::<Vec<_>>().join("; ");
        return Err(SidesError::NoMatch { side, wanted: wanted.join(", "), there });
    }
    for dimension in asked {
        let values = set(&chosen, dimension);
        if values.len() > 1 {
            let wanted = filters.get(dimension).cloned().unwrap_or_default();
            let values = values.into_iter().collect();
            return Err(SidesError::Ambiguous { side, dimension, wanted, values });
        }
    }
    Ok(chosen)
}

#[cfg(test)]
#[path = "sides_tests.rs"]
mod tests;
