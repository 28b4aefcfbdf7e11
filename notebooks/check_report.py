"""Writes a report of the last session and uses it in headless Chromium: zooms the timeline, clicks a slice, and compares with the tables.

The report may ask nothing of the network.

Usage: check_report.py target/ktstr [screenshot.png]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from playwright.sync_api import Page, sync_playwright

MAX_BYTES = 3_000_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The position on the screen of a slice of the timeline.
POSITION = """index => {
  const { timeline, chart } = globalThis.ktstr;
  const s = timeline.byIndex(index);
  const [x, y] = chart.convertToPixel({ gridIndex: 0 }, [(s.start + s.end) / 2, s.cpu]);
  const box = chart.getDom().getBoundingClientRect();
  return [box.x + x, box.y + y - 8];
}"""
KEPT = """() => {
  const { timeline } = globalThis.ktstr;
  return { run: timeline.run.id, kept: timeline.slices.length, all: timeline.data.nr_slices,
    busy: timeline.slices.reduce((sum, s) => sum + s.end - s.start, 0), wait: timeline.slices.reduce((sum, s) => sum + (s.wait ?? 0), 0),
    interval: timeline.busy.reduce((sum, ns) => sum + ns, 0) };
}"""


def table_sums(runs: Path, run_id: str) -> dict[str, int]:
    """Number and sums of the slices of a run without the idle task, cut at the window's edges."""
    for sidecar in runs.glob("*/*.ktstr.json"):
        run = json.loads(sidecar.read_text())
        if run["identity"]["run_id"] == run_id:
            opened, closed = run["window_open"]["ts_ns"], run["window_close"]["ts_ns"]
            slices = pl.read_parquet(sidecar.with_name(run["identity"]["variant"]) / "slices.parquet").filter(pl.col("tid") != 0)
            start = pl.max_horizontal(pl.col("ts_ns"), opened)
            end = (pl.col("ts_ns") + pl.col("dur_ns")).fill_null(closed).clip(opened, closed)
            wait = (pl.col("wait_ns") + pl.col("throttled_ns").fill_null(0)).fill_null(0)
            return slices.select(all=pl.len(), busy=(end - start).sum(), wait=wait.sum()).row(0, named=True)
    raise SystemExit(f"no run {run_id}")


def use(page: Page, runs: Path) -> list[str]:
    """What is wrong with the timeline."""
    found = []
    seen = page.evaluate(KEPT)
    expected = table_sums(runs, seen["run"])
    if seen["all"] != expected["all"]:
        found.append(f"{seen['all']} slices, {expected['all']} in the table")
    if seen["interval"] != expected["busy"]:
        found.append(f"intervals have {seen['interval']} ns, the slices {expected['busy']} ns")
    if seen["kept"] == seen["all"] and (seen["busy"], seen["wait"]) != (expected["busy"], expected["wait"]):
        found.append(f"slices have {seen['busy']} ns and {seen['wait']} ns of waits, the table {expected['busy']} and {expected['wait']}")
    page.click("#longest")
    page.wait_for_function("document.getElementById('shown').textContent.includes('slices in view')")
    longest = page.text_content("#slice")
    # Zoom with the wheel into another slice, then click it.
    index = page.evaluate("() => { const t = globalThis.ktstr.timeline; const [from, to] = t.view; return t.slices.filter((s) => s.index !== t.selected && s.start > from && s.end < to).sort((a, b) => b.end - b.start - a.end + a.start)[0]?.index ?? null; }")
    if index is None:
        return found + ["no other slice beside the longest wait"]
    before = page.evaluate("() => globalThis.ktstr.timeline.view[1] - globalThis.ktstr.timeline.view[0]")
    page.mouse.move(*page.evaluate(POSITION, index))
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(300)
    after = page.evaluate("() => globalThis.ktstr.timeline.view[1] - globalThis.ktstr.timeline.view[0]")
    if not after < before:
        found.append(f"the wheel zooms from {before} ns to {after} ns")
    page.mouse.click(*page.evaluate(POSITION, index))
    page.wait_for_timeout(300)
    clicked = page.text_content("#slice")
    wanted = page.evaluate("index => globalThis.ktstr.timeline.describe(globalThis.ktstr.timeline.byIndex(index))", index)
    if clicked != wanted or clicked == longest:
        found.append(f"a click on '{wanted}' shows '{clicked}'")
    print(f"zoomed from {before / 1e6:.3f} ms to {after / 1e6:.3f} ms and clicked: {clicked}")
    return found


def main() -> int:
    if not CHROMIUM:
        print("error: no Chromium; install it with: apt-get install chromium", file=sys.stderr)
        return 14
    runs = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        report = Path(scratch) / "report.html"
        subprocess.run(["cargo-ktstr", "report", "-o", report], check=True, env=os.environ | {"CARGO_TARGET_DIR": str(runs.parent)})
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 900})
        wrong, asked = [], []
        page.on("pageerror", lambda error: wrong.append(f"error on the page: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
        page.goto(report.as_uri())
        page.wait_for_function("globalThis.ktstr !== undefined")
        wrong += use(page, runs)
        if len(sys.argv) > 2:
            page.screenshot(path=sys.argv[2], full_page=True)
        browser.close()
        size = report.stat().st_size
    wrong += [f"asks {url}" for url in asked]
    if size > MAX_BYTES:
        wrong.append(f"the report has {size} bytes")
    print(*wrong, f"a report of {size} bytes used in Chromium, {len(wrong)} differences", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
