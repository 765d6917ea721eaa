"""Formats: golden and exploit cases, what verifiers are handed, and that rendering touches nothing of the pack's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import IMAGE, Media, Message, Sample
from factory.rewards.formats import SHAPES, parse
from factory.rewards.verifiers import ClosedAnswer, FormatVerifier
from factory.stages.rl.pieces.catalogue import pieces
from factory.stages.rl.pieces.formats import FORM, HEADING, KEPT, FormatReward, ThinkAnswer, instructed, written

OWN = ("think_answer", "caption_reason_answer", "satori", "observe", "context", "no_thinking", "two_pass", "zoom")
pytestmark = [pytest.mark.proves(f"format.{name}", "table", "law") for name in OWN] + [
    pytest.mark.proves("reward.format", "table", "law")
]

TA = "<think>a</think><answer>B</answer>"
CALL = '<think>c</think><zoom>{"bbox": [1, 2, 3, 4]}</zoom>\n<tool_response>part</tool_response>\n'
GOLDEN = {
    "think_answer": TA,
    "caption_reason_answer": f"<info>i</info>\n{TA}",
    "satori": "<caption>c</caption> <bbox>[1, 2, 3, 4]</bbox> <answer>B</answer>",
    "observe": f"<observe>o</observe>{TA}",
    "context": f"<context>o</context>{TA}",
    "no_thinking": "B",
    "two_pass": f"<think>x</think><answer>A</answer><reflection>r</reflection>{TA}",
    "zoom": CALL + TA,
}
"""A completion that keeps each form and answers B."""

EXPLOITS = {
    "repeated answer": lambda text: f"{text}<answer>B</answer>",
    "text after the answer": lambda text: f"{text} and C",
    "text before": lambda text: f"B {text}",
    "nested answer": lambda text: text.replace("<answer>B</answer>", "<answer><answer>B</answer></answer>"),
    "answer inside the thinking": lambda text: text.replace("<think>a", "<think><answer>B</answer>a"),
    "thinking twice": lambda text: f"<think>a</think>{text}",
    "empty answer": lambda text: text.replace("B", " "),
    "never closed": lambda text: text.replace("</answer>", ""),
    "upper case": lambda text: text.replace("<answer>", "<ANSWER>"),
    "nothing": lambda text: "",
}


def form(name, **settings):
    return pieces()[f"format.{name}"].type(**settings)


@pytest.mark.parametrize("name", OWN)
def test_the_golden_completion_keeps_the_form_and_its_answer_is_what_verifiers_read(name, sample_of):
    found = form(name).read(GOLDEN[name])
    assert (found[FORM], found["answer"]) == (KEPT, "B")
    handed = form(name).judged(GOLDEN[name])
    assert ClosedAnswer()(handed, Sample("s", "t", (), reference="B")).score == 1.0
    # Only the form without thinking has nothing that the pack's strict form wants.
    assert FormatVerifier()(handed, sample_of()).score == float(name != "no_thinking")


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("exploit", EXPLOITS)
def test_an_exploit_breaks_the_form_and_does_not_earn_the_packs_format(name, exploit, sample_of, rollout_of, context):
    text = EXPLOITS[exploit](GOLDEN[name])
    if name == "no_thinking" and exploit in ("text after the answer", "text before"):
        # A bare answer has no mark to stand outside of; such a text is a wrong answer, which is the verifier's to say.
        assert ClosedAnswer()(form(name).judged(text), Sample("s", "t", (), reference="B")).score == 0.0
        return
    if text == GOLDEN[name]:
        pytest.skip("the exploit needs a mark that this form does not have")
    fields = dict(form(name).read(text))
    assert fields.get(FORM) != KEPT and len(fields) == 1
    if name != "think_answer":
        assert FormatVerifier()(form(name).judged(text), sample_of()).score == 0.0
    assert FormatReward().score(context(), sample_of(), rollout_of(fields=fields)) == 0.0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("caption_reason_answer", TA),
        ("caption_reason_answer", f"<info>i <think>a</think></info>{TA}"),
        ("caption_reason_answer", "<think>a</think><info>i</info><answer>B</answer>"),
        ("satori", "<bbox>[1,2,3,4]</bbox><caption>c</caption><answer>B</answer>"),
        ("satori", "<caption></think>c</caption><bbox>[1,2,3,4]</bbox><answer>B</answer>"),
        ("two_pass", TA),
        ("two_pass", f"{TA}<reflection>r</reflection>"),
        ("two_pass", f"{TA}<reflection>r</reflection><reflection>r</reflection>{TA}"),
        ("two_pass", f"{TA}<reflection><answer>B</answer></reflection>{TA}"),
        ("two_pass", f"{TA}<reflection></reflection>{TA}"),
        ("zoom", TA.replace("<answer>B</answer>", '<zoom>{"bbox": [1, 2, 3, 4]}</zoom>')),
        ("zoom", f"{TA}\n<tool_response>x</tool_response>\n{TA}"),
        ("no_thinking", TA),
        ("no_thinking", " "),
    ],
)
def test_forms_refuse_other_forms(name, text):
    assert form(name).read(text)[FORM] != KEPT


def test_two_pass_hands_over_the_second_answer_and_keeps_the_first():
    found = form("two_pass").read(GOLDEN["two_pass"])
    assert (found["first_answer"], found["answer"], found["reflection"]) == ("A", "B", "r")
    assert form("two_pass").judged(GOLDEN["two_pass"]) == "<think>x\nA\nr\na</think>\n<answer>B</answer>"


def test_must_zoom_wants_a_call_first():
    assert form("zoom", must_zoom=True).read(TA)[FORM] == "the first turn is no <zoom> call"
    assert form("zoom", must_zoom=True).read(CALL + TA) == {"think": "a", "answer": "B", FORM: KEPT, "calls": "1"}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_an_answer_is_written_in_any_form_that_verifiers_read(name):
    answer = '{"a": 1}' if name == "json" else "B"
    if name == "timemaster":
        assert parse(written(SHAPES[name], "why", answer), name).answer == answer  # its extension block is the pack's own
        return
    found = parse(written(SHAPES[name], "why", answer), name)
    assert (found.answer, found.well_formed) == (answer, True), found.reason


def test_format_reward_by_hand(rollout_of, sample_of, context):
    kept, broken = rollout_of(fields={FORM: KEPT}), rollout_of(fields={FORM: "no <answer> block"})
    # weight 0.2 with DeepEyes' 0 and -1: 0.2 * 0 and 0.2 * -1
    reward = FormatReward(weight=0.2, kept=0.0, broken=-1.0)
    assert [reward.score(context(), sample_of(), one) for one in (kept, broken)] == [0.0, -0.2]
    assert FormatReward().score(context(), sample_of(), rollout_of()) == 0.0, "a format that reads nothing keeps nothing"


def test_the_instruction_goes_to_the_system_message_or_to_the_last_question():
    user = Message("user", f"{IMAGE}\nwhat is it?")
    with_system = Sample("s", "t", (Message("system", "You read slides."), user), "B", media=(Media(data=b"x"),))
    found = form("observe").render(with_system)
    assert found.messages[0].content.startswith(f"You read slides.\n\n{HEADING}\n<observe>") and found.messages[1] == user
    without = form("observe").render(Sample("s", "t", (user, Message("assistant", "x"), user), "B"))
    assert without.messages[:2] == (user, Message("assistant", "x"))
    assert without.messages[2].content.startswith(f"{user.content}\n\n{HEADING}\n")


def test_a_pack_that_asks_for_thinking_and_answer_itself_is_left_alone():
    sample = Sample("s", "t", (Message("user", "reason in <think>, answer in <answer>"),), "B")
    assert ThinkAnswer().render(sample) == sample
    assert "in place of any form asked for before" in form("no_thinking").render(sample).messages[0].content


contents = st.text(max_size=60).filter(lambda text: HEADING not in text)


@st.composite
def samples(draw):
    roles = draw(st.sampled_from([("user",), ("system", "user"), ("system", "user", "assistant", "user")]))
    num = draw(st.integers(0, 2))
    messages = [Message(role, draw(contents).replace(IMAGE, "")) for role in roles]
    messages[-1] = Message("user", IMAGE * num + messages[-1].content)
    return Sample("s", "t", tuple(messages), "B", media=tuple(Media(data=bytes([i])) for i in range(num)))


@given(sample=samples(), first=st.sampled_from(OWN), second=st.sampled_from(OWN))
def test_rendering_twice_changes_nothing_and_another_form_replaces_the_first(sample, first, second):
    once = form(first).render(sample)
    assert form(first).render(once) == once
    assert form(second).render(once) == form(second).render(sample)
    assert instructed(once, "") == sample, "the pack's own words come back unchanged"
    assert once.text().count(IMAGE) == len(once.media) == len(sample.media)


words = st.text(alphabet="abc B[]{}1.,\n", min_size=1, max_size=20).filter(str.strip)


@given(name=st.sampled_from(OWN), answer=words, text=words)
def test_what_is_written_in_a_form_is_read_back(name, answer, text):
    whole = GOLDEN[name].replace("<think>a", f"<think>{text}")
    whole = answer if name == "no_thinking" else whole.replace(">B<", f">{answer}<")
    found = form(name).read(whole)
    assert (found[FORM], found["answer"]) == (KEPT, answer.strip())
    assert parse(form(name).judged(whole), "think_answer").answer == answer.strip()


marks = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<info>", "</info>", "<reflection>", "</reflection>", "a",
                         "<zoom>", "</zoom>", "\n<tool_response>", "</tool_response>\n", "<caption>", "</caption>", "<bbox>", "</bbox>"])  # fmt: skip


@given(name=st.sampled_from(OWN), parts=st.lists(marks, max_size=14))
def test_no_text_raises_and_only_a_kept_form_with_thinking_earns_the_packs_format(name, parts):
    text = "".join(parts)
    fields = form(name).read(text)
    handed = parse(form(name).judged(text), "think_answer")
    assert set(fields) == {FORM} or fields[FORM] == KEPT
    if name != "think_answer":
        assert not handed.well_formed or fields[FORM] == KEPT
