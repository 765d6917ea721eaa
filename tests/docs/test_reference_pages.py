"""The reference pages are what the code would write now, and nothing that a user can type, set or meet is missing from them."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import error_sites
import reference_pages

DOCS = reference_pages.DOCS


@pytest.mark.parametrize("name", ["cli.md", "settings.md", "errors.md"])
def test_the_page_is_current(name):
    assert (DOCS / name).read_text(encoding="utf-8") == reference_pages.pages()[name], "run `make docs` and commit"


def test_every_command_and_option_is_told():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, command in reference_pages.commands():
        section = text.split(f"## factory {name}\n", 1)[1].split("\n## ", 1)[0]
        assert (command.help or "").split(". ")[0][:60] in " ".join(section.split()), name
        for one in command.params:
            if one.param_type_name == "option":
                assert all(f"`{word}`" in section for word in one.opts), f"factory {name}: {one.opts}"
                assert one.help, f"factory {name} {one.opts}: has no help text"


def test_every_command_stands_in_a_page_written_by_hand():
    """A reference alone does not say when to use a command."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in [*DOCS.glob("*.md"), reference_pages.ROOT / "README.md"]
        if path.name not in ("cli.md", "log.md")
    ]
    told = "\n".join(texts)
    missing = [
        name
        for name, _ in reference_pages.commands()
        if not re.search(
            rf"\b{name.split()[0]}\b[^\n]*\b{name.split()[-1]}\b" if " " in name else rf"factory {name}\b|`{name}`", told
        )
    ]
    assert missing == []


def test_every_setting_is_told():
    from factory.config.schema import BuildConfig

    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    known = [row[0] for row in reference_pages.keys(BuildConfig)]
    for _, type_ in reference_pages.stage_kinds():
        known += [row[0] for row in reference_pages.keys(type_, "stages.NAME.")]
    assert len(known) > 200 and [key for key in known if f"| {key} |" not in text] == []


def test_every_error_class_is_told_with_its_code():
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    codes = (DOCS / "exit-codes.md").read_text(encoding="utf-8")
    for name, one in error_sites.classes().items():
        assert f"| `{name}` | {one.exit_code} |" in text
        assert f"| {one.exit_code} |" in codes, name


def test_every_message_says_what_to_do():
    """Read from the syntax tree: 800 places, of which a dozen take their text from elsewhere."""
    assert len(error_sites.sites()) > 600
    assert [f"{site.path}:{site.line}: {site.message}" for site in error_sites.without_remedy()] == []
    assert sum(site.is_elsewhere for site in error_sites.sites()) <= 20


def test_every_message_stands_in_the_page_of_errors():
    """The site puts them where docs/errors.md says so."""
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert hooks.MESSAGES in (DOCS / "errors.md").read_text(encoding="utf-8")
    text = hooks.every_message()
    told = [site for site in error_sites.sites() if not site.is_elsewhere]
    assert [str(site) for site in told if site.message.replace("|", "\\|") not in text] == []


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("data path … does not exist.", False),
        ("data path … does not exist. Check the path.", True),
        ("…: weight is …; want a number in [0, 1].", True),
        ("there is no such piece.… Slots: ….", True),
        ("the file is broken", False),
        ("the set is empty and the name unknown", False),
    ],
)
def test_what_counts_as_an_action(message, wanted):
    assert error_sites.has_remedy(message) is wanted


def test_a_site_is_read_with_its_placeholders():
    import ast

    tree = ast.parse("def why():\n    return 'late'\nhint = f' Use {x}.'\nraise ConfigError(f'{path}: {why()}' + hint)\n")
    strings = error_sites.Strings(tree)
    call = next(node for node in ast.walk(tree) if error_sites._error_of(node))
    assert strings.text(call.args[0]) == "…: late Use …."


def test_troubleshooting_quotes_messages_as_the_code_has_them():
    known = {site.message for site in error_sites.sites()}
    known |= {re.sub(r"\b0 training items", "… training items", message) for message in known}
    quoted = re.findall(r"^> (.+)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(quoted) >= 15 and [line for line in quoted if line not in known] == []
