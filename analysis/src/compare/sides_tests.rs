//! Sides that are two, and those that are not.

use super::*;
use crate::compare::comparison::tests::boot;

/// Four runs in which every dimension has two values, `old` and `new`, but for what cannot be named so.
fn runs() -> Vec<Sidecar> {
    let run = |i: u64| {
        let even = i.is_multiple_of(2);
        let (accel, scheduler) = if even { ("tcg", "old") } else { ("sim", "new") };
        let mut s = boot(accel, scheduler, i, &[]);
        let id = &mut s.identity;
        id.test = format!("b::{}", id.scheduler);
        id.kernel = id.scheduler.clone();
        id.project_commit = id.scheduler.clone();
        if !even {
            id.topology = ktstr_wire::topology::Topology::new(1, 1, 2, 1).unwrap();
            id.probes = ktstr_wire::spec::ProbeLevel::Off;
        }
        s
    };
    (0..4).map(run).collect()
}

fn by_filters<'a>(
    runs: &'a [Sidecar],
    a: &[(&'static str, &str)],
    b: &[(&'static str, &str)],
) -> Result<Sides<'a>, SidesError> {
    let filters =
        |f: &[(&'static str, &str)]| f.iter().map(|(d, v)| (*d, v.to_string())).collect::<Filters>();
    Sides::by_filters(&runs.iter().collect::<Vec<_>>(), &filters(a), &filters(b))
}

#[test]
fn dimension_named_on_one_side_is_an_error_with_its_values() {
    let runs = runs();
    for name in DIMENSIONS {
        let values: Vec<String> = set(&runs.iter().collect::<Vec<_>>(), name).into_iter().collect();
        assert_eq!(values.len(), 2, "{name}");
        for (a, b, side) in
            [(vec![(name, values[0].as_str())], vec![], 'B'), (vec![], vec![(name, values[0].as_str())], 'A')]
        {
            let e = by_filters(&runs, &a, &b).unwrap_err();
            assert_eq!(e, SidesError::OneSided { side, dimension: name, values: values.clone() });
            for value in &values {
                assert!(e.to_string().contains(value.as_str()), "{e}");
            }
        }
        let sides = by_filters(&runs, &[(name, &values[0])], &[(name, &values[1])]).unwrap();
        assert_eq!((sides.a.runs.len(), sides.b.runs.len(), sides.asked), (2, 2, vec![name]));
    }
}

#[test]
fn filters_that_choose_nothing_or_the_same_are_errors() {
    let runs = runs();
    assert_eq!(by_filters(&runs, &[], &[]).unwrap_err(), SidesError::Same);
    assert_eq!(by_filters(&runs, &[("kernel", "old")], &[("kernel", "old")]).unwrap_err(), SidesError::Same);
    let e = by_filters(&runs, &[("kernel", "old")], &[("kernel", "6.99")]).unwrap_err();
    assert_eq!(
        e.to_string(),
        "side B: no run has kernel 6.99; kernel may be new, old\ncargo ktstr stats list-values shows all values"
    );
}

#[test]
fn value_that_stands_for_several_is_ambiguous() {
    let mut runs = runs();
    runs[0].identity.test = "x::t".into();
    runs[2].identity.test = "y::t".into();
    let e = by_filters(&runs, &[("test", "new")], &[("test", "t")]).unwrap_err();
    assert_eq!(e.to_string(), "side B: test 't' is one of x::t, y::t; name one of them");
    // Both tests are compared, each with itself, where that does not tell the sides apart.
    assert!(by_filters(&runs, &[("scheduler", "new")], &[("scheduler", "old")]).is_ok());
}

#[test]
fn run_on_both_sides_is_an_error() {
    let runs = runs();
    let all: Vec<&Sidecar> = runs.iter().collect();
    let side = |runs: &[&'static str]| Side {
        runs: all.iter().copied().filter(|r| runs.contains(&r.identity.run_id.as_str())).collect(),
        ..Side::default()
    };
    let of_boots =
        |a: &[&'static str], b: &[&'static str]| Sides::of_boots(side(a), side(b), &["scheduler"], 2);
    assert!(of_boots(&["old0", "old2"], &["new1", "new3"]).is_ok());
    let shared = of_boots(&["old0", "old2"], &["old2", "new3"]).unwrap_err();
    assert_eq!(
        shared.to_string(),
        "run old2 (t@old@2) is on both sides; a boot cannot be compared with itself"
    );
    // The test with and without its binary is the same one.
    let e = by_filters(&runs, &[("test", "old")], &[("test", "b::old")]).unwrap_err();
    assert!(matches!(e, SidesError::Shared { .. }), "{e}");
}

#[test]
fn boots_that_were_made_alike_are_no_two_sides() {
    let mut runs = runs();
    runs.iter_mut().for_each(|r| {
        r.identity =
            crate::Identity { run_id: r.identity.run_id.clone(), ..boot("sim", "x", 0, &[]).identity }
    });
    let of_boots = |runs: &[Sidecar]| {
        let side = |from: usize| Side {
            runs: runs[from..from + 2].to_vec().leak().iter().collect(),
            ..Side::default()
        };
        Sides::of_boots(side(0), side(2), &["scheduler"], 2).map(|_| ())
    };
    assert_eq!(of_boots(&runs), Err(SidesError::Alike("scheduler x".into())));
    // One of two tests differs.
    runs[2].identity.scheduler = "y".into();
    (runs[0].identity.test, runs[2].identity.test) = ("b::u".into(), "b::u".into());
    assert_eq!(of_boots(&runs), Ok(()));
}

#[test]
fn a_run_that_is_there_twice_counts_once() {
    let runs = runs();
    let twice: Vec<Sidecar> = [runs.clone(), runs].concat();
    let sides = by_filters(&twice, &[("kernel", "old")], &[("kernel", "new")]).unwrap();
    assert_eq!((sides.a.runs.len(), sides.b.runs.len()), (2, 2));
}
