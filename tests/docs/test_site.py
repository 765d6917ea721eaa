"""The documentation as a site: built without network and without a warning, and no page asks for anything from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MKDOCS = shutil.which("mkdocs", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if MKDOCS is None:
        pytest.skip("mkdocs-material is not installed: pip install 'domain-factory[docs]'")
    out = tmp_path_factory.mktemp("site")
    environment = {
        **os.environ,
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "-q", "-d", str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_there(site):
    wanted = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").glob("*.md")}
    wanted |= {f"domains/{path.parent.name}.html" for path in (ROOT / "domains").glob("*/README.md")} | {"domains/index.html"}
    assert [name for name in sorted(wanted) if not (site / name).is_file()] == []
    assert "Every message" in (site / "errors.html").read_text(encoding="utf-8")


def test_no_page_asks_for_anything_from_elsewhere(site):
    asked = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["'](?:https?:)?//[^"']+|<link[^>]+rel=["']?(?:stylesheet|preconnect|icon)[^>]+href=["'](?:https?:)?//[^"']+"""
    )
    for page in site.rglob("*.html"):
        assert asked.findall(page.read_text(encoding="utf-8")) == [], page
