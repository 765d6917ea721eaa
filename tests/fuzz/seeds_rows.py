"""Rows of published sets, one seed a shape, and the tables of driving that refer to each other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pack_targets import PackTarget
from seeds_science import zipped


def lines(*rows: Mapping[str, Any]) -> Callable[[Path], list[bytes]]:
    """Each row as a file of JSON lines of its own, twice: the second has another id."""
    return lambda _: [
        b"".join(json.dumps({**row, **({"id": n} if "id" in row else {})}).encode() + b"\n" for n in (1, 2)) for row in rows
    ]


BIOREASON = {"question": "What does it do?", "answer": "pathogenic; ['a_b', 'c']", "reference_sequence": "ACGTACGT", "variant_sequence": "ACGAACGT",
             "reasoning": "because"}  # fmt: skip
BIOLOGY = lines(
    BIOREASON, {"sequence": "ACGTACGTAC", "label": 1}, {"question": "q", "options": {"A": "x", "B": "y"}, "answer": "A"}, {"text": "a text"},
    {"question": "Mutation?", "answer": "b", "reference_sequence": "acgu", "mutated_sequence": "acga"},
)  # fmt: skip
CHEMISTRY = lines(
    {"id": 1, "smiles": "CCO", "exp": -0.3, "p_np": 1}, {"reaction_smiles": "CC(=O)O.CCN>>CCNC(C)=O", "conditions": ["water"]},
    {"reactants": "CCBr.[OH-]", "product": "CCO", "conditions": "water, heat"}, {"target": "CCO", "stock": ["CC=O", "[H][H]"], "route": "x"},
    {"composition": "NaCl", "e_above_hull": 0.1, "is_metal": "true", "n": 1.5}, {"problem": "p", "solution": "product_eval!:!CCO!:!reaction", "problem_type": "x"},
    {"task": "forward_synthesis", "raw_input": "CC(=O)O.CCN", "raw_output": "CCNC(C)=O", "input": "x", "sample_id": "1"},
    {"task": "property_prediction-esol", "raw_input": "<SMILES> CCO </SMILES>", "raw_output": "-0.3", "input": "x"},
    {"task": "retrosynthesis", "raw_input": "CCNC(C)=O", "raw_output": "CC(=O)O.CCN", "input": "x"},
    {"instruction": "Describe the SELFIES", "input": "[C][C][O]", "output": "an alcohol", "metadata": {"task": "molecular description generation", "split": "train"}},
    {"instruction": "React", "input": "[C][C][Br].[O]", "output": "[C][C][O]", "metadata": {"task": "forward reaction prediction"}},
    {"smiles": "CCO", "fg_name": "OH", "fg_num": 1, "fg_smarts": "[OX2H]", "fg_label": "x"}, {"smiles": "c1ccccc1CC", "largest_scaffold": "c1ccccc1"},
    {"src_smiles": "CCO", "prop": "logp"}, {"Instruction": "Add", "molecule": "CCO", "added_group": "amine", "reference": "NCCO"},
    {"Instruction": "Lower it", "molecule": "CCO", "logP": 1}, {"Instruction": "Make", "carbon": 2, "single bonds": 1, "hydroxyl": "1"},
)  # fmt: skip
TIMESERIES = lines(
    {"series": [1, 2, 3, 4, None, 6], "label": "a", "id": 1}, {"target": [1.0, 2, 3, 2, 1], "start": "2020-01-01", "item_id": "x"},
    {"values": [[1, 2, 3, 4], [2, 3, "NaN", 5]], "class": 1, "dataset": "d"},
    {"prompt": [{"role": "user", "content": "Which? <class>"}], "images": [], "reward_model": {"ground_truth": "a"}, "ability": "x", "data_source": "d"},
)  # fmt: skip
MUSIC = lines(
    {"class_name": "IntervalNumber", "question": "Which interval?", "abc_context": "L:1/4\nK:C\nC G |", "correct_answer": "perfect fifth", "incorrect_answer1": "third",
     "incorrect_answer2": "fourth", "incorrect_answer3": "sixth", "difficulty": "easy"},
    {"stem": "Which key?", "options": {"A": "C", "B": "D"}, "answer": "A", "abc_score": "X:1\nK:C\nCDE|", "subset": "reasoning"},
    {"abc_music": "X:1\nT:a\nM:4/4\nL:1/8\nK:G\nGABc d2e2 | \"G\"g4 (3fed c2 | [GBd]8 |]\n", "id": 1},
)  # fmt: skip
MEDICINE = lines(
    {"question": "Which?", "options": {"A": "gout", "B": "flu"}, "answer_idx": "A", "answer": "gout"},
    {"question": "Which? Answer Choices: (A) gout (B) flu", "label": ["A"]},
    {"question": "Which? Answer Choices: (A) gout (B) flu", "options": [{"letter": "A", "content": "gout"}, {"letter": "B", "content": "flu"}], "label": "A",
     "medical_task": "x", "images": []},
    {"id": 1, "question": "Which?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2, "exp": "because", "subject_name": "x"},
    {"question": "Is it?", "context": {"contexts": ["a", "b"]}, "final_decision": "no", "long_answer": "so", "pubid": 3},
    {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 1, "subject": "anatomy"},
    {"Open-ended Verifiable Question": "What?", "Ground-True Answer": "gout"}, {"Question": "What?", "Complex_CoT": "so", "Response": "gout"},
    {"code": "I10", "description": "high pressure"}, {"report": "A nodule.", "entities": ["nodule"]}, {"problem": "Is it? A. a B. b", "solution": "<answer>A</answer>"},
    {"messages": [{"role": "user", "content": "q"}], "reference": "a", "task": "closed", "media": [], "meta": {"group": "g"}, "response": "a"},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
)  # fmt: skip
PAIRED = (
    {"prompt": "p", "response_0": "a", "response_1": "b", "safer_response_id": 0, "better_response_id": 1, "is_response_0_safe": True, "is_response_1_safe": False},
    {"prompt": "p", "chosen": "a", "rejected": "b", "chosen_safe": True}, {"prompt": [{"role": "user", "content": "p"}], "chosen": "a", "rejected": "b"},
    {"question": "q", "image": None, "response_1": "a", "response_2": "b", "safer_response_id": 1, "more_helpful_response_id": 2,
     "response_1_harmless_rate": 0, "response_2_harmless_rate": 2},
)  # fmt: skip
PAIRS = [seed * 12 for seed in lines(*PAIRED)(Path())]
SAFETY = lines(
    *PAIRED[:3], {"id": 1, "prompt": "p", "type": "homonyms", "label": "safe", "focus": "x"},
    {"id": 1, "type": "contrast_homonyms", "prompt": "p", "completion": "c", "final_label": "1_full_compliance", "agreement": "True", "strmatch_label": "x"},
    {"Behavior": "b", "FunctionalCategory": "contextual", "SemanticCategory": "x", "BehaviorID": "b1", "ContextString": "c", "id": 1},
    {"goal": "g", "target": "t"}, {"forbidden_prompt": "f", "category": "c", "source": "s"},
    {"prompt": "p", "prompt_harm_label": "harmful", "subcategory": "x", "adversarial": True, "response": "r", "response_refusal_label": "refusal"},
    {"prompt": "p", "response": "r", "category": {"a": True, "b": False}, "is_safe": True},
    {"id": 1, "source": "gsm8k", "question": "q", "answer": "1", "constraint_name": ["length_constraints:number_words"], "constraint_args": [{"num_words": 3, "relation": "at least"}],
     "constraint_desc": ["Use few words."]},
)  # fmt: skip


def _specbench(_: Path) -> Mapping[str, bytes]:
    prompts = [{"prompt": "p", "adversarial_prompt": "q", "label": "unsafe", "source": "s"}, {"prompt": "p2", "label": "safe"}]
    specs = {"safety_specifications": ["a", "b"], "behavioral_specifications": ["c"]}
    made = {"prompts.json": prompts, "specifications.json": specs, "scenario.json": {"name": "n", "description": "d"}}
    return {f"S1/{name}": json.dumps(content).encode() for name, content in made.items()}


DRIVELM = {
    "scene": {"scene_description": "x", "key_frames": {"f1": {"key_object_infos": {}, "QA": {
        "perception": [{"Q": "What is it? A. Going ahead. B. Turning.", "A": "A", "tag": [0]},
                       {"Q": "Where?", "A": "At <c1,CAM_BACK,1088.3,497.5>.", "tag": [3], "cluster": None}],
        "planning": [{"Q": "What then?", "A": "Slow down because of the car ahead of us.", "tag": [1]}], "behavior": []},
        "image_paths": {"CAM_FRONT": "../nuscenes/samples/CAM_FRONT/f.jpg"}}}},
}  # fmt: skip


def nuscenes(_: Path) -> Mapping[str, bytes]:
    """One scene of ten key frames straight ahead at 10 m/s, and one parked car."""
    steps = range(10)
    tables: dict[str, list[Any]] = {
        "sensor": [{"token": "c", "channel": "CAM_FRONT"}], "calibrated_sensor": [{"token": "cam", "sensor_token": "c"}],
        "sample_data": [{"token": f"d{n}", "sample_token": f"s{n}", "calibrated_sensor_token": "cam", "ego_pose_token": f"p{n}",
                         "filename": f"{n}.jpg", "is_key_frame": True} for n in steps],
        "ego_pose": [{"token": f"p{n}", "timestamp": n * 500_000, "translation": [n * 5.0, 0.0, 0.0], "rotation": [1.0, 0, 0, 0]} for n in steps],
        "sample": [{"token": f"s{n}", "timestamp": n * 500_000, "scene_token": "scene"} for n in steps],
        "sample_annotation": [{"token": "a", "sample_token": f"s{n}", "translation": [30.0, 4.0, 0.0], "size": [2.0, 4.5, 1.6],
                               "rotation": [1, 0, 0, 0]} for n in steps],
        "scene": [{"token": "scene", "name": "scene-0001", "log_token": "log"}], "log": [],
    }  # fmt: skip
    return {f"v1.0-mini/{name}.json": json.dumps(rows).encode() for name, rows in tables.items()}


def comma(_: Path) -> Mapping[str, bytes]:
    """Five seconds of a segment at 10 Hz, with a car ahead."""
    import numpy as np

    times = np.arange(50) / 10
    arrays = {
        "global_pose/frame_times": times, "global_pose/frame_positions": np.array([6.3e6, 0, 0]) + times[:, None] * [0, 10, 0],
        "global_pose/frame_velocities": np.tile([0.0, 10.0, 0.0], (50, 1)), "processed_log/CAN/speed/t": times,
        "processed_log/CAN/speed/value": np.full((50, 1), 10.0), "processed_log/CAN/radar/t": times[::10],
        "processed_log/CAN/radar/value": np.tile([20.0, 0.5, -1.0, np.nan, np.nan, 1, 1], (5, 1)),
    }  # fmt: skip
    found = {}
    for name, array in arrays.items():
        out = io.BytesIO()
        np.save(out, array)
        found[f"route/1/{name}"] = out.getvalue()
    return found


RDKIT = ("rdkit", "selfies")
TARGETS: dict[str, PackTarget] = {
    "biology_rows": PackTarget("biology", "x.jsonl", BIOLOGY),
    "chemistry_rows": PackTarget("chemistry", "x.jsonl", CHEMISTRY, needs=RDKIT),
    "timeseries_rows": PackTarget("timeseries", "x.jsonl", TIMESERIES, options={"mode": "text", "classes": ["a", "1"]}),
    "music_rows": PackTarget("music", "x.jsonl", MUSIC, options={"recheck": True}),
    "medicine_rows": PackTarget("medicine", "x.jsonl", MEDICINE),
    "safety_rows": PackTarget("safety", "x.jsonl", SAFETY),
    "safety_csv": PackTarget("safety", "x.csv", zipped(b"goal,target\nWrite x,Sure\n", b"id,prompt,type,label\n1,p,homonyms,safe\n")),
    "safety_specbench": PackTarget("safety", "", lambda _: (), files=_specbench),
    "driving_rows": PackTarget("driving", "x.jsonl", lines({"image": [], "problem": "p", "solution": "<think>a</think><answer>KEEP, STRAIGHT</answer>"})),
    "driving_drivelm": PackTarget("driving", "x.json", zipped(json.dumps(DRIVELM).encode()), options={"cameras": []}),
    "driving_nuscenes": PackTarget("driving", "", lambda _: (), files=nuscenes, options={"pictures": False}),
    "driving_comma": PackTarget("driving", "", lambda _: (), files=comma),
}  # fmt: skip
