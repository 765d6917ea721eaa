"""Chat templates: from messages to tokens, with each token's writer known because every writer's text is tokenised on its own.

The template is the model's own (tokenizer, chat_template.jinja or chat_template.json); a folder without one gets
`templates/chat/qwen.jinja`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from factory.contracts import IMAGE, Message
from factory.errors import DataError, ModelError

log = logging.getLogger(__name__)

IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
_MARK = "\ue000{}\ue001"
"""Private-use characters that stand for literal special tokens in a user's text while the template is rendered."""
_MARKED = re.compile("\ue000([0-9]+)\ue001")


def default_template() -> str:
    """The ChatML template that embedded bases are saved with."""
    return (files("factory") / "templates" / "chat" / "qwen.jinja").read_text(encoding="utf-8")


def find_template(tokenizer: Any, folder: Path | None) -> str:
    """The template of a model folder. Raises ModelError when there is none and the vocabulary is not ChatML's."""
    if isinstance(tokenizer.chat_template, str):
        return tokenizer.chat_template
    if isinstance(tokenizer.chat_template, dict) and "default" in tokenizer.chat_template:
        return tokenizer.chat_template["default"]
    if folder is not None and (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if folder is not None and (folder / "chat_template.json").is_file():
        return json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
    vocabulary = tokenizer.get_vocab()
    if "<|im_start|>" not in vocabulary or "<|im_end|>" not in vocabulary:
        raise ModelError(
            f"{folder}: has no chat template, and its vocabulary has no <|im_start|>. Add a chat_template.jinja to the folder."
        )
    log.warning("%s has no chat template; using templates/chat/qwen.jinja", folder)
    return default_template()


class Foreign(Protocol):
    """Reads parts of a text that are no words, such as DNA."""

    pattern: str
    """Regular expression of such a part, without groups that count."""

    def ids(self, span: str) -> list[int]: ...


class ChatTemplate:
    """Renders conversations with one template and one tokenizer."""

    def __init__(self, tokenizer: Any, template: str, foreign: Foreign | None = None) -> None:
        self.tokenizer, self.template, self.foreign = tokenizer, template, foreign
        self.specials = tuple(sorted(tokenizer.all_special_tokens, key=len, reverse=True))
        self._special = re.compile("|".join(re.escape(token) for token in self.specials) or r"(?!)")
        self._foreign = re.compile(foreign.pattern if foreign is not None else r"(?!)")
        self._marked = re.compile(f"{self._foreign.pattern}|{self._special.pattern}")
        self.end_of_turn = self._find_end_of_turn()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of the conversation and the opening of the assistant's turn; one `<|image_pad|>` per image.

        A template that opens `<think>` itself is cut before the tag: the model writes its own tag, so completions are whole.
        Raises DataError when the template refuses the messages.
        """
        literals: list[str] = []
        turns = [{"role": m.role, "content": _parts(self._mark(m.content, literals))} for m in messages]
        return self._tokenise(_unopened(self._render(turns, add_generation_prompt=True)), literals)

    def reply_ids(self, message: Message) -> list[int]:
        """Tokens from right after an assistant's end of turn to the opening of its next turn, with `message` in between.

        Raises:
            DataError: the template refuses the message's role or content. ModelError: it closes no assistant turn.
        """
        probe, literals = "0answer0", list[str]()
        turns = [
            {"role": "user", "content": "question"}, {"role": "assistant", "content": probe},
            {"role": message.role, "content": _parts(self._mark(message.content, literals))},
        ]  # fmt: skip
        ids = self._tokenise(_unopened(self._render(turns, add_generation_prompt=True)).partition(probe)[2], literals)
        if self.end_of_turn not in ids:
            raise ModelError("the chat template does not close an assistant turn, so a rollout cannot have several turns.")
        return ids[ids.index(self.end_of_turn) + 1 :]

    def plain_ids(self, text: str) -> list[int]:
        """Tokens of a text in which special tokens have no power: `<|im_end|>` in it is seven characters of text."""
        if self.foreign is None or not self._foreign.search(text):
            return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ids: list[int] = []
        done = 0
        for hit in self._foreign.finditer(text):
            ids += [*(self.plain_ids(text[done : hit.start()]) if hit.start() > done else ()), *self.foreign.ids(hit.group())]
            done = hit.end()
        return ids + (self.plain_ids(text[done:]) if done < len(text) else [])

    def _mark(self, text: str, literals: list[str]) -> str:
        def keep(match: re.Match[str]) -> str:
            literals.append(match.group())
            return _MARK.format(len(literals) - 1)

        return self._marked.sub(keep, text)

    def _tokenise(self, text: str, literals: Sequence[str]) -> list[int]:
        if not literals:
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids: list[int] = []
        for index, piece in enumerate(_MARKED.split(text)):
            if index % 2:
                ids += self.plain_ids(literals[int(piece)])
            elif piece:
                ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids

    def _render(self, turns: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt, chat_template=self.template
            )
        except TemplateError as err:
            roles = ", ".join(turn["role"] for turn in turns)
            raise DataError(
                f"the model's chat template refuses a conversation with the roles {roles}: {err}. Change the pack's messages."
            ) from err

    def _find_end_of_turn(self) -> int:
        """The token that closes an assistant turn: the first special token that the template puts after a probe answer."""
        probe = "0answer0"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": probe}]
        after = self._render(turns, add_generation_prompt=False).rpartition(probe)[2]
        match = self._special.search(after)
        if match is None and self.tokenizer.eos_token_id is None:
            raise ModelError(
                "the chat template closes no turn with a special token and the tokenizer has no eos_token. "
                "Set eos_token in tokenizer_config.json."
            )
        return self.tokenizer.convert_tokens_to_ids(match.group()) if match else self.tokenizer.eos_token_id


def _unopened(text: str) -> str:
    """The rendered conversation without the `<think>` that some templates open for the model."""
    opened = text.rstrip()
    return opened.removesuffix("<think>") if opened.endswith("<think>") else text


def _parts(content: str) -> str | list[dict[str, str]]:
    """Content with `<image>` placeholders as the list form of image and text parts; without any, the string itself."""
    if IMAGE not in content:
        return content
    parts: list[dict[str, str]] = []
    for index, text in enumerate(content.split(IMAGE)):
        if index:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts
