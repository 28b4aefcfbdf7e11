"""The metrics of events that `scale metrics DIR` computes, by DuckDB: how long it takes and how much memory it has at most.

DuckDB computes no time that CPUs were idle while somebody waited, nor wakeups by distance, which need more than one table or an order.
"""

import resource
import sys
import time

import duckdb

folder = sys.argv[1]
durations = {
    "wakeup_latency": "wait_ns filter (wait_kind = 'wakeup' and inside)",
    "waking_latency": "waking_ns filter (inside)",
    "run_delay": "wait_ns filter (inside)",
    "preemption_wait": "wait_ns filter (wait_kind in ('preempt', 'yield') and inside)",
    "slice_length": "dur_ns filter (end_state <> 'window_end' and inside)",
    "blocked_time": "blocked_ns filter (inside)",
}


def statistics(name: str, what: str) -> str:
    column, condition = what.split(" ", 1)
    aggregates = [
        ("count", "count({c})"),
        ("mean", "avg({c})"),
        ("ranks", "quantile_disc({c}, [0.5, 0.9, 0.99, 0.999])"),
        ("max", "max({c})"),
    ]
    return ", ".join(f"{call.format(c=column)} {condition} as {name}_{stat}" for stat, call in aggregates)


counts = """count(*) filter (end_state <> 'window_end') as context_switches,
    count(*) filter (end_state = 'preempted') as preemptions,
    count(*) filter (end_state = 'yielded') as yields,
    count(distinct (waker_tid, tid)) filter (wait_kind = 'wakeup' and inside and waker_tid is not null) as waker_pairs"""
query = f"""select role, {", ".join(statistics(*d) for d in durations.items())}, {counts}
    from (select *, ts_ns >= 1 as inside from '{folder}/slices.parquet' where role is not null) s
    group by grouping sets ((), (role)) order by role nulls first"""
start = time.time()
rows = duckdb.sql(query).fetchall()
seconds = time.time() - start
cpu = time.process_time()
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(f"DuckDB {duckdb.__version__}: {len(rows)} groups in {seconds:.1f} s, {cpu:.1f} s of CPU time, {peak_mib} MiB at most")
for row in rows:
    print(row)
