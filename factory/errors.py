"""Every failure a user can meet, with its exit code.

FactoryError                1   something failed that has no better name
├── ConfigError             2   a setting, flag or recipe is wrong
├── DataError               3   data on disk is wrong, or too much of it is
├── PluginError             4   a plugin (pack, stage kind, piece, engine, launcher, judge) cannot be used
│   ├── UnknownPlugin           nothing of that name is installed
│   ├── DuplicatePlugin         two distributions supply the name
│   └── BrokenPlugin            installed, but it cannot be imported, or was made for another contract
├── ModelError              5   a base model or checkpoint cannot be loaded or saved
├── RewardError             6   verifiers failed more often than `max_error_rate`
├── TrainingError           7   training cannot go on (non-finite loss, refill budget spent, worker died)
│   └── RolledBack              bad steps; the stage goes on from its last checkpoint with a smaller step (a build does so by itself)
├── RegistryError           8   the registry or a run folder is damaged or in use
└── Interrupted           130   stopped by Ctrl-C or SIGTERM; the same command resumes
    └── Preempted          75   asked by SIGUSR1 to make room: stopped after a checkpoint; the same command resumes

A message says what is wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


class FactoryError(Exception):
    """Base of every error that is the user's to read, not a bug of ours."""

    exit_code = 1


class ConfigError(FactoryError, ValueError):
    """A setting, flag or recipe is wrong."""

    exit_code = 2


class DataError(FactoryError, ValueError):
    """Data on disk is wrong, or more of it than the configured limit."""

    exit_code = 3


class PluginError(FactoryError, LookupError):
    """A pack or stage is unknown, broken, or needs another contract version."""

    exit_code = 4


class UnknownPlugin(PluginError):
    """Nothing of that name is installed. The message has the nearest name and the list."""


class DuplicatePlugin(PluginError):
    """Two distributions supply the same name. The message names both."""


class BrokenPlugin(PluginError):
    """Installed, but it cannot be imported, its manifest is wrong, or it needs another contract. The cause is chained."""


class ModelError(FactoryError):
    """A base model or checkpoint cannot be loaded or saved."""

    exit_code = 5


class RewardError(FactoryError):
    """Verifiers failed (error or timeout) more often than `max_error_rate`."""

    exit_code = 6


class TrainingError(FactoryError):
    """Training cannot go on: non-finite loss, refill budget spent, worker died."""

    exit_code = 7


class RolledBack(TrainingError):
    """Too many bad steps in a row: the stage has to start again from its last checkpoint, with a smaller step."""


class RegistryError(FactoryError):
    """The registry or a run folder is damaged, or another process holds it."""

    exit_code = 8


class Interrupted(FactoryError):
    """Stopped by Ctrl-C or SIGTERM; nothing is lost, the same command resumes."""

    exit_code = 130


class Preempted(Interrupted):
    """Asked by SIGUSR1 to make room for others: stopped after a checkpoint. A job system should queue the same command again."""

    exit_code = 75


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an exception of any library says that there was no memory left, on the machine or on a device."""
    return isinstance(err, MemoryError) or any(words in str(err).lower() for words in _NO_MEMORY)


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or an empty string."""
    hits = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{hits[0]}'?" if hits else ""
