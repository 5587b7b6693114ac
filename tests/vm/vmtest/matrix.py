# SPDX-License-Identifier: Apache-2.0
"""The matrices of the VM tests: cells that can be shared out, taken up again, and shown as tables.

A test marked `@pytest.mark.matrix("Ways to die")` is one cell for each set of its parameters:
`series` and `nic`, when it has them, name the column; the others, in their order, the row.

    --shard 2/5     runs every fifth cell, beginning with the second; so too of the tests that are no cells
    --resume        leaves out the cells that have passed at this very revision
    --table FILE    writes the tables of all cells, run now or before, in Markdown

Every cell leaves a file in build/matrix/ with its outcome, and what the test said of it with
record_property(). A cell that nobody ran is in the table as such.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import json
import pathlib
import re

import pytest

from .util import REPO, run

RECORDS = REPO / "build" / "matrix"
COLUMN = ("series", "nic")
SYMBOLS = {"passed": "pass", "failed": "**FAIL**", "skipped": "skipped", None: "not run"}
HEAD = """# What the sender survives

Each cell is a real kernel in a virtual machine that dies, or a state of its network cards; it passes
when the dump is complete on every relay, and the machine went back to the kernel's own policy for panics.
The relays' commits are heard, too, but for "no replies read": an allocator's lock was held, so that nothing
could be received. Ways to die, held locks and LKDTM have 120 s for it, by the module's own limit of time and
clock. In ways to die, held locks, LKDTM, dump levels, page kinds, cards, DKMS's modules and the crash
kernel's part, every page that the relays hold is compared with the guest's memory as QEMU saw it. "The hook's own fault"
and "no path is left" are about how the hook gives up. `tests/vm/` has the tests. Made by
`./dev test vm --all`, which leaves it as build/matrix/table.md; each
table says which revisions its cells were run at.
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    title: str
    row: str
    column: str
    nodeid: str

    @property
    def path(self) -> pathlib.Path:
        return RECORDS / (re.sub(r"[^\w.-]+", "_", self.nodeid.rpartition("/")[2]) + ".json")

    def record(self) -> dict:
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}


def cell_of(item: pytest.Item) -> Cell | None:
    mark = item.get_closest_marker("matrix")
    if mark is None:
        return None
    params = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    column = " ".join(str(params.pop(name)) for name in COLUMN if name in params)
    row = ", ".join(map(str, params.values())) or item.originalname.removeprefix("test_")
    return Cell(mark.args[0], row.replace("_", " "), column or "-", item.nodeid)


def revision() -> str:
    """Of the tree that is tested; marked when it has changes that are not committed."""
    return run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=REPO,
               check=False).stdout.strip() or "unknown"


class Plugin:
    """pytest's hooks; conftest.py registers it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.revision = revision()
        self.cells: dict[str, Cell] = {}
        self.seen: collections.Counter = collections.Counter()
        self.shard, self.shards = _shard(config.getoption("--shard"))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        kept, left = [], []
        for item in items:
            cell = cell_of(item)
            if cell is not None:
                self.cells[item.nodeid] = cell
            if any(mark.args == () and "--all" in mark.kwargs.get("reason", "")
                   for mark in item.iter_markers("skip")):
                (kept if self.shard == 0 else left).append(item)
                continue
            kind = "cell" if cell else "other"
            mine = self.seen[kind] % self.shards == self.shard
            self.seen[kind] += 1
            before = cell.record() if cell else {}
            done = config.getoption("--resume") and before.get("outcome") == "passed" and \
                before.get("revision") == self.revision and "dirty" not in self.revision
            (kept if mine and not done else left).append(item)
        if left:
            config.hook.pytest_deselected(items=left)
            items[:] = kept

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        cell = self.cells.get(item.nodeid)
        if cell is None or (report.when != "call" and report.passed):
            return
        if report.skipped and "only with --all" in str(report.longrepr):
            return
        if report.when == "teardown" and cell.record().get("outcome") == "failed":
            return
        RECORDS.mkdir(parents=True, exist_ok=True)
        cell.path.write_text(json.dumps({
            **dataclasses.asdict(cell), "outcome": report.outcome, "revision": self.revision,
            "seconds": round(report.duration), "said": dict(item.user_properties),
            "why": "" if report.passed else _last_line(report)}, indent=1), encoding="utf-8")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self):
        # What a test knew of a guest's memory points at itself: tens of MiB that Python would keep long.
        gc.collect()

    def pytest_terminal_summary(self, terminalreporter):
        target = self.config.getoption("--table")
        if self.cells and target:
            (REPO / target).write_text(table(list(self.cells.values())), encoding="utf-8")
            terminalreporter.write_line(f"tables of {len(self.cells)} cells: {target}")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise pytest.UsageError(f"--shard {text}: wanted I/N with 1 <= I <= N, such as 2/5")
    return int(match[1]) - 1, int(match[2])


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return re.sub(r"/\S*/dumpcast-vm-\w+/", "", " ".join(text.split()))[:300]


def table(cells: list[Cell]) -> str:
    """Markdown: a table a title, below it what its cells said, and what failed."""
    text = [HEAD]
    for title in dict.fromkeys(cell.title for cell in cells):
        own = [cell for cell in cells if cell.title == title]
        rows = list(dict.fromkeys(cell.row for cell in own))
        columns = sorted({cell.column for cell in own}, key=lambda name: [
            int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
        at = {(cell.row, cell.column): cell for cell in own}
        records = {cell: cell.record() for cell in own}
        passed = sum(record.get("outcome") == "passed" for record in records.values())
        text.append(f"\n## {title}\n\n{passed} of {len(own)} cells pass"
                    f"{_revisions(records)}.\n")
        text.append(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for row in rows:
            words = [_word(records[at[row, column]]) if (row, column) in at else ""
                     for column in columns]
            text.append(f"| {row} | {' | '.join(words)} |")
        failed = [(cell, record) for cell, record in records.items()
                  if record.get("outcome") in ("failed", "skipped")]
        if failed:
            text.append("")
        for cell, record in failed:
            text.append(f"- {cell.row}, {cell.column}: {record['outcome']}: {record['why']}")
    return "\n".join(text) + "\n"


def _word(record: dict) -> str:
    said = record.get("said", {}).get("cell", "")
    return SYMBOLS[record.get("outcome")] + (f" {said}" if said else "")


def _revisions(records: dict[Cell, dict]) -> str:
    found = sorted({record["revision"] for record in records.values() if record})
    return f", at {', '.join(found)}" if found else ""
