"""Reads every table of every run with polars, pyarrow and DuckDB; their row counts must equal the sidecar's.

What `docs/slices.md` derives from the slices must be the same in polars, DuckDB and pandas, and agree with the counters of the tasks
and with the metrics.

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
DERIVED = ["dur_ns", "wait_ns", "blocked_ns", "idle"]
BY_TASK = ["slice_length_ns", "run_delay_ns"]


def rows(path: Path) -> dict[str, int]:
    """Row count by reader; each reads the values, not only the footer."""
    by_duckdb = duckdb.sql(f"select * from read_parquet('{path}')").fetchall()
    return {"polars": pl.read_parquet(path).height, "pyarrow": pq.read_table(path).num_rows, "duckdb": len(by_duckdb)}


def derived(path: Path) -> dict[str, pl.DataFrame]:
    """The slices as the blocks of `docs/slices.md` read them, by reader, in one order."""
    blocks = re.findall(r"```(python|sql)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    python = [code for language, code in blocks if language == "python"]
    by_polars, by_pandas = {"path": path}, {"path": path}
    for code in python[:-1]:
        exec(code, by_polars)
    exec(python[-1], by_pandas)
    (sql,) = (code.replace("slices.parquet", str(path)) for language, code in blocks if language == "sql")
    frames = {
        "polars": by_polars["slices"].collect(),
        "duckdb": duckdb.sql(sql).pl(),
        "pandas": pl.from_pandas(by_pandas["slices"], nan_to_null=True),
    }
    times = ["ts_ns", "dur_ns", "wait_ns", "blocked_ns"]
    keys = ["cpu", "ts_ns", "dur_ns", "tid"]
    select = [pl.col("cpu", "tid", "end_state"), pl.col(times).cast(pl.Int64), pl.col("idle")]
    return {reader: f.select(select).sort(keys) for reader, f in frames.items()}


def slice_differences(folder: Path, run: dict) -> list[str]:
    """Where readers, counters and metrics do not say the same of the slices of a run."""
    frames = derived(folder / "slices.parquet")
    slices = frames["polars"]
    found = [
        f"{column} by {reader} differs from that by polars"
        for reader, frame in frames.items()
        for column in DERIVED
        if not frame[column].equals(slices[column])
    ]
    cpus = run["quality"]["cpus"]
    if not (run.get("window_open") and run.get("window_close")) or any(c["dropped"] or c["emitted"] != c["received"] for c in cpus):
        return found
    if not slices.height:
        return found
    tasks = pl.read_parquet(folder / "tasks.parquet")
    inside = slices.filter(pl.col("ts_ns") >= run["window_open"]["ts_ns"])
    sums = inside.group_by("tid").agg(
        slice_length_ns=pl.col("dur_ns").filter(pl.col("end_state") != "window_end").sum(),
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
        wrong += [f"{folder}: {difference}" for difference in slice_differences(folder, run)]
    print(*wrong, f"{checked} tables of {len(sidecars)} runs read by three readers, {len(wrong)} differences", sep="\n")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
