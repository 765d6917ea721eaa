"""`factory domains new`: packs that pass their checks as written, and proposals that fit the user's rows."""

import csv
import json
import random
import shutil
import sys

import pytest

from factory.contracts import DataRequest
from factory.errors import BrokenPlugin, ConfigError, DataError
from factory.packs.propose import kind_of, look, propose
from factory.packs.questions import read_questions
from factory.packs.scaffold import new_pack
from factory.packs.table import TablePack

ROCKS = {
    "granite": ("coarse", "pink", 2.65, "no"), "basalt": ("fine", "black", 2.9, "no"), "obsidian": ("glassy", "black", 2.4, "no"),
    "limestone": ("fine", "white", 2.6, "yes"), "marble": ("coarse", "white", 2.7, "yes"),
}  # fmt: skip


def write_rocks(path, rows=200):
    rng = random.Random(1)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["specimen", "grain", "colour", "mass_g", "density", "fizzes", "rock"])
        for index in range(rows):
            rock = rng.choice(list(ROCKS))
            grain, colour, density, fizzes = ROCKS[rock]
            table.writerow(
                [
                    f"S{index:03}",
                    grain,
                    colour,
                    rng.randrange(50, 900),
                    round(density + rng.uniform(-0.05, 0.05), 2),
                    fizzes,
                    rock,
                ]
            )
    return path


def write_questions(path, rows=160):
    rng = random.Random(2)
    with path.open("w") as file:
        for index in range(rows):
            a, b = rng.randrange(1000), rng.randrange(1000)
            row = [
                {
                    "question": f"Which is larger, {a} or {b + 1000}?",
                    "options": [str(a), str(b + 1000)],
                    "answer": "B",
                    "explanation": "compare",
                },
                {"question": f"Is {a} below {b}?", "answer": "yes" if a < b else "no", "explanation": f"{a} and {b}"},
                {"question": f"{a} plus {b}?", "answer": a + b, "explanation": "add"},
                {"question": f"Colour of stone {a}-{b}?", "answer": rng.choice(["red", "green", "blue"]), "explanation": "look"},
                {
                    "question": f"Describe stone {a}-{b}.",
                    "answer": "it is a rather plain stone of no special make",
                    "explanation": "look",
                },
            ][index % 5]
            file.write(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize(
    "values, kind",
    [
        (["yes", "No", "no."], "yes_no"), ([True, False], "yes_no"), (["1.5", 2, "3e4"], "number"), (["2.7 g/cm^3"] * 9, "number"),
        (["red", "green"] * 9, "label"), ([f"name {i}" for i in range(30)], "text"), (["one two three four five six"] * 9, "long"),
    ],
)  # fmt: skip
def test_kinds_of_answers_are_told_from_the_cells(values, kind):
    assert kind_of(values) == kind


def test_a_plain_table_is_asked_for_its_last_label_statement_and_number(tmp_path):
    found = propose(look(write_rocks(tmp_path / "rocks.csv")))
    assert [(task.name, task.kind) for task in found.questions.tasks] == [
        ("rock", "label"),
        ("fizzes", "yes_no"),
        ("density", "number"),
    ]
    assert found.questions.tasks[0].labels == tuple(sorted(ROCKS))
    assert found.questions.tasks[0].columns == ("grain", "colour", "mass_g"), "no answer and no running number is given away"
    assert found.questions.tolerance == 0.01, "2 % would take most other densities for right"
    assert found.counts == {"rock": 200, "fizzes": 200, "density": 200}
    named = propose(look(tmp_path / "rocks.csv"), ["colour"]).questions
    assert [task.name for task in named.tasks] == ["colour"] and "rock" in named.tasks[0].columns


def test_questions_of_many_kinds_become_a_task_each(tmp_path):
    found = propose(look(write_questions(tmp_path / "qa.jsonl")))
    assert [task.kind for task in found.questions.tasks] == ["letter", "yes_no", "number", "label", "long"]
    assert set(found.counts.values()) == {32} and found.questions.shape == "think_answer"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_same_rows_in_any_table_give_the_same_proposal(tmp_path, ending):
    source = write_rocks(tmp_path / "rocks.csv")
    path = tmp_path / f"other.{ending}"
    rows = look(source)
    if ending == "csv":
        shutil.copy(source, path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert propose(look(path)) == propose(rows)


def test_what_cannot_be_asked_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("question,answer\n" + "a,b\n" * 5)
    with pytest.raises(DataError, match=r"5 readable rows; want at least 30"):
        look(path)
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}]}) + "\n")
    path.write_text(path.read_text() * 40)
    with pytest.raises(DataError, match=r"its rows are conversations .* --data"):
        look(path)
    essays = [{"question": f"Why {i}?", "answer": f"because of this and that and much more {i}"} for i in range(40)]
    with pytest.raises(DataError, match=r"every answer is free text"):
        propose(essays)
    with pytest.raises(DataError, match=r"--answer colr: no such column. Did you mean 'colour'"):
        propose(look(write_rocks(tmp_path / "rocks.csv")), ["colr"])


def test_names_and_folders_that_are_taken_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(ConfigError, match=r"there is a pack 'pathology' already, from built-in"):
        new_pack("pathology", tmp_path / "x")
    with pytest.raises(ConfigError, match=r"cannot name a pack"):
        new_pack("My-Pack", tmp_path / "x")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match=r"exists. Give another folder with --to"):
        new_pack("geology", tmp_path / "there")
    bad = tmp_path / "bad.csv"
    bad.write_text("x,y\n" + "1,1\n" * 40)
    with pytest.raises(DataError, match=r"no column can be asked for"):
        new_pack("geology", tmp_path / "new", source=bad)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "there"]


@pytest.mark.parametrize("source", ["", "rocks.csv", "qa.jsonl"])
def test_a_pack_passes_its_checks_as_written(site, factory, tmp_path, source):
    """With Loader's bad-row report, splits by question and all verifiers of the factory behind it."""
    table = {"rocks.csv": write_rocks, "qa.jsonl": write_questions}[source](tmp_path / source) if source else None
    made = new_pack("minerals", tmp_path / "pack", source=table, title='Rocks: "and" more')
    site.add("factory-pack-minerals", {"factory.domain_packs": {"minerals": "factory_pack_minerals:PACK"}})
    shutil.copytree(made.folder / "factory_pack_minerals", site.folder / "factory_pack_minerals")
    done = factory("domains", "check", "minerals", "--json")
    faults = [row for row in json.loads(done.stdout)["checks"] if row["is_fault"]]
    assert faults == [] and done.returncode == 0
    own = made.folder / "tests" / "test_conformance.py"
    assert 'parametrize_with_pack_checks("minerals", slow=True)' in own.read_text()


def test_the_generated_tests_run_under_pytest(site, tmp_path):
    import subprocess

    made = new_pack("minerals", tmp_path / "pack")
    site.add("factory-pack-minerals", {"factory.domain_packs": {"minerals": "factory_pack_minerals:PACK"}})
    shutil.copytree(made.folder / "factory_pack_minerals", site.folder / "factory_pack_minerals")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-k", "manifest or fixtures", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=made.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


def table_pack(tmp_path):
    made = new_pack("minerals", tmp_path / "pack", source=write_rocks(tmp_path / "rocks.csv"))
    return made.folder / "factory_pack_minerals"


def test_a_row_that_does_not_fit_is_named_with_file_row_and_field(tmp_path):
    pack = TablePack(table_pack(tmp_path))
    data = tmp_path / "more.csv"
    data.write_text(
        (tmp_path / "rocks.csv").read_text() + "S900,fine,black,10,heavy,no,basalt\nS901,fine,black,10,2.9,no,cheese\n"
    )
    report = pack.check(DataRequest(paths=(str(data),)))
    found = report.to_json()
    assert found["bad"] == 2 and found["good"] == 200
    assert [(bad["row"], bad["field"]) for bad in found["first_bad"]] == [(202, "density"), (203, "rock")]
    assert (
        "'heavy' is no number" in found["first_bad"][0]["reason"]
        and "'cheese' is not among the labels" in found["first_bad"][1]["reason"]
    )


def test_rows_that_ask_the_same_stay_in_one_split(tmp_path):
    pack = TablePack(table_pack(tmp_path))
    where = {}
    for split in ("train", "validation", "test"):
        for sample in pack.samples(split, 0, DataRequest()):
            where.setdefault((sample.task, sample.text()), set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())
    assert {split for splits in where.values() for split in splits} == {"train", "validation", "test"}


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("kind: label", "kind: lable", "tasks.rock.kind is 'lable'. Did you mean 'label'"),
        ("shape: answer", "shape: anser", "Did you mean 'answer'"),
        ("answer: rock\n", "anser: rock\n", "tasks.rock.anser is unknown. Did you mean 'answer'"),
        ("tolerance: 0.01", "tolerance: -1", "tolerance is -1; want a share"),
    ],
)
def test_a_slip_in_questions_yaml_names_the_key(tmp_path, old, new, told):
    folder = table_pack(tmp_path)
    file = folder / "questions.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(BrokenPlugin, match=r"questions.yaml: .*" + told):
        read_questions(folder)


def test_a_template_reaches_no_attribute_of_a_cell(tmp_path):
    from factory.data.rows import RowFault
    from factory.packs.table import filled

    assert filled("{a} and {b c}", {"a": 1, "b c": "x"}) == "1 and x"
    with pytest.raises(RowFault, match=r"column is missing"):
        filled("{a.__class__}", {"a": 1})


def test_images_come_along_and_make_the_pack_visual(tmp_path):
    from PIL import Image

    rng = random.Random(3)
    (tmp_path / "img").mkdir()
    rows = []
    for index in range(60):
        colour = rng.choice([(255, 0, 0), (0, 0, 255)])
        Image.new("RGB", (32, 32), tuple(min(255, part + index) for part in colour)).save(tmp_path / "img" / f"{index}.png")
        rows.append({"image": f"img/{index}.png", "question": "red or blue?", "answer": "red" if colour[0] else "blue"})
    table = tmp_path / "stones.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pack = TablePack(new_pack("stones", tmp_path / "pack", source=table).folder / "factory_pack_stones")
    assert pack.manifest.modality == "vl"
    sample = next(iter(pack.samples("train", 0, DataRequest(limit=1))))
    assert sample.task == "label" and len(sample.media) == 1 and sample.messages[-1].content.startswith("<image>")
    rows[0]["image"] = "../outside.png"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"the image '../outside.png' is not a file beside the table"):
        new_pack("pebbles", tmp_path / "other", source=table)
