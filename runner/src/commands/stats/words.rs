//! A comparison in words: shifts, the findings of lines, and the verdict as a sentence.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_analysis::catalog::metrics::Scale;
use ktstr_analysis::compare::{
    Comparison, Finding, Line, MOST_BOOTS, Row, Sheet, VerdictCounts, VerdictLine,
};
use ktstr_analysis::compare::{View, short_name, summarize};

use super::print::{unsigned_zero, value};
use crate::output::one_line;

/// Digits of a commit.
const COMMIT_DIGITS: usize = 12;
/// Roles that the verdict names as worse or better, and statistics of each.
const NAMED_ROLES: usize = 3;
const NAMED_STATISTICS: usize = 2;

/// A ratio with three digits, below 1 with two decimals or one digit.
fn ratio(r: f64) -> String {
    match r {
        r if r >= 100.0 => format!("{r:.0}x"),
        r if r >= 10.0 => format!("{r:.1}x"),
        r if r >= 0.1 => format!("{r:.2}x"),
        r => format!("{r:.*}x", (-r.log10().floor()).clamp(2.0, 9.0) as usize),
    }
}

fn shift_of(line: &Line, shift: f64) -> String {
    let signed = |text: String, v: f64| if v > 0.0 { format!("+{text}") } else { text };
    match line.scale {
        Scale::Ratio => ratio(shift),
        Scale::Points => unsigned_zero(format!("{:+.1}", 100.0 * shift)),
        Scale::Difference if line.unit == "count" && shift.abs() < 10.0 => {
            unsigned_zero(format!("{shift:+.1}"))
        }
        Scale::Difference => signed(value(Some(shift), &line.unit), shift),
    }
}

/// The shift of a line: a ratio, a difference, or points (`pt`, hundredths).
pub(super) fn shift(line: &Line) -> String {
    let points = if line.scale == Scale::Points { " pt" } else { "" };
    line.shift.map_or("-".into(), |s| format!("{}{points}", shift_of(line, s)))
}

/// The shift with its interval.
pub(super) fn shift_with_interval(line: &Line) -> String {
    let Some((low, high)) = line.shift_interval else { return shift(line) };
    let bound = |v: f64| shift_of(line, v).trim_end_matches('x').to_string();
    format!("{} [{}, {}]", shift(line), bound(low), bound(high))
}

/// The finding of a line, with the number of boots that would decide.
pub(super) fn finding(line: &Line) -> String {
    let text = match line.finding {
        Finding::Regression if line.judged => "REGRESSION".into(),
        Finding::Regression => "worse, not judged".into(),
        Finding::Improvement => "improvement".into(),
        Finding::Different => "different".into(),
        Finding::Immaterial => format!("different, by less than {} %", 100.0 * line.material_frac),
        Finding::Unchanged => "unchanged".into(),
        Finding::CannotDecide => match boots_needed(line) {
            Some(boots) => format!("cannot decide ({boots})"),
            None => "cannot decide".into(),
        },
        Finding::OneSided if line.judged => "cannot decide".into(),
        Finding::OneSided => "not judged".into(),
    };
    with_reason(text, &line.reason)
}

/// What an undecided line needs.
pub(super) fn boots_needed(line: &Line) -> Option<String> {
    match line.boots_needed {
        Some(n) => Some(format!("try {n} boots")),
        None => line.shift.map(|_| format!("not within {MOST_BOOTS} boots")),
    }
}

fn with_reason(text: String, reason: &Option<String>) -> String {
    reason.iter().fold(text, |text, reason| format!("{text}: {reason}"))
}

/// The finding about boots that failed.
pub(super) fn verdict_finding(line: &VerdictLine) -> String {
    let text = match line.finding {
        Finding::Regression => "REGRESSION",
        Finding::Improvement => "improvement",
        Finding::CannotDecide => "cannot decide",
        _ => "no more than on A",
    };
    with_reason(text.into(), &line.reason)
}

pub(super) fn p_value(p: f64) -> String {
    if p < 0.0005 { "<0.001".into() } else { format!("{p:.3}") }
}

/// Numbers of boots by verdict: `6 pass, 6 sched_exit, 2 fail`.
pub(super) fn ends(e: &VerdictCounts) -> String {
    let counts = [
        (e.pass, "pass"),
        (e.fail, "fail"),
        (e.sched_exit, "sched_exit"),
        (e.boot_error, "boot_error"),
        (e.inconclusive, "inconclusive"),
        (e.skip, "skip"),
        (e.no_result, "without a result"),
    ];
    let some = counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}"));
    some.collect::<Vec<_>>().join(", ")
}

/// How the boots of a group ended, if not all passed, with the reason of the first that failed on side B.
pub(super) fn failures(line: &VerdictLine) -> Option<String> {
    if [&line.a, &line.b].iter().all(|e| e.pass == e.boots()) {
        return None;
    }
    let p = p_value(line.p_corrected);
    let why = line.first_failure.iter().map(|why| format!("; the first of B: {}", one_line(why)));
    Some(format!(
        "boots: A {}; B {}: {} (p {p}){}",
        ends(&line.a),
        ends(&line.b),
        verdict_finding(line),
        why.collect::<String>()
    ))
}

/// The value of a side in the dimensions in which the sides differ.
pub(super) fn side(c: &Comparison, i: usize) -> String {
    let value = |(dimension, values): (&String, &BTreeSet<String>)| {
        let values: Vec<String> = values.iter().map(|v| dimension_value(dimension, v)).collect();
        let values = if values.is_empty() { "no boots".into() } else { values.join(" and ") };
        if dimension == "scheduler" { values } else { format!("{dimension} {values}") }
    };
    one_line(&c.sides[i].iter().map(value).collect::<Vec<_>>().join(", "))
}

/// A value of a dimension; of a commit its first digits.
pub(super) fn dimension_value(dimension: &str, value: &str) -> String {
    match value.split_once('-') {
        _ if dimension != "commit" => value.into(),
        Some((commit, dirty)) => {
            format!("{}-{dirty}", commit.chars().take(COMMIT_DIGITS).collect::<String>())
        }
        None => value.chars().take(COMMIT_DIGITS).collect(),
    }
}

/// The verdict: better or worse, for whom, by how much.
pub(super) fn verdict(c: &Comparison) -> String {
    let sheets = summarize(c, &View::default());
    let mut parts: Vec<String> = failed_boots(&c.all_verdicts).into_iter().collect();
    parts.extend(changes(&sheets, Finding::Regression).map(|t| format!("worse for {t}")));
    if parts.is_empty() && c.exit_status() == 0 {
        parts.push("no worse".into());
    }
    parts.extend(changes(&sheets, Finding::Improvement).map(|t| format!("better for {t}")));
    let mut text = format!("{} against {} {}: {}", side(c, 1), side(c, 0), place(c), parts.join("; "));
    if c.lines.is_empty() {
        text += if parts.is_empty() { "no metric can be compared" } else { "; no metric can be compared" };
    }
    let judged = || c.lines.iter().filter(|l| l.judged);
    let (open, same) = (judged().filter(|l| l.is_open()).count(), judged().filter(|l| is_same(l)).count());
    let counts = [(open, "undecided"), (same, "unchanged")];
    let counts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", things(*n))).collect();
    if !counts.is_empty() {
        text += if text.ends_with(": ") { "" } else { "; " };
        text += &counts.join(", ");
    }
    text
}

fn things(n: usize) -> String {
    if n == 1 { "1 thing".into() } else { format!("{n} things") }
}

fn is_same(line: &Line) -> bool {
    matches!(line.finding, Finding::Unchanged | Finding::Immaterial)
}

/// The part of the verdict on boots that failed, if it decides.
fn failed_boots(all: &VerdictLine) -> Option<String> {
    let of = |e: &VerdictCounts| format!("{} of {}", e.failed(), e.boots());
    match all.finding {
        Finding::Regression => Some(format!("boots failed: {} against {}", of(&all.b), of(&all.a))),
        Finding::CannotDecide => Some(format!("cannot decide: {}", all.reason.clone().unwrap_or_default())),
        _ => None,
    }
}

/// Roles with a finding, the greatest change first, each with its greatest changes.
fn changes(sheets: &[Sheet<'_>], finding: Finding) -> Option<String> {
    let rows = sheets.iter().flat_map(|s| &s.rows).filter(|r| r.finding == finding);
    let mut lines: Vec<&Line> = rows.filter_map(greatest).collect();
    lines.sort_by(|a, b| b.size().total_cmp(&a.size()));
    let mut roles: Vec<(&Option<String>, Vec<&Line>)> = Vec::new();
    for line in lines {
        match roles.iter_mut().find(|(role, _)| **role == line.role) {
            Some((_, of_role)) if of_role.iter().any(|l| l.metric == line.metric) => {}
            Some((_, of_role)) => of_role.push(line),
            None => roles.push((&line.role, vec![line])),
        }
    }
    let role = |(role, lines): &(&Option<String>, Vec<&Line>)| {
        let name = role.as_ref().map_or("the workload".into(), |r| format!("`{}`", one_line(r)));
        let by: Vec<String> = lines.iter().take(NAMED_STATISTICS).map(|l| change(l)).collect();
        format!("{name} ({})", by.join(", "))
    };
    let mut named: Vec<String> = roles.iter().take(NAMED_ROLES).map(role).collect();
    match roles.len().saturating_sub(NAMED_ROLES) {
        0 => {}
        more => named.push(format!("{more} more roles")),
    }
    (!named.is_empty()).then(|| named.join(", "))
}

fn greatest<'a>(row: &Row<'a>) -> Option<&'a Line> {
    row.cells.iter().copied().flatten().max_by(|a, b| a.size().total_cmp(&b.size()))
}

/// One change: `wakeup p50 16 us to 6.9 ms`, `throughput 0.1x`.
fn change(line: &Line) -> String {
    let name = one_line(&short_name(line));
    let of = |v| value(v, &line.unit);
    if line.unit == "ns" || line.scale != Scale::Ratio {
        format!("{name} {} to {}", of(line.a_median), of(line.b_median))
    } else {
        format!("{name} {}", shift(line))
    }
}

/// Where the sides are compared, and by how many boots.
fn place(c: &Comparison) -> String {
    let values = |dimension: &str| -> BTreeSet<&String> {
        c.verdicts.iter().filter_map(|v| v.pair.get(dimension)).collect()
    };
    let (topologies, tests) = (values("topology"), values("test"));
    let topology = match topologies.len() {
        0 => String::new(),
        1 => format!("on {}, ", topologies.iter().map(|t| t.as_str()).collect::<String>()),
        n => format!("on {n} topologies, "),
    };
    let test =
        if tests.len() > topologies.len() { format!("in {} tests ", tests.len()) } else { String::new() };
    format!("{test}{topology}{}", boots(c))
}

fn boots(c: &Comparison) -> String {
    let range = |side: fn(&VerdictLine) -> usize| {
        let numbers: BTreeMap<usize, ()> = c.verdicts.iter().map(|v| (side(v), ())).collect();
        let (least, most) = (numbers.keys().next(), numbers.keys().next_back());
        match (least, most) {
            (Some(l), Some(m)) if l != m => format!("{l} to {m}"),
            (Some(l), _) => l.to_string(),
            _ => "0".into(),
        }
    };
    let (a, b) = (range(|v| v.a.boots()), range(|v| v.b.boots()));
    if a == b { format!("{a} boots each") } else { format!("{b} boots against {a}") }
}

/// Text in lines of at most `width` characters, where words allow it. A unit stays with its number.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let unit = |w: &&str| ["ns", "us", "ms", "s"].contains(&w.trim_end_matches([',', ';', ')']));
    let mut out = String::new();
    let mut column = 0;
    for (i, word) in words.iter().enumerate() {
        let length = word.chars().count();
        let together = length + words.get(i + 1).filter(|w| unit(w)).map_or(0, |w| w.chars().count() + 1);
        if column > 0 && column + 1 + together > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_keep_their_digits() {
        let cases = [(434.4, "434x"), (15.23, "15.2x"), (1.5, "1.50x"), (0.07, "0.07x"), (0.0027, "0.003x")];
        for (r, text) in cases {
            assert_eq!(ratio(r), text);
        }
    }

    #[test]
    fn words_are_kept_whole() {
        assert_eq!(wrapped("ab cd efghij k", 5), "ab cd\nefghij\nk");
        assert_eq!(wrapped("a 20 ms, b", 7), "a\n20 ms,\nb");
    }
}
