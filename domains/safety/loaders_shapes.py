"""Rows of published safety sets, each turned into a Record.

| shape | set | becomes |
| --- | --- | --- |
| xstest-completions | XSTest answers with human labels | `answer`/`refuse` samples; the labelled answer in `meta["answered"]` |
| xstest-prompts | XSTest | safe prompts are `answer` (comply), unsafe ones `refuse` |
| harmbench | HarmBench behaviours | `refuse`; a context is put before the behaviour |
| advbench | AdvBench | `refuse` |
| strongreject | StrongREJECT | `refuse` |
| wildguard | WildGuard rows | `answer` or `refuse` by the prompt's label |
| beavertails | BeaverTails | safe answers are lessons; unsafe ones only make pairs |
| beavertails-v | BeaverTails-V | the safer answer is a lesson, when it is harmless |
| pku-saferlhf | PKU-SafeRLHF pairs | the safer answer is a lesson, when it is safe |
| preference | `prompt, chosen, rejected` | the chosen answer is a lesson |
| mathif | MathIF | `obey`, with the fifteen constraints |

Harmful prompts carry `meta["category"]`, and `meta["sensitive"]`: reports name ids and categories.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from typing import Any

from factory.contracts import Message
from factory.data.rows import RowFault
from factory.data.shapes import cell, optional_cell, text_cell
from factory.domains.safety.conduct import COMPLY, REFUSE
from factory.domains.safety.stance import XSTEST_LABELS
from factory.packs.common_shapes import RowShape, read_turns
from factory.packs.records import LESSONS, SAMPLES, Record
from factory.rewards.constraints import CHECKS

HARMLESS_RATES = frozenset({0})
"""BeaverTails-V: severity of a response that counts as safe."""


def request_record(prompt: str, *, is_safe: bool, key: Any, category: str, **meta: Any) -> Record:
    """A prompt with its side alone: comply or refuse. Of split `test`."""
    found = {"category": category, "sensitive": not is_safe, **{k: v for k, v in meta.items() if v not in (None, "")}}
    return Record(
        SAMPLES, key=None if key is None else str(key), text=prompt, task="answer" if is_safe else "refuse",
        reference=COMPLY if is_safe else REFUSE, split="test", meta=found,
    )  # fmt: skip


def _xstest_side(row: Mapping[str, Any]) -> bool:
    """Whether an XSTest row is safe: by its label, else by its type, as in the completions files."""
    label, kind = optional_cell(row, "label"), text_cell(row, "type")
    if label is not None and label not in ("safe", "unsafe"):
        raise RowFault("label", f"is {label!r:.60}; want safe or unsafe.")
    is_safe = label == "safe" if label is not None else not kind.startswith("contrast")
    if label is not None and is_safe == kind.startswith("contrast"):
        raise RowFault("label", f"is {label!r}, but the type is {kind!r}: contrast types are unsafe, all others safe.")
    return is_safe


def _xstest_prompt(row: Mapping[str, Any], settings: Any) -> Record:
    return request_record(
        text_cell(row, "prompt"), is_safe=_xstest_side(row), key=cell(row, "id"), category=text_cell(row, "type"),
        focus=optional_cell(row, "focus"),
    )  # fmt: skip


def _xstest_completion(row: Mapping[str, Any], settings: Any) -> Record:
    label = text_cell(row, "final_label")
    if label not in XSTEST_LABELS:
        raise RowFault("final_label", f"is {label!r:.60}; want one of {', '.join(XSTEST_LABELS)}.")
    record = request_record(
        text_cell(row, "prompt"), is_safe=_xstest_side(row), key=cell(row, "id"), category=text_cell(row, "type")
    )
    record.meta["answered"] = {
        "completion": str(cell(row, "completion")), "human": XSTEST_LABELS[label],
        "agreed": str(optional_cell(row, "agreement") or "").lower() == "true",
    }  # fmt: skip
    if optional_cell(row, "strmatch_label"):
        record.meta["answered"]["string_match"] = XSTEST_LABELS.get(str(row["strmatch_label"]), str(row["strmatch_label"]))
    return record


def _harmbench(row: Mapping[str, Any], settings: Any) -> Record:
    context, behaviour = optional_cell(row, "ContextString"), text_cell(row, "Behavior")
    kind = text_cell(row, "FunctionalCategory")
    if kind not in ("standard", "contextual", "copyright"):
        raise RowFault("FunctionalCategory", f"is {kind!r:.60}; want standard, contextual or copyright.")
    if kind == "contextual" and not context:
        raise RowFault("ContextString", "is blank, but the behaviour is contextual.")
    prompt = f"{context}\n\n---\n\n{behaviour}" if context else behaviour
    return request_record(
        prompt, is_safe=False, key=text_cell(row, "BehaviorID"), category=text_cell(row, "SemanticCategory"), kind=kind
    )


def _advbench(row: Mapping[str, Any], settings: Any) -> Record:
    text_cell(row, "target")
    return request_record(text_cell(row, "goal"), is_safe=False, key=None, category="advbench")


def _strongreject(row: Mapping[str, Any], settings: Any) -> Record:
    category = optional_cell(row, "category") or "strongreject"
    return request_record(
        text_cell(row, "forbidden_prompt"), is_safe=False, key=None, category=str(category), origin=optional_cell(row, "source")
    )


def _wildguard(row: Mapping[str, Any], settings: Any) -> Record:
    label = text_cell(row, "prompt_harm_label")
    if label not in ("harmful", "unharmful"):
        raise RowFault("prompt_harm_label", f"is {label!r:.60}; want harmful or unharmful.")
    record = request_record(
        text_cell(row, "prompt"), is_safe=label == "unharmful", key=None, category=str(optional_cell(row, "subcategory") or "wildguard"),
        adversarial=optional_cell(row, "adversarial"),
    )  # fmt: skip
    if optional_cell(row, "response"):
        labels = {name: optional_cell(row, name) for name in ("response_refusal_label", "response_harm_label")}
        record.meta["answered"] = {"completion": str(row["response"]), **{k: v for k, v in labels.items() if v}}
    return record


def lesson_record(prompt: str, response: str, **meta: Any) -> Record:
    """A prompt with an answer to imitate."""
    return Record(
        LESSONS, text=prompt, response=response, task="answer", reference=COMPLY, meta={k: v for k, v in meta.items() if v}
    )


def _beavertails(row: Mapping[str, Any], settings: Any) -> list[Record]:
    harms = cell(row, "category")
    found = [name for name, is_there in harms.items() if is_there] if isinstance(harms, Mapping) else [str(harms)]
    if not truth(row, "is_safe"):
        return []
    return [lesson_record(text_cell(row, "prompt"), text_cell(row, "response"), category=", ".join(sorted(found)))]


def _pku(row: Mapping[str, Any], settings: Any) -> list[Record]:
    safer = index_cell(row, "safer_response_id")
    if not truth(row, f"is_response_{safer}_safe"):
        return []
    return [lesson_record(text_cell(row, "prompt"), text_cell(row, f"response_{safer}"))]


def _beavertails_v(row: Mapping[str, Any], settings: Any) -> list[Record]:
    safer = index_cell(row, "safer_response_id", first=1)
    if not harmless(row, safer):
        return []
    record = lesson_record(
        text_cell(row, "question"), text_cell(row, f"response_{safer}"), category=str(optional_cell(row, "category") or "")
    )
    record.images, record.image_field = optional_cell(row, "image"), "image"
    return [record]


def _preference(row: Mapping[str, Any], settings: Any) -> Record:
    prompt, chosen, rejected = preference_texts(row)
    if chosen == rejected:
        raise RowFault("rejected", "is the same as chosen.")
    return Record(LESSONS, turns=prompt, response=chosen, task="answer", reference=COMPLY)


def preference_texts(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], str, str]:
    """(turns, chosen, rejected) of a preference row as TRL defines it: texts, or lists of turns. Raises RowFault."""
    prompt = cell(row, "prompt")
    turns = (Message("user", prompt),) if isinstance(prompt, str) else tuple(read_turns(prompt, "prompt"))
    return turns, _last(row, "chosen"), _last(row, "rejected")


def _last(row: Mapping[str, Any], column: str) -> str:
    value = cell(row, column)
    return value if isinstance(value, str) else read_turns(value, column)[-1].content


def _mathif(row: Mapping[str, Any], settings: Any) -> Record:
    names, args, told = (_list_cell(row, f"constraint_{part}") for part in ("name", "args", "desc"))
    if not len(names) == len(args) == len(told) or not names:
        raise RowFault(
            "constraint_name",
            f"{len(names)} names, {len(args)} argument sets and {len(told)} descriptions; want as many of each, 1 or more.",
        )
    for name, arg in zip(names, args, strict=True):
        if not isinstance(name, str) or name not in CHECKS:
            raise RowFault("constraint_name", f"{name!r:.60} is none of the fifteen constraints: {', '.join(CHECKS)}.")
        if not isinstance(arg or {}, Mapping):
            raise RowFault("constraint_args", f"must hold a mapping for each constraint, got {arg!r:.60}.")
    prompt = f"{text_cell(row, 'question')}\n{' '.join(map(str, told))}\nPut your final answer within \\boxed{{}}."
    listed = [{"name": name, "args": dict(arg or {})} for name, arg in zip(names, args, strict=True)]
    key = f"{text_cell(row, 'source')}/{text_cell(row, 'id')}"
    return Record(
        SAMPLES, key=key, text=prompt, answer=text_cell(row, "answer"), task="obey", split="test", meta={"constraints": listed}
    )


def _list_cell(row: Mapping[str, Any], column: str) -> list[Any]:
    value = cell(row, column)
    if isinstance(value, str):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if not isinstance(value, list | tuple):
        raise RowFault(column, f"must be a list, got {type(value).__name__}.")
    return list(value)


def truth(row: Mapping[str, Any], column: str) -> bool:
    """A cell that is true or false, or says so in text. Raises RowFault."""
    value = cell(row, column)
    known = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, bool):
        return value
    if str(value).strip().lower() not in known:
        raise RowFault(column, f"is {value!r:.60}; want true or false.")
    return known[str(value).strip().lower()]


def index_cell(row: Mapping[str, Any], column: str, first: int = 0) -> int:
    """Which of two responses: `first` or `first + 1`. Raises RowFault."""
    value = str(cell(row, column)).strip()
    if value not in (str(first), str(first + 1)):
        raise RowFault(column, f"is {value!r:.60}; want {first} or {first + 1}.")
    return int(value)


def harmless(row: Mapping[str, Any], which: int) -> bool:
    """BeaverTails-V: whether response 1 or 2 has severity 0. Raises RowFault."""
    value = cell(row, f"response_{which}_harmless_rate")
    try:
        return float(value) in HARMLESS_RATES
    except (TypeError, ValueError, OverflowError) as err:
        raise RowFault(f"response_{which}_harmless_rate", f"is {value!r:.60}; want a number, 0 for harmless.") from err


def _shape(name: str, title: str, columns: Iterable[str], gives: frozenset[str], convert: Any) -> RowShape:
    return RowShape(name, title, tuple((column,) for column in columns), None, gives, convert)


OWN = (
    _shape("xstest-completions", "XSTest answers with human labels", ("id", "type", "prompt", "completion", "final_label"), SAMPLES, _xstest_completion),
    _shape("xstest-prompts", "XSTest", ("id", "prompt", "type", "label"), SAMPLES, _xstest_prompt),
    _shape("harmbench", "HarmBench behaviours", ("Behavior", "FunctionalCategory", "SemanticCategory", "BehaviorID"), SAMPLES, _harmbench),
    _shape("advbench", "AdvBench", ("goal", "target"), SAMPLES, _advbench),
    _shape("strongreject", "StrongREJECT", ("forbidden_prompt",), SAMPLES, _strongreject),
    _shape("wildguard", "WildGuard rows", ("prompt", "prompt_harm_label"), SAMPLES, _wildguard),
    _shape("beavertails-v", "BeaverTails-V", ("question", "image", "response_1", "response_2", "safer_response_id"), LESSONS, _beavertails_v),
    _shape("beavertails", "BeaverTails", ("prompt", "response", "category", "is_safe"), LESSONS, _beavertails),
    _shape("pku-saferlhf", "PKU-SafeRLHF pairs", ("prompt", "response_0", "response_1", "safer_response_id"), LESSONS, _pku),
    _shape("mathif", "MathIF", ("question", "answer", "constraint_name", "constraint_args"), SAMPLES, _mathif),
    _shape("preference", "preference rows as TRL has them", ("prompt", "chosen", "rejected"), LESSONS, _preference),
)  # fmt: skip
"""From special to general."""
