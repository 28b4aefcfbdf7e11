"""Writes the Perfetto trace of runs and reads it back with the messages of the package `perfetto`.

Slices, waits, migrations and phases must be those of the tables: the same numbers, and the same sums for each task.

Usage: check_trace.py target/ktstr
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import polars as pl
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

LOST_TID = (4 << 20) + 1
RUNS = 4
PHASES = 1 << 32
EVENT = protos.TrackEvent


def of_trace(trace: protos.Trace) -> dict:
    """Numbers and sums by task."""
    switches, found = defaultdict(list), Counter()
    sums, open_waits = defaultdict(int), {}
    names = {packet.track_descriptor.uuid: packet.track_descriptor for packet in trace.packet if packet.HasField("track_descriptor")}
    flows, ends = Counter(), Counter()
    for packet in trace.packet:
        for event in packet.ftrace_events.event:
            found[event.WhichOneof("event")] += 1
            if event.HasField("sched_switch"):
                switches[packet.ftrace_events.cpu].append((event.timestamp, event.sched_switch))
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        flows.update(event.flow_ids)
        ends.update(event.terminating_flow_ids)
        assert event.track_uuid in names, "an event without a track"
        is_thread = names[event.track_uuid].HasField("thread")
        if is_thread and event.type == EVENT.TYPE_SLICE_BEGIN and event.name != "waits at the window's end":
            open_waits[event.track_uuid] = packet.timestamp
        elif is_thread and event.type == EVENT.TYPE_SLICE_END:
            found["waits"] += 1
            sums["wait", event.track_uuid] += packet.timestamp - open_waits.pop(event.track_uuid)
        elif event.track_uuid == PHASES and event.type == EVENT.TYPE_SLICE_BEGIN:
            found["phases"] += 1
    assert not open_waits, "a wait without an end"
    assert flows == ends and all(n == 1 for n in flows.values()), "a flow without an end"
    for events in switches.values():
        events.sort(key=lambda e: e[0])
        for (ts, event), after in zip(events, events[1:] + [None]):
            if after and after[1].prev_pid != event.next_pid:
                raise AssertionError(f"task {event.next_pid} is switched to, and {after[1].prev_pid} from")
            if event.next_pid != LOST_TID:
                found["slices"] += 1
                sums["slice", event.next_pid] += after[0] - ts if after else 0
    return {"found": found, "sums": sums, "flows": len(flows)}


def differences(sidecar: Path) -> list[str]:
    folder = sidecar.with_name(json.loads(sidecar.read_text())["identity"]["variant"])
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "run.pftrace"
        subprocess.run(["cargo-ktstr", "trace", sidecar, "-o", output], check=True)
        trace = protos.Trace.FromString(output.read_bytes())
    seen = of_trace(trace)
    slices = pl.read_parquet(folder / "slices.parquet")
    tasks = pl.read_parquet(folder / "tasks.parquet", columns=["tid"])["tid"].unique()
    waits = slices.filter(pl.col("wait_ns").is_not_null(), pl.col("tid").is_in(tasks.implode()))
    expected = {
        "slices": slices.height,
        "waits": waits.height,
        "sched_migrate_task": pl.read_parquet(folder / "migrations.parquet").height,
        "sched_waking": slices.filter(pl.col("wait_kind") == "wakeup", pl.col("wait_ns").is_not_null(), pl.col("waker_cpu").is_not_null()).height,
        "phases": pl.read_parquet(folder / "phases.parquet").height,
    }
    found = [f"{n} {name}, {seen['found'][name]} in the trace" for name, n in expected.items() if n != seen["found"][name]]
    whole = pl.col("wait_ns") + pl.col("throttled_ns").fill_null(0)
    sums = {("slice", tid): ns for tid, ns in slices.group_by("tid").agg(pl.col("dur_ns").sum()).rows()}
    sums |= {("wait", tid): ns for tid, ns in waits.group_by("tid").agg(whole.sum()).rows()}
    for key in sums.keys() | seen["sums"].keys():
        if sums.get(key, 0) != seen["sums"].get(key, 0):
            found.append(f"{key}: {sums.get(key, 0)} ns, {seen['sums'].get(key, 0)} ns in the trace")
    flows = waits.filter(pl.col("waker_tid").is_in(tasks.implode())).height
    if flows != seen["flows"]:
        found.append(f"{flows} waits with a waker, {seen['flows']} flows in the trace")
    print(f"{folder.name}: {slices.height} slices, {waits.height} waits, {flows} flows")
    return [f"{folder}: {difference}" for difference in found]


def main() -> int:
    sidecars = sorted(Path(sys.argv[1]).glob("*/*.ktstr.json"))
    # The largest run of each scheduler.
    largest = {}
    for sidecar in sidecars:
        run = json.loads(sidecar.read_text())
        rows = {file["table"]: file["rows"] for file in run["files"]}
        if rows.get("slices"):
            largest.setdefault(run["identity"]["scheduler"], []).append((rows["slices"], sidecar))
    chosen = [max(runs)[1] for _, runs in sorted(largest.items())][:RUNS]
    wrong = [difference for sidecar in chosen for difference in differences(sidecar)]
    print(*wrong, f"{len(chosen)} traces read back, {len(wrong)} differences", sep="\n")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
