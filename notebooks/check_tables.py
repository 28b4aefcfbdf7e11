"""Reads every table of every run with polars, pyarrow and DuckDB; their row counts must equal the sidecar's.

Usage: check_tables.py target/ktstr
"""

import json
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq


def rows(path: Path) -> dict[str, int]:
    """Row count by reader; each reads the values, not only the footer."""
    by_duckdb = duckdb.sql(f"select * from read_parquet('{path}')").fetchall()
    return {"polars": pl.read_parquet(path).height, "pyarrow": pq.read_table(path).num_rows, "duckdb": len(by_duckdb)}


def main() -> int:
    sidecars = sorted(Path(sys.argv[1]).glob("*/*.ktstr.json"))
    checked, wrong = 0, 0
    for sidecar in sidecars:
        run = json.loads(sidecar.read_text())
        folder = sidecar.with_name(run["identity"]["variant"])
        for table in run["files"]:
            checked += 1
            for reader, found in rows(folder / table["file"]).items():
                if found != table["rows"]:
                    wrong += 1
                    print(f"{folder / table['file']}: {found} rows by {reader}, {table['rows']} by the sidecar")
    print(f"{checked} tables of {len(sidecars)} runs read by three readers, {wrong} differences")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
