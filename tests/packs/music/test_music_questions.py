"""Generated questions: exact, split by what they ask, balanced, and answered the same by music21 and symusic on 5,000 samples."""

from __future__ import annotations

import collections
import itertools
import random
import re

import pytest

from factory.contracts import IMAGE, DataRequest
from factory.data.splits import split_of
from factory.domains.music.abc_reader import read_abc
from factory.domains.music.abc_writer import words
from factory.domains.music.generator import MAKERS, SPLIT_SHARES, documents, group, lessons, samples
from factory.domains.music.intervals import parse_interval
from factory.domains.music.options import COMPOSITION, SSMR, TASKS, TILE_TASKS
from factory.domains.music.pack import PACK
from factory.domains.music.pitch import from_step, parse_abc_note
from factory.domains.music.question import accepts
from factory.errors import ConfigError

VERIFIERS = PACK.verifiers()


def ask(limit, split="test", seed=0, **options):
    return list(samples(split, seed, DataRequest(limit=limit, options=options)))


def drawn(task, count=40, seed=0):
    rng, found = random.Random(f"{task}-{seed}"), []
    while len(found) < count:
        question = MAKERS[task](rng)
        if question is not None:
            found.append(question)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_right_and_no_wrong_option_is(task):
    for question in drawn(task):
        assert accepts(question.ask, question.answer)
        assert not any(accepts(question.ask, text) for text in question.distractors)
        assert len(set(question.distractors)) == len(question.distractors)
        assert question.answer not in question.distractors


@pytest.mark.parametrize("task", SSMR)
def test_ssmr_templates_have_four_options(task):
    full = [question for question in drawn(task) if len(question.distractors) == 3]
    assert len(full) >= 36


def test_ssmr_covers_its_templates():
    assert len(SSMR) == 10 and set(COMPOSITION) < set(TASKS)


def test_signatures_of_equal_length_never_compete():
    """6/8 and 3/4 are never options of one question, as in the paper."""
    from factory.domains.music.answers import read_fraction

    for question in drawn("time_signature", 100):
        lengths = [read_fraction(text) for text in (question.answer, *question.distractors)]
        assert len({lengths[0]} & set(lengths[1:])) == 0


@pytest.mark.parametrize("options", [{}, {"mode": "visual"}, {"style": "full", "form": "boxed", "choice": 1.0, "system": "ssmr"},
                                     {"style": "full", "thinking": "off", "system": "musician"}, {"voices": 4, "bars": 2}])  # fmt: skip
def test_gold_earns_everything_in_every_form(options):
    for sample in ask(60, **options):
        for name in ("answer", "format", "accuracy"):
            assert VERIFIERS[name](PACK.gold(sample), sample).score == 1.0, (name, sample)
    for lesson in lessons("train", 0, DataRequest(limit=30, options=options)):
        for name in ("answer", "format"):
            assert VERIFIERS[name](lesson.response, lesson.sample).score == 1.0, (name, lesson)


def test_a_question_belongs_to_one_split_whatever_the_seed():
    held_out = {sample.messages[-1].content for sample in ask(300, "test", 5)} | {
        sample.messages[-1].content for sample in ask(300, "validation", 6)
    }
    for seed in (0, 1):
        assert not held_out & {sample.messages[-1].content for sample in ask(600, "train", seed)}
    rng = random.Random(0)
    shares = collections.Counter(
        split_of(group(q), SPLIT_SHARES) for q in (MAKERS["note"](rng) for _ in range(3000)) if q is not None
    )
    assert 0.1 < shares["test"] / shares.total() < 0.3


def test_documents_hold_no_held_out_question():
    held_out = {sample.messages[-1].content for sample in ask(500, "test", 3, choice=0.0)}
    for document in documents("train", 0, DataRequest(limit=300, options={"choice": 0.0})):
        assert not held_out & {block.splitlines()[0] for block in document.text.split("\n\n")}


def test_the_working_of_intervals_leads_to_the_answer():
    """Natural interval + how much wider = the asked interval: computed here from semitones, not from the generator's own numbers."""
    for task in ("interval", "note"):
        for question in drawn(task):
            parts = question.steps.split(" , ")
            first, second, *name, wider = parts[-1 if task == "interval" else 1].split()
            answer = question.answer if task == "interval" else str(question.ask.params["interval"])
            natural, asked = parse_interval(" ".join(name)), parse_interval(answer)
            way = -1 if question.ask.params.get("direction") == "down" else 1
            assert way * ("cdefgab".index(second) - "cdefgab".index(first)) % 7 == natural.steps % 7
            assert natural.steps == asked.steps and natural.semitones + int(wider) == asked.semitones


def test_words_name_each_spelling_once():
    pitches = [from_step(28 + step, alter) for step in range(7) for alter in range(-2, 3)]
    assert len({pitch.word for pitch in pitches}) == 35 and words(pitches[:5]) == "ceses ces c cis cisis"


def test_the_working_of_a_missing_note_marks_the_notes_that_are_there():
    for question in drawn("chord_completion"):
        shown, members, missing = question.steps.split(" , ")
        marks = members.split()
        marked = dict(zip(marks[::2], marks[1::2], strict=True))
        assert sorted(marked.values()) == ["in", "in", "out"] and marked[missing] == "out"
        assert {name for name, place in marked.items() if place == "in"} == set(shown.split()[1:])
        assert [parse_abc_note(note).word for note in question.bare.split()] == shown.split()[1:]


def test_pictures_of_the_corpus_carry_their_question():
    request = DataRequest(limit=30, options={"mode": "visual", "textbook": 0.0, "choice": 0.0})
    for document in documents("train", 0, request):
        mark, question, working = document.text.split("\n", 2)
        assert mark == IMAGE and question.endswith("?") and " , " in working


@pytest.mark.parametrize(
    "task", ["interval", "note", "chord", "chord_root", "scale", "time_signature", "transposition", "motif", "harmonisation"]
)
def test_no_constant_answer_pays(task):
    counts = collections.Counter(question.answer for question in drawn(task, 300))
    assert counts.most_common(1)[0][1] / 300 < 0.35


def test_letters_are_balanced():
    counts = collections.Counter(sample.reference for sample in ask(600, choice=1.0, shares={"interval": 1, "chord": 1}))
    assert all(0.18 < counts[letter] / 600 < 0.32 for letter in "ABCD")


def test_visual_mode_asks_what_a_tile_can_show():
    found = ask(60, mode="visual", choice=0.0)
    assert {sample.task for sample in found} <= set(TILE_TASKS)
    assert all(len(sample.media) == 1 and sample.messages[-1].content.startswith("<image>\n") for sample in found)
    assert not any(
        re.search(r"[\^_=][A-Ga-g]", sample.messages[-1].content) for sample in found
    )  # the notes are in the picture alone


def test_options_are_drawn_where_the_paper_draws_them():
    found = ask(80, mode="visual", choice=1.0, option_images=True, shares={"note": 1, "chord_completion": 1, "chord": 1})
    for sample in found:
        wanted = 5 if sample.task in ("note", "chord_completion") else 1
        assert len(sample.media) == sample.messages[-1].content.count("<image>") == wanted


@pytest.mark.parametrize(("options", "said"), [({"mode": "audio"}, "want one of text, visual"), ({"shares": {"intervall": 1}}, "interval"), ({"moed": "text"}, "mode"),
                                               ({"shares": {"interval": 0}}, "above 0"), ({"choice": 2}, "0 to 1"), ({"mode": "visual", "shares": {"motif": 1}}, "motif")])  # fmt: skip
def test_faulty_options(options, said):
    with pytest.raises(ConfigError, match=said):
        ask(1, **options)


# --- the same answers by other libraries ---------------------------------------------------------------------------------


def spelled(sample):
    """music21 pitches of a score, from the raw text of the prompt: letters and signs by a regular expression, sound by symusic."""
    import symusic
    from music21 import pitch

    body = sample.meta["ask"]["score"].splitlines()[-1]
    keys = [
        note.pitch
        for track in symusic.Score.from_abc("X:1\n" + sample.meta["ask"]["score"] + "\n").tracks
        for note in track.notes
    ]
    letters = re.findall(r"([A-Ga-g])([,']*)", body)
    found = []
    for (letter, marks), midi in zip(letters, keys, strict=True):
        octave = (5 if letter.islower() else 4) + marks.count("'") - marks.count(",")
        natural = pitch.Pitch(f"{letter.upper()}{octave}").midi
        alter = midi - natural
        found.append(pitch.Pitch(letter.upper() + ("#" * alter if alter > 0 else "-" * -alter) + str(octave)))
    return found


def by_music21(sample):
    """The answer again, computed by music21 on pitches that symusic heard; None where it has no say."""
    from music21 import chord, interval, key, scale

    kind, params = sample.meta["ask"]["kind"], sample.meta["ask"]["params"]
    notes = spelled(sample) if sample.meta["ask"]["score"] else []
    if kind == "interval":
        return interval.Interval(*notes).niceName.lower()
    if kind == "note":
        size = interval.Interval(_short(params["interval"]))
        found = notes[0].transpose(size if params["direction"] == "up" else size.reverse())
        return found.nameWithOctave
    if kind in ("chord", "root", "inversion"):
        found = chord.Chord(notes)
        if kind == "root":
            return found.root().name
        return f"{found.root().name} {found.quality}" if kind == "chord" else found.inversion()
    if kind == "scale":
        names = {p.name for p in notes}
        for word, made in (
            ("major", scale.MajorScale),
            ("minor", scale.MinorScale),
            ("harmonic minor", scale.HarmonicMinorScale),
        ):
            if {p.name for p in made(notes[0].name).getPitches(f"{notes[0].name}4", f"{notes[0].name}5")} == names:
                return f"{notes[0].name} {word}"
    if kind == "key":
        sharps = key.Key(re.search(r"K:(\S+)", sample.meta["ask"]["score"])[1].replace("b", "-")).sharps
        found = key.KeySignature(sharps).asKey(params["mode"])
        return f"{found.tonic.name} {found.mode}"
    if kind == "transpose":
        size = interval.Interval(_short(params["interval"]))
        return [p.transpose(size if params["direction"] == "up" else size.reverse()).nameWithOctave for p in notes]
    return None


def _short(name):
    quality, number = name.rsplit(" ", 1)
    letter = {"perfect": "P", "major": "M", "minor": "m", "augmented": "A", "diminished": "d"}[quality]
    return letter + str(("unison", "second", "third", "fourth", "fifth", "sixth", "seventh", "octave").index(number) + 1)


def ours(sample):
    """Our reference in music21's words."""
    kind, answer = sample.meta["ask"]["kind"], sample.reference
    if kind == "note":
        return read_abc(f"L:1/4\nM:none\nK:C\n{answer}").melody()[0].name.replace("b", "-")
    if kind == "transpose":
        return [p.name.replace("b", "-") for p in read_abc(f"L:1/4\nM:none\nK:C\n{answer}").melody()]
    if kind == "inversion":
        return ["root position", "first inversion", "second inversion", "third inversion"].index(answer)
    tonic, _, rest = answer.partition(" ")
    if kind == "interval":
        return answer
    return f"{tonic.replace('b', '-')} {rest}".strip()


@pytest.mark.parametrize("count", [250, pytest.param(5000, marks=pytest.mark.slow)])
def test_music21_and_symusic_give_the_same_answers(extra, count):
    tasks = ("interval", "note", "chord", "chord_root", "chord_key_root", "scale", "key", "inversion", "transposition")
    stream = iter(ask(count, "train", 11, choice=0.0, shares=dict.fromkeys(tasks, 1)))
    compared = collections.Counter()
    for sample in itertools.islice(stream, count):
        again = by_music21(sample)
        assert again == ours(sample), (sample.meta["ask"], sample.reference, again)
        compared[sample.task] += 1
    assert sum(compared.values()) == count and len(compared) == len(tasks)
