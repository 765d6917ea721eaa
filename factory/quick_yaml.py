"""YAML of packs and of ours read with libyaml's safe loader where PyYAML was built with it: a plan reads a few such files."""

from __future__ import annotations

from typing import Any

import yaml

SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Plain data only, no objects. The loader in Python costs ten times as much."""
MAX_DEPTH = 50
"""Levels of a YAML file. PyYAML reads deeper ones by recursion: the loader in Python raises RecursionError after a time that grows with the
square of the depth, libyaml's ends the process. No setting lies there."""
_OPENS, _CLOSES = (yaml.MappingStartEvent, yaml.SequenceStartEvent), (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def read_yaml(text: str) -> Any:
    """The plain data that a YAML text holds. Raises yaml.YAMLError on anything else, such as a date that is none or too many levels."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=SAFE_LOADER):  # events come one by one, however deep
            depth += isinstance(event, _OPENS) - isinstance(event, _CLOSES)
            if depth > MAX_DEPTH:
                raise yaml.YAMLError(f"line {event.start_mark.line + 1}: more than {MAX_DEPTH} levels")
        return yaml.load(text, Loader=SAFE_LOADER)
    except ValueError as err:
        raise yaml.YAMLError(str(err)) from err
