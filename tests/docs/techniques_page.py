"""docs/techniques.md from the code and the tests: `python tests/docs/techniques_page.py` (or `make docs`) writes it.

What was tested comes from the markers `@pytest.mark.proves("loss.gspo", "vector", "trl")` in tests/; a piece without the
proofs that its slot demands is not written, and the house test fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "techniques.md"

HOW = {
    "vector": "the guides' golden vectors", "table": "hand-computed table", "law": "property test (Hypothesis)",
    "float64": "slow float64 reference", "trl": "loss and gradient equal TRL's", "resume": "resumed = uninterrupted",
    "run": "real training run",
}  # fmt: skip
NUMERIC_SLOTS = {"advantage", "loss", "aggregator", "kl", "kl_schedule", "kl_weight", "mixer", "weigh"}
FLOAT64_SLOTS = {
    "pool", "sampler", "supply", "reward", "group_reward", "resample", "token_weight", "auxiliary", "clock", "inject",
}  # fmt: skip
"""TRL has none of these, so only a reference of our own will do; of samplers it gives the exact draws."""


@cache
def proofs(tests: str = "tests/rl tests/numerics", root: Path = ROOT) -> dict[str, dict[str, list[str]]]:
    """`slot.name` -> how it was proven -> test files: the markers of the tests that pytest collects (it runs none)."""
    with tempfile.TemporaryDirectory() as folder:
        path = [str(Path(__file__).parent), str(root), *(entry for entry in sys.path if entry)]
        environment = {**os.environ, "PROOFS_FILE": f"{folder}/proofs.json", "PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "proof_collector", "-p", "no:cacheprovider"]
        done = subprocess.run([*command, *tests.split()], cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pytest could not collect {tests}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        return json.loads(Path(environment["PROOFS_FILE"]).read_text())


def own_pieces() -> dict:
    """The factory's own pieces: other tests of this process may have entered some for themselves."""
    from factory.stages.rl.pieces.catalogue import pieces

    return {key: piece for key, piece in pieces().items() if piece.type.__module__.startswith("factory.")}


def missing_proofs() -> list[str]:
    """Complaints: pieces without what their slot demands, and proofs of nothing."""
    known, found, complaints = own_pieces(), proofs(), []
    for key, piece in known.items():
        have = set(found.get(key, {}))
        if "table" not in have:
            complaints.append(f"{key}: no hand-computed table")
        if "law" not in have:
            complaints.append(f"{key}: no property test")
        if piece.slot in NUMERIC_SLOTS and not have & {"float64", "trl"}:
            complaints.append(f"{key}: neither a float64 reference nor TRL")
        if piece.slot in FLOAT64_SLOTS and "float64" not in have:
            complaints.append(f"{key}: no slow float64 reference")
        if hasattr(piece.type, "state_dict") and "resume" not in have:
            complaints.append(f"{key}: has a state and no resume test")
    for key, ways in found.items():
        if key not in known:
            complaints.append(f"{key}: proven, but there is no such piece")
        complaints += [f"{key}: '{how}' is no way to prove" for how in ways if how not in HOW]
    return complaints


def page() -> str:
    """The text of docs/techniques.md."""
    from factory.stages.rl.pieces.describe import piece_row
    from factory.stages.rl.pieces.piece import SLOTS
    from factory.stages.rl.presets import presets

    found = proofs()
    lines = [
        "# Techniques", "",
        "Written by `make docs` from the code and the tests' markers; do not edit. Every piece below is proven by the tests named",
        "beside it. `factory pieces show NAME` prints the same; `benchmarks/techniques.py` measures the presets side by side.", "",
        "## The step", "", "| slot | pieces | what it is |", "| --- | --- | --- |",
    ]  # fmt: skip
    by_slot = {slot: [piece for piece in own_pieces().values() if piece.slot == slot] for slot in SLOTS}
    for slot in SLOTS.values():
        count = len(by_slot[slot.name])
        lines.append(f"| [{slot.name}](#{slot.name}) | {count} ({'any number' if slot.is_many else 'one'}) | {slot.title} |")
    for slot in SLOTS.values():
        if not by_slot[slot.name]:
            continue
        lines += ["", f"## {slot.name}", "", f"{slot.title[0].upper()}{slot.title[1:]}."]
        for piece in by_slot[slot.name]:
            lines += _piece_lines(piece_row(piece), found.get(piece.key, {}))
    lines += ["", "## Presets", "", "| preset | what it is | source | pieces |", "| --- | --- | --- | --- |"]
    for preset in presets().values():
        named = "; ".join(
            _preset_piece(slot, name, own) for slot, pieces_ in preset.pieces.items() for name, own in pieces_.items()
        )
        note = f" {preset.note}" if preset.note else ""
        lines.append(f"| `{preset.name}` | {_cell(preset.title + '.' + note)} | {_cell(preset.source)} | {_cell(named)} |")
    return "\n".join(lines) + "\n"


def _piece_lines(row: dict, how: dict[str, list[str]]) -> list[str]:
    lines = [
        "",
        f"### {row['key']}",
        "",
        " ".join(row["about"].split()),
        "",
        f"- formula: `{row['formula']}`",
        f"- source: {row['source']}",
    ]
    if row["caveat"]:
        lines.append(f"- note: {row['caveat']}")
    settings = [f"`{name}` = {_default(setting['default'])}" for name, setting in row["settings"].items()]
    lines.append(f"- settings: {', '.join(settings) or 'none'}")
    if row["needs"]:
        lines.append(f"- needs: {'; '.join(row['needs'].values())}")
    lines += [f"- {'conflict' if c['is_error'] else 'mind'}: {c['message']}" for c in row["conflicts"]]
    tested = [
        f"{HOW[way]} ({', '.join(sorted(files))})"
        for way, files in sorted(how.items(), key=lambda item: list(HOW).index(item[0]))
    ]
    lines.append(f"- tested: {'; '.join(tested)}")
    return lines


def _default(value: object) -> str:
    return "required" if value == "<required>" else f"`{json.dumps(value)}`"


def _preset_piece(slot: str, name: str, own: dict) -> str:
    inside = ", ".join(f"{key}={value}" for key, value in own.items())
    return f"{slot}={name}" + (f"({inside})" if inside else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    complaints = missing_proofs()
    if complaints:
        sys.exit("not written, because not proven:\n" + "\n".join(complaints))
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
