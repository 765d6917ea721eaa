"""Every built-in pack keeps the contract, check by check."""

from factory.plugins import pack_entries
from factory.testing import parametrize_with_pack_checks

NAMES = [entry.name for entry in pack_entries() if entry.origin == "built-in"]


@parametrize_with_pack_checks(*NAMES, slow=True)
def test_pack(pack, check):
    check(pack)


def test_pathology_is_among_the_packs():
    assert "pathology" in NAMES
