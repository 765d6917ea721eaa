"""Every piece is proven as its slot demands, and docs/techniques.md is what `make docs` would write now."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import techniques_page


def test_every_piece_is_proven():
    assert techniques_page.missing_proofs() == []


def test_the_page_is_current():
    assert techniques_page.PAGE.read_text(encoding="utf-8") == techniques_page.page(), "run `make docs` and commit"


def test_markers_are_read_however_they_were_put_on(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = proves(piece, *how): x\n")
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.proves(f'loss.{name}', 'law') for name in 'xy']\n"
        "@pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.proves('loss.x', 'trl', 'table'))])\n"
        "def test_one(n): ...\n"
    )
    found = techniques_page.proofs("test_x.py", tmp_path)
    assert found == {
        "loss.x": {"law": ["test_x.py"], "table": ["test_x.py"], "trl": ["test_x.py"]},
        "loss.y": {"law": ["test_x.py"]},
    }
