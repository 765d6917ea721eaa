"""Every piece is proven as its slot demands, and docs/techniques.md is what `make docs` would write now."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import techniques_page


def test_every_piece_is_proven():
    assert techniques_page.missing_proofs() == []


def test_the_page_is_current():
    assert techniques_page.PAGE.read_text(encoding="utf-8") == techniques_page.page(), "run `make docs` and commit"


def test_a_marker_is_read_with_its_file(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text('@pytest.mark.proves("loss.x", "law", "trl")\ndef test_x(): ...\n')
    found = techniques_page.proofs(tmp_path / "tests")
    assert found == {"loss.x": {"law": {"tests/test_x.py"}, "trl": {"tests/test_x.py"}}}
