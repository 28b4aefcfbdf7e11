"""Recomputes shifts, intervals and p-values of a comparison from the sidecars with scipy.

The comparison is the output of `cargo ktstr stats compare ... --json --all`. Values of the boots come from the sidecars, shifts and
intervals from the definitions of Hodges and Lehmann with scipy's distributions, and the p-value of each line alone from
scipy.stats.permutation_test, where the comparison tried all relabellings.

Usage: check_comparison.py COMPARISON.json target/ktstr
"""

import json
import math
import sys
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from scipy import stats

DIMENSIONS = {
    "test": lambda i: f"{i['package']}::{i['test']}" if i.get("package") else i["test"],
    "scheduler": lambda i: i["scheduler"],
    "topology": lambda i: i["topology"],
    "commit": lambda i: i["project_commit"] + ("-dirty" if i["dirty"] else ""),
    "accel": lambda i: i["accel"],
    "probes": lambda i: i.get("probes", "full"),
}
ALPHA = 0.05


def boots(sidecars: list[dict], line: dict, side: dict) -> dict[int, float | None]:
    """Value of the line's statistic by seed, for the admissible boots of a side."""
    wanted = {**line["pair"], **{d: v[0] for d, v in side.items()}}
    wanted.pop("kernel", None)  # its name has a digest where images differ
    found = {}
    for s in sidecars:
        i = s["identity"]
        if i.get("attempt", 1) > 1 or any(DIMENSIONS[d](i) != v for d, v in wanted.items()) or s["verdict"] not in ("pass", "fail"):
            continue
        exit_ = s.get("scheduler_exit")
        q = s["quality"]
        if (exit_ and not exit_["clean"]) or q["disagreements"] or any(c["dropped"] or c["emitted"] != c["received"] for c in q["cpus"]):
            continue
        scope = "role" if line["role"] else "run"
        rows = [m for m in s["metrics"] if (m["name"], m["stat"], m["role"], m["scope"]) == (line["metric"], line["stat"], line["role"], scope)]
        found[i["seed"]] = rows[0]["value"] if rows else None
    return found


def signed_rank_k(n: int) -> int | None:
    """Walsh averages cut off at each end: the number of k with P(W <= k) <= ALPHA / 2, less one."""
    ways = np.array([1.0])
    for rank in range(1, n + 1):
        step = np.zeros(rank + 1)
        step[[0, rank]] = 1
        ways = np.convolve(ways, step)
    below = np.cumsum(ways) / 2.0**n
    k = int((below <= ALPHA / 2).sum()) - 1
    return k if k >= 0 else None


def rank_sum_k(n: int, m: int) -> int | None:
    """The same for differences of unpaired values; scipy's exact Mann-Whitney distribution."""
    k = None
    for u in range(n * m + 1):
        # Samples whose U is u have this one-sided p-value.
        p = stats.mannwhitneyu(*samples_with_u(n, m, u), alternative="less", method="exact").pvalue
        if p > ALPHA / 2:
            break
        k = u
    return k


def samples_with_u(n: int, m: int, u: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of n and m different values of which the first wins u of the n * m comparisons."""
    wins = [min(m, max(0, u - i * m)) for i in range(n)]
    b = np.arange(m, dtype=float)
    a = np.sort(np.array([w - 0.5 for w in wins]) + np.linspace(0, 0.1, n))
    return a, b


def hodges_lehmann(a: np.ndarray, b: np.ndarray, paired: bool) -> tuple[float, tuple[float, float] | None]:
    if paired:
        d = b - a
        all_ = np.sort([(x + y) / 2 for x, y in combinations_with_replacement(d, 2)])
        k = signed_rank_k(len(d))
    else:
        all_ = np.sort(np.subtract.outer(b, a).ravel())
        k = rank_sum_k(len(a), len(b))
    interval = None if k is None or k >= len(all_) else (all_[k], all_[len(all_) - 1 - k])
    return float(np.median(all_)), interval


def t_statistic(a: np.ndarray, b: np.ndarray, paired: bool) -> float:
    with np.errstate(all="ignore"):
        test = stats.ttest_1samp(b - a, 0.0) if paired else stats.ttest_ind(b, a)
    t = abs(float(test.statistic))
    return t if not math.isnan(t) else (0.0 if np.allclose(np.mean(a), np.mean(b)) else math.inf)


def p_value(a: np.ndarray, b: np.ndarray, paired: bool) -> float:
    """Share of all relabellings whose t is at least as great."""
    kind = "samples" if paired else "independent"
    result = stats.permutation_test(
        (a, b), lambda x, y: t_statistic(x, y, paired), permutation_type=kind, alternative="greater", n_resamples=np.inf
    )
    # Equal up to rounding counts as equal.
    return float(np.mean(result.null_distribution >= result.statistic * (1 - 1e-9)))


def differences(comparison: dict, sidecars: list[dict]) -> tuple[int, list[str]]:
    checked, wrong = 0, []
    for line in comparison["lines"]:
        name = f"{line['pair'].get('topology')} {line['role']} {line['metric']}.{line['stat']}"
        by_seed = [boots(sidecars, line, side) for side in comparison["sides"]]
        if line["paired"]:
            seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
            sides = [[b[s] for s in seeds] for b in by_seed]
            known = [(a, b) for a, b in zip(*sides) if a is not None and b is not None]
            a, b = (np.array([k[i] for k in known]) for i in range(2))
        else:
            a, b = (np.array([v for v in s.values() if v is not None]) for s in by_seed)
        if not len(a) or not len(b):
            continue
        checked += 1
        if line["scale"] == "ratio":
            a, b = np.log(a), np.log(b)
        back = np.exp if line["scale"] == "ratio" else (lambda v: v)
        shift, interval = hodges_lehmann(a, b, line["paired"])
        found = {"shift": back(shift), **({"low": back(interval[0]), "high": back(interval[1])} if interval else {})}
        stated = {"shift": line["shift"], **(dict(zip(("low", "high"), line["shift_interval"])) if line["shift_interval"] else {})}
        if found.keys() != stated.keys() or any(not math.isclose(found[k], stated[k], rel_tol=1e-6, abs_tol=1e-9) for k in found):
            wrong.append(f"{name}: by scipy {found}, stated {stated}")
        # A line's own p-value comes from its own group, all relabellings of which are tried if the groups' product is.
        if comparison["exact"] and len(a) > 2 and line["reason"] is None:
            p = p_value(a, b, line["paired"])
            if not math.isclose(p, line["p"], abs_tol=1e-9):
                wrong.append(f"{name}: p by scipy {p}, stated {line['p']}")
    return checked, wrong


def main() -> int:
    comparison = json.loads(Path(sys.argv[1]).read_text())
    sidecars = [json.loads(p.read_text()) for p in sorted(Path(sys.argv[2]).glob("*/*.ktstr.json"))]
    checked, wrong = differences(comparison, sidecars)
    print(*wrong, f"{checked} lines recomputed with scipy, {len(wrong)} differences", sep="\n")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
