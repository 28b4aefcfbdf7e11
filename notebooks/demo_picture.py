"""Draws docs/demo.svg from the runs of `make demo`: wakeup latency under both schedulers, and what each CPU did.

The argument is the directory of results. `make picture` calls it.
"""

import json
import sys
from pathlib import Path

import altair as alt
import polars as pl

TEST = "demo_1llc"
PICTURE = Path(__file__).resolve().parent.parent / "docs/demo.svg"
START_NS = 120_000_000
TIMELINE_NS = 10_000_000
TASKS = ["batch", "server", "scheduler", "harness", "kernel"]
COLORS = alt.Scale(domain=TASKS, range=["#b8c4d6", "#e45756", "#54a24b", "#000000", "#9d755d"])


def runs(results: Path) -> list[tuple[Path, dict]]:
    """Folders and sidecars of the newest boots of the demo in sim."""
    found = {}
    for path in results.glob("*/demo.*.ktstr.json"):
        sidecar = json.loads(path.read_text())
        identity = sidecar["identity"]
        if identity["test"].endswith(TEST) and identity["accel"] == "sim" and sidecar["verdict"] == "pass":
            key = identity["scheduler"], identity["repeat"]
            if key not in found or path.stat().st_mtime > found[key][0].stat().st_mtime:
                found[key] = path, sidecar
    return [(path.with_name(s["identity"]["variant"]), s) for _, (path, s) in sorted(found.items(), key=lambda f: f[0])]


def latency(boots: list[tuple[Path, dict]]) -> alt.Chart:
    """The share of the servers' wakeups that waited at most so long, over all boots of a scheduler."""
    rows = []
    for scheduler in sorted({s["identity"]["scheduler"] for _, s in boots}):
        waits = []
        for folder, sidecar in boots:
            if sidecar["identity"]["scheduler"] == scheduler:
                servers = pl.scan_parquet(folder / "slices.parquet").filter(pl.col("role") == "server", pl.col("wait_kind") == "wakeup")
                waits.append(servers.select("wait_ns").collect())
        waits = pl.concat(waits)["wait_ns"]
        for share in [i / 100 for i in range(1, 100)] + [0.999]:
            rows.append({"scheduler": scheduler, "share": share, "wait_us": waits.quantile(share, "higher") / 1000})
    return (
        alt.Chart(pl.DataFrame(rows), title="Wakeup latency of the servers")
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("wait_us:Q", scale=alt.Scale(type="log"), title="wakeup latency [us]"),
            y=alt.Y("share:Q", title="share of wakeups"),
            color=alt.Color("scheduler:N", title=None, legend=alt.Legend(orient="top")),
        )
        .properties(width=300, height=230)
    )


def timeline(folder: Path, sidecar: dict) -> alt.Chart:
    """What ran on each CPU while the workers of the demo, which need 50 ms to start, work."""
    start = sidecar["window_open"]["ts_ns"] + START_NS
    end = start + TIMELINE_NS
    tasks = pl.scan_parquet(folder / "tasks.parquet").select("tid", task=pl.coalesce("role", "class"))
    slices = (
        pl.scan_parquet(folder / "slices.parquet")
        .with_columns(end_ns=(pl.col("ts_ns") + pl.col("dur_ns")).fill_null(sidecar["window_close"]["ts_ns"]))
        .filter(~pl.col("idle") & (pl.col("ts_ns") < end) & (pl.col("end_ns") > start))
        .join(tasks, on="tid")
        .select(
            "cpu",
            "task",
            from_ms=((pl.max_horizontal("ts_ns", pl.lit(start)) - start) / 1e6).round(3),
            to_ms=((pl.min_horizontal("end_ns", pl.lit(end)) - start) / 1e6).round(3),
        )
        .sort("cpu", "from_ms")
        .collect()
    )
    return (
        alt.Chart(slices, title=f"What ran on each CPU under {sidecar['identity']['scheduler']}")
        .mark_bar()
        .encode(
            x=alt.X("from_ms:Q", title="time [ms]", scale=alt.Scale(domain=[0, TIMELINE_NS / 1e6])),
            x2="to_ms:Q",
            y=alt.Y("cpu:O", title="CPU"),
            color=alt.Color("task:N", title=None, legend=alt.Legend(orient="top"), scale=COLORS),
        )
        .properties(width=420, height=80)
    )


boots = runs(Path(sys.argv[1]))
assert boots, "no run of the demo that passed; make some with: make demo"
first = [(f, s) for f, s in boots if s["identity"]["repeat"] == 0]
timelines = alt.vconcat(*(timeline(f, s) for f, s in first))
chart = alt.hconcat(latency(boots), timelines).resolve_scale(color="independent")
chart.configure(background="white", font="sans-serif", aria=False).save(PICTURE)
print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB, {len(boots)} boots")
