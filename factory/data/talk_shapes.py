"""Rows of other trainers and of our own, in and out of `Talk`. What a shape cannot hold is refused, never dropped unasked.

Facts: TRL 1.16 dataset formats; LLaMA-Factory's alpaca and sharegpt; ms-swift's messages; verl's RL parquet rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from factory.contracts import IMAGE, Message
from factory.data.report import RowFault
from factory.data.talks import ABSENT, Talk, images_of, parts_of, turns_of

CHAT = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SWIFT = {**CHAT, "tool_call": "tool_call", "tool_response": "tool"}
SHAREGPT = {"system": "system", "human": "user", "gpt": "assistant", "observation": "tool", "function_call": "tool_call"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TalkShape:
    """One layout of rows."""

    name: str
    title: str
    own: frozenset[str]
    """Its columns; all others travel in `extra`."""
    needs: frozenset[str]
    holds: frozenset[str]
    """Of `response`, `rejected`, `reference`, `images`."""
    read: Callable[[Row], Talk]
    write: Callable[[Talk, bool], dict[str, Any]]
    """(talk, whether contents are lists of parts) -> the shape's own columns."""
    consumes: frozenset[str] = frozenset()
    """Columns of `extra` that `write` works into its own."""
    keeps_extra: bool = False
    """`write` puts the columns of others somewhere itself."""


def read_talk(shape: TalkShape, row: Row) -> Talk:
    """A row as a Talk. Raises RowFault for what the shape does not know."""
    return shape.read(row).checked()


def write_talk(shape: TalkShape, talk: Talk, *, drop: frozenset[str] = frozenset(), has_parts: bool = False) -> dict[str, Any]:
    """A Talk as a row. Raises RowFault for what would be lost or is missing.

    Args:
        drop: what may be lost (`response`, `rejected`, `reference`).
        has_parts: write contents as parts throughout, because some row of the file has images and a column has one type.
    """
    lost, lacking = sorted(talk.has() - shape.holds - drop), sorted(shape.needs - talk.has())
    if lost:
        raise RowFault(lost[0], f"{shape.name} has no place for it. Choose another shape, or let it go with --drop {lost[0]}.")
    if lacking:
        raise RowFault(lacking[0], f"{shape.name} needs it and the row has none.")
    if shape.keeps_extra:
        return shape.write(talk, has_parts)
    twice = sorted(shape.own & set(talk.extra))
    if twice:
        raise RowFault(twice[0], f"is a column of {shape.name} with another meaning. Rename it first.")
    row = shape.write(talk, has_parts)
    return {**row, **{key: value for key, value in talk.extra.items() if key not in shape.consumes}}


def _extra(row: Row, *own: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in own and value is not None}


def _reference(row: Row, column: str = "solution") -> Any:
    return row[column] if row.get(column) is not None else ABSENT


def _common(talk: Talk) -> dict[str, Any]:
    """Columns that most shapes share."""
    found: dict[str, Any] = {"images": list(talk.images)} if talk.images else {}
    return found | ({} if talk.reference is ABSENT else {"solution": talk.reference})


def _turns(messages: Any, has_parts: bool) -> list[dict[str, Any]]:
    for message in messages:
        if message.role not in CHAT:
            raise RowFault("messages", f"a turn of role {message.role} has no place in this shape.")
    return [{"role": m.role, "content": parts_of(m.content) if has_parts else _plain(m.content)} for m in messages]


def _plain(content: str) -> Any:
    return parts_of(content) if IMAGE in content else content


def _last(messages: tuple[Message, ...], column: str) -> tuple[tuple[Message, ...], str]:
    if not messages or messages[-1].role != "assistant":
        raise RowFault(column, "its last turn must be the assistant's.")
    return messages[:-1], messages[-1].content


def _one(value: Any, column: str) -> str:
    turns = turns_of(value, column, CHAT)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise RowFault(column, "must be one turn of the assistant.")
    return turns[0].content


# TRL


def _read_trl_messages(row: Row) -> Talk:
    prompt, response = _last(turns_of(row.get("messages"), "messages", CHAT), "messages")
    return Talk(
        prompt, response, None, _reference(row), images_of(row.get("images")), _extra(row, "messages", "images", "solution")
    )


def _write_trl_messages(talk: Talk, has_parts: bool) -> dict[str, Any]:
    return {"messages": _turns((*talk.messages, Message("assistant", talk.response or "")), has_parts), **_common(talk)}


def _read_trl(*answers: str) -> Callable[[Row], Talk]:
    """A reader of `prompt` and the columns in `answers` (`completion`, or `chosen` and `rejected`)."""

    def read(row: Row) -> Talk:
        said = [_one(row.get(name), name) for name in answers]
        prompt = turns_of(row.get("prompt"), "prompt", CHAT)
        rest = _extra(row, "prompt", "images", "solution", *answers)
        return Talk(prompt, *[*said, None, None][:2], _reference(row), images_of(row.get("images")), rest)  # type: ignore[arg-type]

    return read


def _write_trl(*answers: str) -> Callable[[Talk, bool], dict[str, Any]]:
    def write(talk: Talk, has_parts: bool) -> dict[str, Any]:
        said = dict(zip(answers, (talk.response, talk.rejected), strict=False))
        told = {name: _turns([Message("assistant", text or "")], has_parts) for name, text in said.items()}
        return {"prompt": _turns(talk.messages, has_parts), **told, **_common(talk)}

    return write


# LLaMA-Factory


def _read_alpaca(row: Row) -> Talk:
    instruction, more = row.get("instruction"), row.get("input") or ""
    if not isinstance(instruction, str) or not isinstance(more, str):
        raise RowFault("instruction", "instruction and input must be text.")
    messages = [Message("system", row["system"])] if row.get("system") else []
    for pair in row.get("history") or ():
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    messages.append(Message("user", f"{instruction}\n{more}" if more else instruction))
    is_pair = row.get("chosen") is not None
    response, rejected = (row.get("chosen"), row.get("rejected")) if is_pair else (row.get("output"), None)
    own = (
        "instruction",
        "system",
        "history",
        "output",
        "chosen",
        "rejected",
        "images",
        "solution",
        *(() if more else ("input",)),
    )
    return Talk(tuple(messages), response, rejected, _reference(row), images_of(row.get("images")), _extra(row, *own))


def _write_alpaca(talk: Talk, has_parts: bool) -> dict[str, Any]:
    turns = list(talk.messages)
    row: dict[str, Any] = {"system": turns.pop(0).content} if turns[0].role == "system" and turns[0].content else {}
    asked = [turn.role for turn in turns]
    if not asked or asked != ["user" if number % 2 == 0 else "assistant" for number in range(len(asked))] or len(asked) % 2 == 0:
        raise RowFault(
            "messages", f"alpaca holds user and assistant in turn, the user last; the row has {', '.join(asked) or 'none'}."
        )
    last = turns[-1].content
    more = talk.extra.get("input")
    if more is not None:
        if not isinstance(more, str) or not last.endswith(f"\n{more}"):
            raise RowFault("input", "is a column of alpaca, and this row's is not the end of its prompt. Rename it first.")
        last, row["input"] = last.removesuffix(f"\n{more}"), more
    row["instruction"] = last
    if len(turns) > 1:
        row["history"] = [[turns[i].content, turns[i + 1].content] for i in range(0, len(turns) - 1, 2)]
    if talk.rejected is not None:
        return {**row, "chosen": talk.response, "rejected": talk.rejected, **_common(talk)}
    return {**row, "output": talk.response or "", **_common(talk)}


def _read_sharegpt(row: Row) -> Talk:
    turns = turns_of(row.get("conversations"), "conversations", SHAREGPT, ("from", "value"))
    if row.get("system"):
        turns = (Message("system", row["system"]), *turns)
    rest = _extra(row, "conversations", "system", "chosen", "rejected", "images", "solution")
    images = images_of(row.get("images"))
    if row.get("chosen") is not None:
        chosen, rejected = (
            turns_of([row.get(key)], key, SHAREGPT, ("from", "value"))[0].content for key in ("chosen", "rejected")
        )
        return Talk(turns, chosen, rejected, _reference(row), images, rest)
    prompt, response = _last(turns, "conversations")
    return Talk(prompt, response, None, _reference(row), images, rest)


def _write_sharegpt(talk: Talk, has_parts: bool) -> dict[str, Any]:
    names = {role: name for name, role in SHAREGPT.items()}
    turns = list(talk.messages)
    row: dict[str, Any] = {"system": turns.pop(0).content} if turns[0].role == "system" and turns[0].content else {}
    said = [{"from": names[m.role], "value": m.content} for m in turns]
    if talk.rejected is None:
        return {**row, "conversations": [*said, {"from": "gpt", "value": talk.response}], **_common(talk)}
    pair = {"chosen": {"from": "gpt", "value": talk.response}, "rejected": {"from": "gpt", "value": talk.rejected}}
    return {**row, "conversations": said, **pair, **_common(talk)}


# ms-swift and verl


def _read_swift(row: Row) -> Talk:
    turns = turns_of(row.get("messages"), "messages", SWIFT)
    prompt, response = _last(turns, "messages") if turns and turns[-1].role == "assistant" else (turns, None)
    rest = _extra(row, "messages", "rejected_response", "images", "solution")
    return Talk(prompt, response, row.get("rejected_response"), _reference(row), images_of(row.get("images")), rest)


def _write_swift(talk: Talk, has_parts: bool) -> dict[str, Any]:
    answer = () if talk.response is None else (Message("assistant", talk.response),)
    if talk.response is None and talk.messages[-1].role == "assistant":
        raise RowFault("messages", "the prompt ends with the assistant's turn, which ms-swift would take for the response.")
    row: dict[str, Any] = {"messages": [{"role": m.role, "content": m.content} for m in (*talk.messages, *answer)]}
    return row | ({"rejected_response": talk.rejected} if talk.rejected is not None else {}) | _common(talk)


def _read_verl(row: Row) -> Talk:
    judged = row.get("reward_model")
    if not isinstance(judged, Mapping) or "ground_truth" not in judged:
        raise RowFault("reward_model", "must be a mapping with ground_truth.")
    spare = {key: value for key, value in judged.items() if key != "ground_truth" and value is not None}
    rest = _extra(row, "prompt", "reward_model", "images", "data_source")
    rest |= {} if row.get("data_source") in (None, "unknown") else {"data_source": row["data_source"]}
    rest |= {} if spare == {"style": "rule"} else {"verl_reward_model": spare}
    return Talk(
        turns_of(row.get("prompt"), "prompt", CHAT), None, None, judged["ground_truth"], images_of(row.get("images")), rest
    )


def _write_verl(talk: Talk, has_parts: bool) -> dict[str, Any]:
    for message in talk.messages:
        if message.role not in CHAT:
            raise RowFault("prompt", f"a turn of role {message.role} has no place in verl's rows.")
    # verl cuts contents at <image> by itself.
    prompt = [{"role": m.role, "content": m.content} for m in talk.messages]
    style = talk.extra.get("verl_reward_model", {"style": "rule"})
    row: dict[str, Any] = {"prompt": prompt, "reward_model": {**style, "ground_truth": talk.reference}}
    row |= {} if "data_source" in talk.extra else {"data_source": "unknown"}
    return row | ({"images": [one if isinstance(one, bytes) else {"image": one} for one in talk.images]} if talk.images else {})


def _shape(name: str, title: str, own: str, needs: str, holds: str, read: Any, write: Any, consumes: str = "") -> TalkShape:
    columns = frozenset(f"{own} images{'' if name == 'verl' else ' solution'}".split())
    held = frozenset(f"{holds} reference images".split())
    return TalkShape(name, title, columns, frozenset(needs.split()), held, read, write, frozenset(consumes.split()))


SHAPES: dict[str, TalkShape] = {
    shape.name: shape
    for shape in (
        _shape("trl-messages", "TRL language modelling: messages", "messages", "response", "response", _read_trl_messages, _write_trl_messages),
        _shape("trl-completion", "TRL: prompt, completion", "prompt completion", "response", "response", _read_trl("completion"),
               _write_trl("completion")),
        _shape("trl-preference", "TRL: prompt, chosen, rejected", "prompt chosen rejected", "response rejected", "response rejected",
               _read_trl("chosen", "rejected"), _write_trl("chosen", "rejected")),
        _shape("trl-prompt", "TRL for GRPO: prompt, and the reference as `solution`", "prompt", "", "", _read_trl(), _write_trl()),
        _shape("alpaca", "LLaMA-Factory: instruction, input, output (or chosen, rejected)", "instruction system history output chosen rejected",
               "response", "response rejected", _read_alpaca, _write_alpaca, "input"),
        _shape("sharegpt", "LLaMA-Factory: conversations of human and gpt (with chosen, rejected)", "conversations system chosen rejected",
               "response", "response rejected", _read_sharegpt, _write_sharegpt),
        _shape("swift", "ms-swift: messages (with rejected_response), the reference as `solution`", "messages rejected_response", "",
               "response rejected", _read_swift, _write_swift),
        _shape("verl", "verl for RL: data_source, prompt, reward_model.ground_truth", "prompt reward_model", "reference", "",
               _read_verl, _write_verl, "verl_reward_model"),
    )
}  # fmt: skip
"""Shapes of others; ours are in `own_shapes`."""
