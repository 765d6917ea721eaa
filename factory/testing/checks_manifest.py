"""Checks of what a pack says about itself: manifest, files, recipes, evals, and the cost of importing it."""

from __future__ import annotations

import math
import re

from factory.config.compose import compose
from factory.config.layers import recipe_names
from factory.errors import FactoryError
from factory.rewards.routing import row_of
from factory.testing.subject import ROLES, Subject, ensure

SECTIONS = ("What it is for", "Not for", "Data and licences", "Inputs and shapes", "Rewards", "Results", "Commands")
"""Headings of every pack's README, in this order."""
HEAVY = ("torch", "transformers", "tensorflow", "jax", "datasets", "vllm")
IMPORT_BUDGET_S = 1.0
"""CPU seconds for importing a pack beyond the factory's own core."""

_IMPORT = """
import importlib, sys, time
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"importing the pack uses the network ({event}). Fetch nothing at import")
sys.addaudithook(hook)
import factory.plugins, factory.rewards.verifiers
began = time.process_time()
module, _, attribute = sys.argv[1].partition(":")
getattr(importlib.import_module(module), attribute)
print(time.process_time() - began, ",".join(name for name in sys.argv[2].split(",") if name in sys.modules))
"""


def manifest_is_complete(subject: Subject) -> None:
    """pack.yaml has a licence, an intended use, a changelog entry for its version, and a licence for each data source."""
    manifest = subject.manifest
    ensure(
        manifest.name == subject.entry.name,
        f"pack.yaml: name is {manifest.name!r}, but it is installed as '{subject.entry.name}'. Use one name in both.",
    )
    ensure(
        manifest.version in manifest.changelog,
        f"pack.yaml: version {manifest.version} has no entry in changelog. Add what changed.",
    )
    ensure(manifest.modality in ("text", "vl"), f"pack.yaml: modality is {manifest.modality!r}; want text or vl.")
    unknown = [role for role in manifest.provides if role not in (*ROLES, "pairs")]
    ensure(not unknown, f"pack.yaml: provides names {', '.join(unknown)}; want some of {', '.join(ROLES)}, pairs.")
    ensure(bool(manifest.data), "pack.yaml: data is empty. List every source with id, source and license, generated ones too.")
    for row in manifest.data:
        missing = [key for key in ("id", "source", "license") if not row.get(key)]
        ensure(not missing, f"pack.yaml: data row {row.get('id', row)!r} has no {', '.join(missing)}. State them.")
    for task, row in manifest.tasks.items():
        ensure(bool(row.get("title")), f"pack.yaml: tasks.{task} has no title. Say in a few words what it asks.")


def excuses_are_known(subject: Subject) -> None:
    """Excused checks exist and carry a reason."""
    from factory.testing.conformance import CHECKS, SLOW_CHECKS

    skip = subject.manifest.conformance.get("skip", {})
    ensure(isinstance(skip, dict), "pack.yaml: conformance.skip must map check names to reasons.")
    for name, reason in skip.items():
        ensure(name in (*CHECKS, *SLOW_CHECKS), f"pack.yaml: conformance.skip names '{name}', which is no check. Remove it.")
        ensure(isinstance(reason, str) and bool(reason.strip()), f"pack.yaml: conformance.skip.{name} has no reason. Give one.")


def files_are_present(subject: Subject) -> None:
    """The folder has a README with the fixed sections in order, and the recipe `embedded`."""
    readme = subject.folder / "README.md"
    ensure(readme.is_file(), f"{readme}: is missing. Write it with the sections {', '.join(SECTIONS)}.")
    found = re.findall(r"^## (.+?)\s*$", readme.read_text(encoding="utf-8"), re.MULTILINE)
    kept = [heading for heading in found if heading in SECTIONS]
    ensure(kept == list(SECTIONS), f"README.md: its sections are {kept}; want {list(SECTIONS)}, in this order.")
    ensure("embedded" in recipe_names(subject.folder), "recipes/embedded.yaml is missing. Every pack builds without a download.")


def import_is_light(subject: Subject) -> None:
    """Importing the pack loads no deep-learning library, uses no network, and takes under a second of CPU."""
    seconds, _, heavy = subject.in_new_process(_IMPORT, [subject.entry.target, ",".join(HEAVY)]).strip().partition(" ")
    ensure(not heavy, f"importing {subject.module} imports {heavy}. Import it inside the function that needs it.")
    ensure(
        float(seconds) <= IMPORT_BUDGET_S,
        f"importing {subject.module} takes {float(seconds):.2f} s of CPU; at most {IMPORT_BUDGET_S:g} s. Move work into functions.",
    )


def recipes_compose(subject: Subject) -> None:
    """Every recipe composes without an unknown, missing or badly typed key."""
    for recipe in recipe_names(subject.folder):
        try:
            config = compose(subject.entry.name, recipe=recipe).config
        except FactoryError as err:
            ensure(False, f"recipes/{recipe}.yaml: {err}")
        ensure(bool(config.stages), f"recipes/{recipe}.yaml: has no stages. Add some, or extend a recipe that has.")


def mixture_is_valid(subject: Subject) -> None:
    """Each task names known verifiers with finite weights of 0 or more, and each verifier carries its name and version."""
    mixture = subject.mixture
    for name, verifier in subject.pack.verifiers().items():
        ensure(
            getattr(verifier, "name", None) == name,
            f"verifiers(): '{name}' is named {getattr(verifier, 'name', None)!r} inside. Use one.",
        )
        ensure(bool(getattr(verifier, "version", "")), f"verifier '{name}' has no version. It keys the reward cache.")
    for task, mix in mixture.tasks.items():
        total = sum(mix.weights.values())
        ensure(
            math.isfinite(total) and total > 0,
            f"pack.yaml: tasks.{task}: the weights sum to {total}. Give one a positive weight.",
        )


def evals_are_valid(subject: Subject) -> None:
    """Exactly one primary question-answering eval, known verifiers and tasks, and a function for each probe."""
    evals, verifiers = subject.pack.evals(), subject.pack.verifiers()
    primary = [name for name, e in evals.items() if e.primary and e.kind == "qa"]
    ensure(
        len(primary) == 1,
        f"evals(): {len(primary)} primary qa evals; exactly one must be, it decides which stage is kept. Set primary=True on one.",
    )
    for name, e in evals.items():
        ensure(e.name == name, f"evals(): '{name}' is named '{e.name}' inside. Use one name.")
        ensure(e.kind in ("qa", "probe"), f"eval '{name}': kind is {e.kind!r}; want qa or probe.")
        if e.kind == "qa":
            ensure(e.verifier in verifiers, f"eval '{name}': there is no verifier '{e.verifier}'. Known: {', '.join(verifiers)}.")
        else:
            ensure(callable(e.probe), f"eval '{name}': a probe needs a function in probe=.")
        unknown = [task for task in e.tasks if row_of(subject.manifest.tasks, task) is None]
        ensure(not unknown, f"eval '{name}': unknown tasks {', '.join(unknown)}. Known: {', '.join(subject.manifest.tasks)}.")


CHECKS = (
    manifest_is_complete, excuses_are_known, files_are_present, import_is_light, recipes_compose, mixture_is_valid, evals_are_valid,
)  # fmt: skip
