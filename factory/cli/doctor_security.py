"""`factory doctor --security`: what protects this machine's builds, what does not, and what to do about it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import typer

from factory.cli.doctor import Finding
from factory.cli.output import emit_json, say, table

KEPT_NAMES = 5
"""Names that one line of the table shows."""
TOKEN_FILES = (
    "~/.cache/huggingface/token",
    "~/.huggingface/token",
    "~/.netrc",
    "~/.config/wandb/settings",
    "~/.aws/credentials",
    "~/.kube/config",
)
"""Where tools that a build may call keep tokens, besides what HF_HOME and HF_TOKEN_PATH name."""


def check_security(*, as_json: bool) -> None:
    """Print the table; exit 1 when a line is a fault."""
    findings = [finding for check in CHECKS for finding in check()]
    faults = [finding for finding in findings if finding.state == "fault"]
    if as_json:
        emit_json({"secure": not faults, "findings": [asdict(finding) for finding in findings]})
    else:
        say(table(("check", "state", "found", "what to do"), [(f.check, f.state, f.found, f.remedy) for f in findings]))
        say("no faults; docs/security.md says what is not defended" if not faults else f"{len(faults)} faults to mend")
    if faults:
        raise typer.Exit(1)


def _user() -> list[Finding]:
    if os.geteuid() != 0:
        return [Finding("user", "ok", "not root")]
    remedy = "Build as a user of its own: limits on processes do not bind root, and a fault reaches further."
    return [Finding("user", "note", "root", remedy)]


def _sandbox() -> list[Finding]:
    """The workers that run verifiers, and the jail of programs that a model wrote."""
    from factory.rewards.pool_isolation import probe

    findings = []
    try:
        found = probe()
        told = f"network {found.network}, processes {found.processes}, files {found.files}"
        is_tight = (found.network, found.processes, found.files) == ("namespace", "namespace", "read-only")
        remedy = (
            ""
            if is_tight
            else "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1): faulty verifiers are held less tightly."
        )
        findings.append(Finding("verifier workers", "ok" if is_tight else "note", told, remedy))
    except OSError as err:
        findings.append(Finding("verifier workers", "fault", str(err), "Nothing can be scored until this works."))
    return [*findings, _jail()]


def _jail() -> Finding:
    from factory.rewards.sandbox import SandboxMissing, run_program

    name, refused = "sandbox for model-written code", "Rewards that run programs refuse to start without it."
    try:
        with tempfile.NamedTemporaryFile(prefix="factory-doctor-") as mine:
            ended = run_program(_ESCAPE, arguments=[mine.name])
    except SandboxMissing as err:
        return Finding(name, "note", str(err), refused)
    told = ended.out.decode(errors="replace").strip()
    if told == "held":
        return Finding(name, "ok", "bubblewrap binds: a program inside reached neither network nor files")
    return Finding(
        name, "fault", f"a trial program inside said {told or ended!r:.120}", "Do not run model-written programs here."
    )


def _permissions() -> list[Finding]:
    """FACTORY_HOME and its registry: nobody else may change them."""
    from factory.registry.home import Home

    home = Home.find()
    if not home.root.exists():
        return [Finding("FACTORY_HOME", "ok", f"{home.root}: not made yet")]
    findings = []
    for path in _guarded(home.root):
        info = path.lstat()
        mode = stat.S_IMODE(info.st_mode)
        if info.st_uid not in (os.geteuid(), 0):
            findings.append(
                Finding("owner", "fault", f"{path}: belongs to user {info.st_uid}", "Use a FACTORY_HOME of your own.")
            )
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            findings.append(
                Finding("world-writable", "fault", f"{path}: mode {mode:o}", f"chmod o-w {path}: anyone can swap models there.")
            )
        elif mode & stat.S_IWGRP and not mode & stat.S_ISVTX:
            findings.append(
                Finding("group-writable", "note", f"{path}: mode {mode:o}", "Wanted only where a group shares the registry.")
            )
    return findings or [Finding("FACTORY_HOME", "ok", f"{home.root}: only you may write")]


def _guarded(root: Path) -> Iterator[Path]:
    """The folders whose writers decide what is loaded: the home, its parents, and two levels below it."""
    yield from reversed([parent for parent in root.parents if parent != Path("/")])
    yield root
    for name in ("runs", "registry", "jobs", "cache"):
        folder = root / name
        if folder.is_dir():
            yield folder
            if name == "registry":
                yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _signatures() -> list[Finding]:
    from factory.errors import RegistryError
    from factory.registry.home import Home
    from factory.registry.models import Registry
    from factory.registry.signing import PUBLIC_KEY, is_signed

    registry = Registry(Home.find().registry)
    try:
        records = registry.records()
    except RegistryError as err:
        return [Finding("registry", "fault", str(err), "factory models repair")]
    key = os.environ.get(PUBLIC_KEY)
    findings = []
    if key and not Path(key).expanduser().is_file():
        findings.append(Finding(PUBLIC_KEY, "fault", f"{key}: no such file", "Nothing loads until it names a public key in PEM."))
    unsigned = [record.id for record in records if not is_signed(registry, record)]
    if not records:
        return [*findings, Finding("signatures", "ok", "no models yet")]
    if not unsigned:
        state = "checked on load" if key else f"not checked on load; export {PUBLIC_KEY}=FILE"
        return [*findings, Finding("signatures", "ok" if key else "note", f"all {len(records)} models carry some, {state}")]
    shown = ", ".join(unsigned[:KEPT_NAMES]) + (" …" if len(unsigned) > KEPT_NAMES else "")
    remedy = "factory models sign MODEL --key FILE (after `factory models verify`)."
    return [
        *findings,
        Finding("signatures", "fault" if key else "note", f"{len(unsigned)} of {len(records)} unsigned: {shown}", remedy),
    ]


def _network() -> list[Finding]:
    """Whether anything of this shell opens the network that --online would have to open."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    told = "off unless --online is given" + (" (HF_HUB_OFFLINE is set here too)" if offline else "")
    findings = [Finding("network of builds", "ok", told)]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        value = os.environ.get(name) or os.environ.get(name.lower())
        if value and "@" in value:
            findings.append(
                Finding(name, "note", "holds a password", "Every process that you start can read it; prefer a proxy without.")
            )
    return findings


def _secrets() -> list[Finding]:
    """Names of secret variables, never values; and files with tokens that others may read."""
    from factory.redaction import is_secret_name

    names = sorted(name for name, value in os.environ.items() if value and is_secret_name(name))
    findings = [Finding("secrets in the environment", "ok", ", ".join(names) or "none",
                        "Verifiers never see them; stages of a build do. Unset what a build does not need." if names else "")]  # fmt: skip
    paths = [Path(name).expanduser() for name in TOKEN_FILES]
    if os.environ.get("HF_HOME"):
        paths.append(Path(os.environ["HF_HOME"]).expanduser() / "token")
    if os.environ.get("HF_TOKEN_PATH"):
        paths.append(Path(os.environ["HF_TOKEN_PATH"]).expanduser())
    for path in dict.fromkeys(paths):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # not there, or not ours to see
        if mode & 0o077:
            findings.append(Finding("token file", "fault", f"{path}: mode {mode:o}, others may read it", f"chmod 600 {path}"))
    return findings


def _packs() -> list[Finding]:
    """Code that a build would import besides the factory's own."""
    from factory.plugins import GROUPS, PACK_GROUP, Entry, installed_entries, pack_entries, pack_folder

    def place(entry: Entry) -> str:
        from factory.errors import PluginError

        try:
            return str(pack_folder(entry))
        except PluginError as err:
            return str(err)

    outside = [("pack", entry) for entry in pack_entries(also_hidden=True) if entry.origin != "built-in"]
    outside += [(what, entry) for group, what in GROUPS.items() if group != PACK_GROUP for entry in installed_entries(group)]
    remedy = "Its code runs as you once a build uses it: read it, pin it by hash, or limit packs with FACTORY_PACKS."
    findings = [Finding(f"{what} {entry.name}", "note", f"{entry.origin}, {place(entry)}", remedy) for what, entry in outside]
    return findings or [Finding("packs from outside", "ok", "none installed")]


def _import_path() -> list[Finding]:
    """Folders of sys.path in which others could put a module that shadows one of ours."""
    import sys

    found = []
    for name in dict.fromkeys(sys.path):
        path = Path(name or ".")
        if path.is_dir():
            mode = path.stat().st_mode
            if mode & stat.S_IWOTH:
                found.append(
                    Finding(
                        "import path",
                        "fault",
                        f"{path.absolute()}: world-writable",
                        f"chmod o-w {path.absolute()}, or start elsewhere.",
                    )
                )
    return found or [Finding("import path", "ok", "no world-writable folder")]


_ESCAPE = """
import os, socket, sys
got = []
try:
    socket.create_connection(("192.0.2.1", 9), timeout=0.5)
    got.append("network")
except TimeoutError:
    got.append("a route")
except OSError:
    pass
try:
    open(sys.argv[1]).close()
    got.append("files of the user")
except OSError:
    pass
try:
    open("/usr/escaped", "w").close()
    got.append("writes")
except OSError:
    pass
print(", ".join(got) or "held")
"""
"""What the jail must not let through; 192.0.2.1 is an address for documentation (RFC 5737) that nobody has."""

CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _user, _sandbox, _permissions, _signatures, _network, _secrets, _packs, _import_path,
)  # fmt: skip
"""Every check in the order of the table."""
