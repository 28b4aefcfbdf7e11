//! Groups of boots that are compared with each other, their pairing, and boots that are left out.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_wire::accel::Accel;

use crate::compare::permutation::Design;
use crate::compare::sides::{Sides, set};
use crate::compare::verdicts::Boots;
use crate::runs::sidecar::Sidecar;

/// Comparable boots of both sides with the same values of the dimensions that pair.
pub(crate) struct BootGroup<'a> {
    pub(crate) pair: BTreeMap<String, String>,
    pub(crate) a: Vec<&'a Sidecar>,
    /// If `paired`, the partners of `a` at the same index.
    pub(crate) b: Vec<&'a Sidecar>,
    pub(crate) paired: bool,
}

/// All groups, and boots that are left out.
#[derive(Default)]
pub(crate) struct Grouped<'a> {
    pub(crate) groups: Vec<BootGroup<'a>>,
    pub(crate) boots: Vec<Boots<'a>>,
    pub(crate) inadmissible: Vec<String>,
    pub(crate) hidden_differences: Vec<String>,
    pub(crate) unpaired: Vec<String>,
}

impl<'a> Grouped<'a> {
    pub(crate) fn new(sides: &Sides<'a>) -> Grouped<'a> {
        let mut grouped = Grouped::default();
        let pairing = sides.pairing();
        for (values, runs) in sides.pairs() {
            let pair: BTreeMap<String, String> = pairing.iter().map(|d| d.to_string()).zip(values).collect();
            if let Some(what) = sides.alike(&runs) {
                grouped.hidden_differences.push(format!("{}: both sides ran with {what}", describe(&pair)));
            }
            let by_side = [("A", &runs.0), ("B", &runs.1)];
            for (side, run) in by_side.iter().flat_map(|(side, runs)| runs.iter().map(move |r| (side, *r))) {
                let reason =
                    why_inadmissible(run).map(|why| format!("{side}: {}: {why}", run.identity.variant));
                grouped.inadmissible.extend(reason);
            }
            match by_side.iter().find(|(_, runs)| runs.is_empty()) {
                Some((side, _)) if !is_missed(sides, side, &pair) => {
                    grouped.unpaired.push(format!("{}: no boot on side {side}", describe(&pair)));
                }
                _ => grouped.add(sides, pair, runs),
            }
        }
        for (name, side) in [("A", &sides.a), ("B", &sides.b)] {
            for (test, reasons) in &side.without_result {
                grouped.unpaired.push(format!("side {name}: {test}: no result: {}", reasons.join("; ")));
            }
        }
        grouped
    }

    fn add(
        &mut self,
        sides: &Sides<'a>,
        pair: BTreeMap<String, String>,
        (a, b): (Vec<&'a Sidecar>, Vec<&'a Sidecar>),
    ) {
        let missing = |runs: &[&Sidecar]| sides.rounds.map_or(0, |rounds| rounds.saturating_sub(runs.len()));
        let no_result = [missing(&a), missing(&b)];
        let boots = Boots { no_result, ..paired(pair, a, b) };
        let group = match &boots.pairs {
            Some(pairs) => {
                let whole = pairs.iter().filter(|(a, b)| a.is_admissible() && b.is_admissible());
                let (a, b): (Vec<_>, Vec<_>) = whole.copied().unzip();
                let mut left_out = |nr: usize, what: &str| {
                    if nr > 0 {
                        self.unpaired.push(format!("{}: {nr} {what}", describe(&boots.pair)));
                    }
                };
                left_out(pairs.len() - a.len(), "pairs in which a boot cannot be compared");
                let alone = boots.a.len() + boots.b.len() - 2 * pairs.len();
                left_out(alone, "boots whose seeds the other side has not");
                BootGroup { pair: boots.pair.clone(), a, b, paired: true }
            }
            None => {
                let admissible =
                    |side: &[&'a Sidecar]| side.iter().copied().filter(|r| r.is_admissible()).collect();
                BootGroup {
                    pair: boots.pair.clone(),
                    a: admissible(&boots.a),
                    b: admissible(&boots.b),
                    paired: false,
                }
            }
        };
        self.boots.push(boots);
        if !group.a.is_empty() && !group.b.is_empty() {
            self.hidden_differences.extend(hidden(sides, &group));
            self.groups.push(group);
        }
    }
}

/// Whether a side without a boot should have had one. A test that only side B has cannot have become worse.
fn is_missed(sides: &Sides<'_>, side: &str, pair: &BTreeMap<String, String>) -> bool {
    let failed_to_run = || pair.get("test").is_some_and(|t| sides.a.without_result.contains_key(t));
    sides.rounds.is_some() && (side == "B" || failed_to_run())
}

/// Pairs boots of `sim` by seed. Several boots with the same seed are the same boot and count once.
fn paired<'a>(pair: BTreeMap<String, String>, a: Vec<&'a Sidecar>, b: Vec<&'a Sidecar>) -> Boots<'a> {
    let unpaired = Boots { pair, a, b, pairs: None, no_result: [0, 0] };
    if unpaired.a.iter().chain(&unpaired.b).any(|s| s.identity.accel != Accel::Sim) {
        return unpaired;
    }
    let by_seed = |side: &[&'a Sidecar]| -> BTreeMap<u64, &'a Sidecar> {
        side.iter().map(|s| (s.identity.seed, *s)).collect()
    };
    let (a, b) = (by_seed(&unpaired.a), by_seed(&unpaired.b));
    let pairs: Vec<_> = a.iter().filter_map(|(seed, s)| Some((*s, *b.get(seed)?))).collect();
    Boots {
        a: a.into_values().collect(),
        b: b.into_values().collect(),
        pairs: (!pairs.is_empty()).then_some(pairs),
        ..unpaired
    }
}

impl BootGroup<'_> {
    pub(crate) fn design(&self) -> Design {
        if self.paired { Design::Paired(self.a.len()) } else { Design::Unpaired(self.a.len(), self.b.len()) }
    }
}

/// The reason why the metrics of a boot cannot be compared.
fn why_inadmissible(run: &Sidecar) -> Option<String> {
    let why = || match run.reasons.first() {
        Some(reason) => reason.clone(),
        None if run.scheduler_exit.as_ref().is_some_and(|e| !e.clean) => {
            "its scheduler ended, as the test expects".into()
        }
        None => "its data is not complete".into(),
    };
    (!run.is_admissible()).then(why)
}

fn describe(pair: &BTreeMap<String, String>) -> String {
    pair.values().cloned().collect::<Vec<_>>().join(", ")
}

/// Dimensions in which the sides differ without a request.
fn hidden(sides: &Sides<'_>, group: &BootGroup<'_>) -> Vec<String> {
    type Fact = (&'static str, fn(&Sidecar) -> String);
    let facts: [Fact; 8] = [
        ("kernel image", |s| s.identity.kernel_sha256.clone()),
        ("duration", |s| s.identity.duration_ns.to_string()),
        ("memory", |s| s.identity.memory_mib.to_string()),
        ("pinning of CPUs", |s| s.identity.pinned.to_string()),
        ("pages of memory", |s| s.most_pages().into()),
        ("seed", |s| s.identity.seed.to_string()),
        ("host CPU", |s| s.identity.host.cpu_model.clone().unwrap_or_default()),
        ("QEMU", |s| s.identity.host.qemu_version.clone().unwrap_or_default()),
    ];
    let values =
        |side: &[&Sidecar], f: fn(&Sidecar) -> String| side.iter().map(|s| f(s)).collect::<BTreeSet<_>>();
    let facts =
        facts.iter().filter(|(_, f)| values(&group.a, *f) != values(&group.b, *f)).map(|(name, _)| *name);
    let not_asked = sides.unpaired_by.iter().copied().filter(|d| !sides.asked.contains(d));
    let dimensions = not_asked.filter(|d| set(&group.a, d) != set(&group.b, d));
    let differing = facts.chain(dimensions).collect::<Vec<_>>();
    differing.iter().map(|name| format!("{}: the sides differ in {name}", describe(&group.pair))).collect()
}
