"""Finding packs: three different errors, the contract before the import, FACTORY_PACKS, and a list that imports nothing."""

import json
import re
import resource
import sys

import pytest

from factory.errors import BrokenPlugin, DuplicatePlugin, PluginError, UnknownPlugin
from factory.plugins import find_pack, load_pack, manifest_of, pack_entries, pack_folder

GROUP = "factory.domain_packs"
MANIFEST = "name: {name}\ntitle: {name}\nversion: 1.0.0\nlicense: MIT\nintended_use: x\nnot_for: y\n"
MARK = "import pathlib\npathlib.Path(__file__).with_name('imported').write_text('')\n"


def add(site, name, code="PACK = object()\n", manifest=MANIFEST, distribution=None, package=None):
    package = package or f"pack_{name}"
    files = {f"{package}/__init__.py": MARK + code, f"{package}/pack.yaml": manifest.format(name=name)}
    site.add(distribution or f"dist-{name}", {GROUP: {name: f"{package}:PACK"}}, files)


def imported(site):
    return sorted(path.parent.name for path in site.folder.glob("**/imported"))


def test_an_unknown_pack_names_the_nearest_and_all(site):
    add(site, "geology")
    with pytest.raises(UnknownPlugin, match=re.escape("unknown domain pack 'geologie'. Did you mean 'geology'?")) as caught:
        load_pack("geologie")
    assert "pathology" in str(caught.value) and GROUP in str(caught.value)


def test_two_packs_of_one_name_are_told_apart_by_their_distribution(site):
    add(site, "geology", "PACK = 'first'\n")
    add(site, "geology", "PACK = 'second'\n", distribution="other-dist", package="pack_other")
    with pytest.raises(
        DuplicatePlugin, match=r"dist-geology 1.0 and other-dist 1.0|other-dist 1.0 and dist-geology 1.0"
    ) as caught:
        load_pack("geology")
    assert "DISTRIBUTION/geology" in str(caught.value)
    assert load_pack("other-dist/geology") == "second" and load_pack("dist-geology/geology") == "first"


def test_a_package_with_the_name_of_a_built_in_pack_is_no_silent_replacement(site):
    add(site, "pathology")
    with pytest.raises(DuplicatePlugin, match=r"built-in and dist-pathology 1.0"):
        find_pack("pathology")


@pytest.mark.parametrize(
    "code, told", [("1 / 0\n", "ZeroDivisionError"), ("import no_such_thing\n", "no_such_thing"), ("", "AttributeError")]
)
def test_a_broken_pack_names_its_distribution_and_chains_the_cause(site, code, told):
    add(site, "geology", code)
    with pytest.raises(BrokenPlugin, match=f"'geology' from dist-geology 1.0 is installed but broken: .*{told}") as caught:
        load_pack("geology")
    assert caught.value.__cause__ is not None


def test_the_three_errors_are_three_and_exit_alike():
    kinds = (UnknownPlugin, DuplicatePlugin, BrokenPlugin)
    assert all(issubclass(kind, PluginError) and kind.exit_code == 4 for kind in kinds)
    assert not any(issubclass(a, b) for a in kinds for b in kinds if a is not b)


@pytest.mark.parametrize("contract, remedy", [(2, "pip install --upgrade domain-factory"), (0, "upgrade the pack")])
def test_the_contract_is_compared_before_keys_and_code(site, contract, remedy):
    manifest = f"contract: {contract}\nkey_of_another_time: 1\n" + MANIFEST
    add(site, "geology", "1 / 0\n", manifest)
    with pytest.raises(BrokenPlugin, match=f"needs contract {contract}, this factory has 1. .*{remedy}"):
        load_pack("geology")
    assert imported(site) == []


def test_factory_packs_limits_what_is_found_and_says_so(site, monkeypatch):
    add(site, "geology")
    add(site, "botany")
    monkeypatch.setenv("FACTORY_PACKS", "botany, dist-geology/geology")
    assert sorted(entry.name for entry in pack_entries()) == ["botany", "geology"]
    monkeypatch.setenv("FACTORY_PACKS", "none")
    assert pack_entries() == []
    with pytest.raises(UnknownPlugin, match=r"'geology' is there, but FACTORY_PACKS=none leaves it out"):
        find_pack("geology")


def test_a_pack_inside_a_package_is_found_without_importing_the_package_around_it(site):
    files = {
        "vendor/__init__.py": MARK + "1 / 0\n", "vendor/packs/__init__.py": MARK + "1 / 0\n",
        "vendor/packs/geology/__init__.py": MARK, "vendor/packs/geology/pack.yaml": MANIFEST.format(name="geology"),
    }  # fmt: skip
    site.add("vendor", {GROUP: {"geology": "vendor.packs.geology:PACK"}}, files)
    assert pack_folder(find_pack("geology")) == site.folder / "vendor" / "packs" / "geology"
    assert manifest_of("geology").name == "geology" and imported(site) == []
    assert "vendor" not in sys.modules


def test_a_pack_whose_module_is_gone_is_broken_not_missing(site):
    site.add("dist-gone", {GROUP: {"gone": "no_such_module.inside:PACK"}})
    with pytest.raises(
        BrokenPlugin, match=r"'gone' from dist-gone 1.0: module no_such_module.inside cannot be found. Reinstall it"
    ):
        load_pack("gone")


def test_listing_two_hundred_packs_imports_none_though_one_hangs_and_one_raises(site, factory):
    for number in range(198):
        add(site, f"pack{number:03}")
    add(site, "hangs", "import time\ntime.sleep(3600)\n")
    add(site, "raises", "raise SystemExit('no')\n")
    site.add("dist-gone", {GROUP: {"gone": "no_such_module:PACK"}})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = factory("domains", "list", "--json", timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # Seconds of CPU, since a busy machine stretches those of the wall; half a second is the promise for an idle one.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {"hangs", "raises", "pack000", "pack197", "pathology"} <= set(rows)
    assert rows["hangs"]["fault"] is None and rows["hangs"]["version"] == "1.0.0" and rows["hangs"]["origin"] == "dist-hangs 1.0"
    assert "cannot be found. Reinstall it" in rows["gone"]["fault"]
    assert imported(site) == []


def test_one_pack_is_loaded_beside_one_that_hangs(site, factory):
    add(site, "hangs", "import time\ntime.sleep(3600)\n")
    site.add_arith("sums")
    done = factory("data", "preview", "--domain", "sums", "--json", timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)[0]["task"] == "sum"
    assert imported(site) == []
