"""The pack's own options (`pack.*` in a build's config): those of the generator, and those of the loaders, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from factory.domains.biology.taxa import check_override
from factory.errors import ConfigError
from factory.packs.settings import check_shares, one_of, read_settings, within
from factory.packs.sources import LoadSettings

TASKS = (
    "transcribe", "complement", "reverse_complement", "translate", "gc", "melting", "orf", "restriction", "effect", "hgvs_c",
    "hgvs_p", "regulation", "pathway",
)  # fmt: skip
"""Tasks that the generator poses; the user's data brings `region_class`, `variant_disease`, `choice` and `question`."""
DNA_TASKS = ("regulation", "pathway")
"""Tasks that can be asked with the alleles as DNA."""
SEQUENCES = ("text", "none", "dna")
SYSTEMS = ("none", "expert", "draft", "bioreason")
SHARES = MappingProxyType({task: 1.0 for task in TASKS})


@dataclass(frozen=True)
class Options:
    """How the generator asks and what it draws."""

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences and longer sequences, for a real one."""
    system: str = "none"
    """System turn: `none`, `expert`, `draft` (short steps) or `bioreason` (its form, `Answer:` after the reasoning)."""
    thinking: str = "on"
    """Reasoning in lessons: `on`, or `off` (no reasoning block)."""
    sequences: str = "text"
    """`text`: what a variant does stands in words. `dna`: a pathway question holds both alleles as `<dna>` spans, which a model
    with a DNA encoder reads (`--base embedded-dna`), and nothing else says what the variant does."""
    statements: int = 4
    """Statements in one document of the corpus."""
    bare: float = 0.15
    """Share of the corpus's statements without their working."""

    def __post_init__(self) -> None:
        one_of("pack.style", self.style, ("terse", "full"))
        _check_turns(self.system, self.thinking)
        check_shares(self.shares, TASKS)
        one_of("pack.sequences", self.sequences, SEQUENCES)
        others = [task for task, share in self.shares.items() if share > 0 and task not in DNA_TASKS]
        if self.sequences == "dna" and others:
            raise ConfigError(
                f"pack.sequences=dna asks only {' and '.join(DNA_TASKS)}, but pack.shares has {', '.join(others)}. "
                "Set pack.shares={regulation: 1, pathway: 1}."
            )
        within("pack.statements", self.statements, 1, 64)
        within("pack.bare", self.bare, 0.0, 1.0)


@dataclass(frozen=True)
class Loading(LoadSettings):
    """How the user's files are read."""

    system: str = "none"
    """As in `Options`."""
    thinking: str = "on"
    assembly: str = ""
    """Assembly of the coordinates (`GRCh38`), written into every sample that has some."""
    contigs: dict[str, str] = field(default_factory=dict)
    """Contig as the rows name it -> as the reference names it. `{chr*: "*"}` takes `chr` away, `{"*": chr*}` adds it."""
    reference: str = ""
    """Reference FASTA (unpacked) for rows that have coordinates only."""
    flank: int = 64
    """Bases taken on both sides of a variant or interval."""
    window: int = 1024
    """Bases of one document; longer sequences are cut into several."""
    sequences: str = "text"
    """Where reference and variant sequence stand: in the `text` of the question, as `<dna>` spans of it for a model with a DNA
    encoder (`dna`), or `none` (in the sample's meta only)."""
    max_bases: int = 1024
    """Bases kept on each side of the middle of a sequence in a question (BioReason: 1024)."""
    label_names: dict[str, str] = field(default_factory=dict)
    """Label as the rows write it (`"1"`) -> label in words (`promoter`)."""
    class_question: str = "Which class has this sequence"
    """Begins the question about a sequence's class."""
    allow_taxa: tuple[str, ...] = ()
    """Names of `taxa.yaml` whose sequences may be read."""
    allow_taxa_reason: str = ""
    """Why; needed with `allow_taxa`, and kept with the run."""

    def __post_init__(self) -> None:
        LoadSettings.__post_init__(self)
        _check_turns(self.system, self.thinking)
        one_of("pack.sequences", self.sequences, SEQUENCES)
        for name, low in (("flank", 0), ("window", 16), ("max_bases", 8)):
            within(f"pack.{name}", getattr(self, name), low, 10_000_000)
        check_override(self.allow_taxa, self.allow_taxa_reason)


def _check_turns(system: str, thinking: str) -> None:
    one_of("pack.system", system, SYSTEMS)
    one_of("pack.thinking", thinking, ("on", "off"))
    if (system, thinking) == ("bioreason", "off"):
        raise ConfigError("pack.system=bioreason asks for reasoning; it does not go with pack.thinking=off.")


GENERATOR_KEYS = tuple(item.name for item in fields(Options))
LOADER_KEYS = tuple(item.name for item in fields(Loading))


def read_options(raw: Mapping[str, object]) -> Options:
    """Check `pack.*` of a build without data. Raises ConfigError for an unknown key (with a near miss) or a value out of range."""
    return read_settings(Options, raw, pack="biology", also=LOADER_KEYS)
