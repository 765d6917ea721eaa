"""`factory chat`: talk to a built model in the terminal, with images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from factory.cli.export import model_folder
from factory.cli.output import say
from factory.contracts import IMAGE, Media, Message
from factory.errors import DataError
from factory.launch.devices import quiet_without_gpu

HELP = "Type a question. /image FILE adds a picture to the next one, /new forgets the conversation, /quit ends."


def chat(
    model: Annotated[str, typer.Argument(help="A model folder, or the id or name of a built model.")],
    image: Annotated[list[Path] | None, typer.Option("--image", help="Picture for the first question. Repeat for more.")] = None,
    system: Annotated[str, typer.Option(help="System turn.")] = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
) -> None:
    """Answer questions from the terminal, or from lines on standard input."""
    from factory.serving.answerer import Answerer, Wish

    folder, waiting = model_folder(model), [read_picture(path) for path in image or []]
    quiet_without_gpu()
    answerer = Answerer(folder)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        say(HELP)
    start = [Message("system", system)] if system else []
    messages, media = list(start), []
    for line in _lines(is_terminal):
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command == "/new":
            messages, media, waiting = list(start), [], []
            continue
        try:
            if command == "/image":
                waiting.append(read_picture(Path(rest.strip())))
                continue
            asked = Message("user", f"{IMAGE}\n" * len(waiting) + line.replace(IMAGE, "<image >"))
            wish = Wish((*messages, asked), (*media, *waiting), max_new_tokens, temperature, seed=seed)
            said = ""
            for piece in answerer.answer(wish):
                said += piece.text
                print(piece.text, end="", flush=True)
            print()
        except DataError as err:
            print(f"error: {err}", file=sys.stderr)
            waiting = []
            continue
        messages += [asked, Message("assistant", said)]
        media, waiting = [*media, *waiting], []


def read_picture(path: Path) -> Media:
    """A picture that can be decoded. Raises DataError."""
    from factory.data.images import check_image

    path = path.expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such picture. Give the path of an image file.")
    check_image(path)
    return Media(path=str(path))


def _lines(is_terminal: bool) -> Iterator[str]:
    """Lines that are not blank, until the end of the input."""
    while True:
        try:
            line = input("> ") if is_terminal else input()
        except EOFError:
            return
        if line.strip():
            yield line.strip()
