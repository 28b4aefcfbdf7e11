"""Reads every table of every run with polars, pyarrow and DuckDB; their row counts must equal the sidecar's.

The queries of `docs/slices.md` must have the same answers in polars, DuckDB and pandas. Slices must agree with the sidecar's identity, with
the counters of the tasks and with the metrics.

Usage: check_tables.py target/ktstr
"""

import json
import re
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq

DOCS = Path(__file__).resolve().parent.parent / "docs/slices.md"
RUNS = "target/ktstr"
BY_TASK = ["slice_length_ns", "run_delay_ns"]


def rows(path: Path) -> dict[str, int]:
    """Row count by reader; each reads the values, not only the footer."""
    by_duckdb = duckdb.sql(f"select * from read_parquet('{path}')").fetchall()
    return {"polars": pl.read_parquet(path).height, "pyarrow": pq.read_table(path).num_rows, "duckdb": len(by_duckdb)}


def answers(runs: Path) -> dict[str, dict[str, pl.DataFrame]]:
    """The answers to the questions of `docs/slices.md` by question and reader, in one order of rows."""
    found = {}
    for section in DOCS.read_text().split("\n## ")[1:]:
        question = section.split("\n", 1)[0]
        blocks = re.findall(r"```(?:python|sql)\n(.*?)```", section, re.DOTALL)
        by_polars, sql, by_pandas = (code.replace(RUNS, str(runs)) for code in blocks)
        frames = {"polars": {}, "pandas": {}}
        exec(by_polars, frames["polars"])
        exec(by_pandas, frames["pandas"])
        of_pandas = pl.from_pandas(frames["pandas"]["answer"], nan_to_null=True)
        all_frames = {"polars": frames["polars"]["answer"], "DuckDB": duckdb.sql(sql).pl(), "pandas": of_pandas}
        numbers = pl.selectors.numeric().cast(pl.Int64)
        found[question] = {reader: f.with_columns(numbers).sort(f.columns) for reader, f in all_frames.items()}
    return found


def query_differences(runs: Path) -> list[str]:
    """Questions without an answer, and those with several."""
    found = []
    for question, frames in answers(runs).items():
        expected = frames["polars"]
        print(f"{question}: {expected.height} rows")
        if expected.is_empty():
            found.append(f"{question}: no rows")
        found += [f"{question}: {reader} differs from polars" for reader, frame in frames.items() if not frame.equals(expected)]
    return found


def slice_differences(folder: Path, run: dict) -> list[str]:
    """Where identity, counters and metrics do not say the same of the slices of a run."""
    slices = pl.read_parquet(folder / "slices.parquet")
    identity = run["identity"]
    expected = {name: identity[name] for name in ["run_id", "scheduler", "kernel", "topology", "accel", "seed"]} | {"boot": identity["repeat"]}
    found = [f"{name} is not {value!r}" for name, value in expected.items() if (slices[name] != value).any()]
    names = pl.read_parquet(folder / "tasks.parquet").group_by("tid").agg(pl.col("comm", "role").unique())
    one = lambda name: pl.when(pl.col(name).list.len() == 1).then(pl.col(name).list.first())
    named = slices.select("tid", "comm", "role").join(names.select("tid", *[one(n) for n in ("comm", "role")]), on="tid", how="left")
    found += [f"{n} is not that of the table tasks" for n in ("comm", "role") if not named[n].equals(named[f"{n}_right"], null_equal=True)]
    if not slices["idle"].equals(slices["tid"] == 0):
        found.append("idle is not that of task 0")
    cpus = run["quality"]["cpus"]
    if not (run.get("window_open") and run.get("window_close")) or any(c["dropped"] or c["emitted"] != c["received"] for c in cpus):
        return found
    if not slices.height:
        return found
    tasks = pl.read_parquet(folder / "tasks.parquet")
    inside = slices.filter(pl.col("ts_ns") >= run["window_open"]["ts_ns"])
    sums = inside.group_by("tid").agg(
        slice_length_ns=pl.col("dur_ns").sum(),
        run_delay_ns=pl.col("wait_ns").sum(),
    )
    counted = tasks.group_by("tid").agg(pl.col(BY_TASK).sum()).join(sums, on="tid", how="left", suffix="_of_slices").fill_null(0)
    for name in BY_TASK:
        wrong = counted.filter(pl.col(name) != pl.col(f"{name}_of_slices"))
        found += [f"{name} of task {r['tid']}: {r[name + '_of_slices']}, by the counters {r[name]}" for r in wrong.to_dicts()]
    workload = inside.join(tasks.filter(pl.col("class") == "workload").select("tid").unique(), on="tid")
    blocked = workload["blocked_ns"].drop_nulls()
    metrics = pl.read_parquet(folder / "metrics.parquet").filter((pl.col("name") == "blocked_time") & (pl.col("scope") == "run"))
    expected = dict(metrics.select("stat", "value").rows())
    for stat, value in {"count": blocked.len(), "max": blocked.max()}.items():
        if expected.get(stat) != value:
            found.append(f"blocked_time.{stat} is {value}, by the metrics {expected.get(stat)}")
    return found


def wait_differences(folder: Path) -> list[str]:
    """Where the parts of waits do not add up to the waits before slices, or the dominant cause is another."""
    slices = pl.read_parquet(folder / "slices.parquet").filter(pl.col("wait_ns").is_not_null(), pl.col("tid") != 0)
    waits = pl.read_parquet(folder / "waits.parquet").filter(~pl.col("open"))
    end = pl.col("ts_ns") + pl.col("wait_ns")
    parts = waits.group_by("tid", end_ns=end).agg(
        pl.col("ns").sum(), by_cause=pl.struct("cause", "ns"), whole_ns=pl.col("wait_ns").first()
    )
    whole = slices.select("tid", "wait_cause", end_ns="ts_ns", own_ns=pl.col("wait_ns") + pl.col("throttled_ns").fill_null(0))
    joined = whole.filter(pl.col("own_ns") > 0).join(parts, on=["tid", "end_ns"], how="full", coalesce=True)
    found = [] if joined["own_ns"].equals(joined["ns"]) else ["parts of waits do not add up to the waits of slices"]
    if not joined["ns"].equals(joined["whole_ns"]):
        found.append("parts of waits do not add up to wait_ns of waits")
    if joined.height:
        causes = joined.explode("by_cause").unnest("by_cause", separator=":")
        sums = causes.group_by("tid", "end_ns", "wait_cause", pl.col("by_cause:cause").alias("cause")).agg(pl.col("by_cause:ns").sum())
        largest = pl.col("by_cause:ns") == pl.col("by_cause:ns").max().over("tid", "end_ns")
        named = sums.filter(largest).group_by("tid", "end_ns").agg((pl.col("wait_cause") == pl.col("cause")).any().alias("is_named"))
        if not named["is_named"].all():
            found.append("wait_cause is not the cause with the largest part")
    return found


def main() -> int:
    sidecars = sorted(Path(sys.argv[1]).glob("*/*.ktstr.json"))
    checked, wrong = 0, []
    for sidecar in sidecars:
        run = json.loads(sidecar.read_text())
        folder = sidecar.with_name(run["identity"]["variant"])
        for table in run["files"]:
            checked += 1
            path = folder / table["file"]
            wrong += [
                f"{path}: {found} rows by {reader}, {table['rows']} by the sidecar"
                for reader, found in rows(path).items()
                if found != table["rows"]
            ]
        wrong += [f"{folder}: {difference}" for difference in slice_differences(folder, run) + wait_differences(folder)]
    wrong += query_differences(Path(sys.argv[1]))
    print(*wrong, f"{checked} tables of {len(sidecars)} runs read by three readers, {len(wrong)} differences", sep="\n")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
