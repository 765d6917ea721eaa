"""How much of held-out data stands in training data: by hand."""

from factory.contracts import EXACT_TEXT, IMAGE, Document, Lesson, Media, Message, Sample
from factory.data.contamination import compare, runs_of, words_of


def sample(name, text, media=(), **meta):
    return Sample(name, "t", (Message("user", text),), "a", media, meta)


def test_runs_by_hand():
    words = words_of("One, two THREE four")
    assert words == ["one", "two", "three", "four"]
    assert len(runs_of(words, 3)) == 2 and runs_of(words, 9) == runs_of(words, 4) and runs_of([], 3) == set()


def test_equal_texts_images_and_shared_runs_are_told_apart():
    long = " ".join(f"w{i}" for i in range(8))
    held = [
        sample("equal", "What is it?"),
        sample("picture", f"{IMAGE} a b c d", (Media(data=b"png"),)),
        sample("part", f"{long} end of this"),
        sample("clean", "nothing like these words"),
    ]
    training = [
        Lesson(sample("l1", "what is IT"), "answer"), sample("s1", f"{IMAGE} quite another question", (Media(data=b"png"),)),
        Document("d1", f"so {long} so"),
    ]  # fmt: skip
    found = compare(held, training, length=4)
    assert {name: hit.kinds for name, hit in found.hits.items()} == {
        "equal": {"text", "words"},
        "picture": {"image"},
        "part": {"words"},
    }
    # 11 words make 8 runs of 4, of which the 5 inside w0..w7 were met
    assert found.hits["part"].share == 5 / 8 and found.hits["part"].where == "d1"
    assert (found.num_held_out, found.num_training, found.count("words")) == (4, 3, 2)


def test_a_short_question_is_found_inside_a_longer_text_and_in_an_answer():
    found = compare(
        [sample("q", "capital of France"), sample("r", "so it is")],
        [Document("d", "the capital of France is Paris"), Lesson(sample("l", "x"), "so it is, yes")],
    )
    assert {name: hit.where for name, hit in found.hits.items()} == {"q": "d", "r": "l"}


def test_signs_count_where_they_are_the_question():
    held = [sample("exact", "C(=O)N what", **{EXACT_TEXT: True}), sample("loose", "2+3 ?")]
    found = compare(held, [sample("a", "C(O)=N what", **{EXACT_TEXT: True}), sample("b", "2-3 ?")])
    assert set(found.hits) == {"loose"}, "other signs are another question only where the pack says so"


def test_an_equal_question_under_another_image_is_not_the_same_text():
    held = [sample("h", f"{IMAGE} which ?", (Media(data=b"1"),))]
    assert compare(held, [sample("t", f"{IMAGE} which ?", (Media(data=b"2"),))]).count("text") == 0
