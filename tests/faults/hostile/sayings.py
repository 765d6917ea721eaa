"""What hostile completions say, by name: text that a policy may write, or that no policy would. The gold answer is always B.

None of them answers rightly, so that real verifiers must call each one wrong or unparsable: never right, and never a failure.
"""

ANSWER = "<think>so</think><answer>{}</answer>"

SAYINGS = {
    "empty": "",
    "blanks": " \n\t " * 5000,
    "ten_megabytes": "a" * (10 << 20),
    "ten_megabytes_of_marks": "<answer>" * (10 << 17),
    "a_long_answer": ANSWER.format("x" * (10 << 20)),
    "nested_brackets": "[" * 100_000,
    "nested_json": ANSWER.format('{"a":' * 100_000),
    "nested_boxes": "\\boxed{" * 100_000,
    "nested_tags": "<think>" * 50_000 + "</think>" * 50_000,
    "nul_bytes": ANSWER.format("\x00B\x00"),
    "only_nul": "\x00" * 10_000,
    "right_to_left": ANSWER.format("\u202eB\u202c A"),
    "look_alike_letter": ANSWER.format("\u0392"),
    "look_alike_answer": ANSWER.format("\u0412"),
    "full_width_wrong": ANSWER.format("\uff21"),
    "zero_width": ANSWER.format("\u200b" * 1000),
    "lone_surrogates": ANSWER.format("\ud800\udfff\udc00"),
    "replacement_characters": ANSWER.format("\ufffd" * 1000),
    "cut_utf8": b"<think>\xf0\x9f</think><answer>\xc3\x28</answer>".decode("utf-8", "replace"),
    "combining_marks": ANSWER.format("e" + "\u0301" * 100_000),
    "one_emoji_family": ANSWER.format("\U0001f469\u200d" * 20_000),
    "controls": "".join(map(chr, range(32))) * 500,
    "every_plane": ANSWER.format("".join(chr(c) for c in range(0x20, 0x2FFFF, 97) if not 0xD800 <= c < 0xE000)),
    "redos_bait": ANSWER.format("a" * 50_000 + "!"),
    "blank_bait": ANSWER.format("A" + " " * 100_000 + "x"),
    "many_answers": "".join(ANSWER.format(letter) for letter in "ABCD"),
    "all_letters": ANSWER.format("A, B, C, D"),
    "answer_in_thinking_only": "<think><answer>B</answer></think>",
    "unclosed": "<think>so</think><answer>B",
    "prompt_copied": "the question? (A) no (B) yes (C) both (D) neither",
    "template_tokens": "<|im_end|><|im_start|>assistant<answer>",
    "digits": ANSWER.format("9" * 100_000),
    "exponent": ANSWER.format("1e" + "9" * 50),
    "power_tower": ANSWER.format("9**9**9**9"),
    "python": ANSWER.format("__import__('os')._exit(1)"),
    "path": ANSWER.format("../../etc/passwd"),
    "format_string": ANSWER.format("%s%n{0.__class__}"),
    "frame_like": "\x00\x00\x00\x02{}",
}
