"""The real files beside the repository: every one loads with the counts of its SOURCES.md."""

from __future__ import annotations

import json

import pytest

from factory.contracts import DataRequest
from factory.domains.medicine import PACK
from factory.domains.medicine.leaks import find_leaks
from factory.domains.medicine.loaders import LOADER


def check(*paths, **options):
    return PACK.check(DataRequest(paths=tuple(map(str, paths)), options=options))


def test_pubmedqa(real):
    report = check(real / "pubmedqa")
    assert (report.num_bad, report.num_good) == (0, 1500)  # 1,000 questions and the key of 500
    assert report.tallies["samples"] == 1000 and report.tallies["lessons"] == 1000
    request = DataRequest(paths=(str(real / "pubmedqa"),))
    test, train, validation = (list(PACK.samples(split, 0, request)) for split in ("test", "train", "validation"))
    assert (len(test), len(train) + len(validation)) == (500, 500)  # the set declares no validation part: one is cut off
    keys = json.loads((real / "pubmedqa" / "test_ground_truth.json").read_text())
    assert {sample.id.rpartition(":")[2]: sample.reference for sample in test} == keys


def test_pubmedqa_key_alone_is_read_but_gives_nothing(real):
    report = check(real / "pubmedqa" / "test_ground_truth.json")
    assert (report.num_good, report.num_bad, report.tallies["samples"]) == (500, 0, 0)


def test_medqa(real):
    report = check(real / "medqa")
    assert (report.num_good, report.num_bad) == (1273, 0)
    samples = list(PACK.samples("test", 0, DataRequest(paths=(str(real / "medqa"),))))
    assert all(sample.task == "choice" and "Answer Choices" not in sample.text() for sample in samples)
    assert all(4 <= len(sample.meta["options"]) <= 5 for sample in samples)


@pytest.mark.parametrize(("name", "rows", "good"), [("testset.json", 450, 176), ("testset_with_images.json", 176, 176)])
def test_vqa_rad_test_part(real, name, rows, good):
    # 48 of its 315 images are here: a row whose image is missing is a bad row that says so
    report = check(real / "vqa_rad" / name)
    assert (report.num_rows, report.num_good) == (rows, good)
    assert all("not found under" in bad.reason for bad in report.first_bad)


def test_vqa_rad_train_part(real):
    report = check(real / "vqa_rad" / "trainset.json")
    assert report.num_rows == 1798 and set(report.faults) <= {"image_name"}


def test_vqa_rad_types(real):
    samples = []
    for split in ("train", "validation", "test"):
        samples += PACK.samples(split, 0, DataRequest(paths=(str(real / "vqa_rad" / "testset_with_images.json"),)))
    rows = json.loads((real / "vqa_rad" / "testset_with_images.json").read_text())
    assert len(samples) == 176
    yes_no = sum(str(row["answer"]).strip(" .").lower() in ("yes", "no") for row in rows)
    assert sum(sample.task == "judgement" for sample in samples) == yes_no
    accuracy = PACK.verifiers()["accuracy"]
    assert all(accuracy(PACK.gold(sample), sample).score == 1.0 for sample in samples)


def test_vqa_rad_leak_is_reported(real):
    request = DataRequest(paths=(str(real / "vqa_rad" / "trainset.json"), str(real / "vqa_rad" / "testset.json")))
    [leak] = find_leaks(LOADER, request)
    assert (leak.shared_images, leak.images, leak.shared_pairs) == (240, 240, 3)
    assert "240 of 240 images of test also occur in train" in str(leak)
    report = PACK.check(request)
    assert any("240 of 240" in note for note in report.notes)


def test_vqa_rad_split_anew_shares_no_image(real):
    request = DataRequest(paths=(str(real / "vqa_rad"),), max_bad_fraction=1.0)
    images = {
        split: {sample.media[0].sha256() for sample in PACK.samples(split, 0, request)}
        for split in ("train", "validation", "test")
    }
    assert all(images.values())
    assert not images["train"] & images["test"] and not images["train"] & images["validation"]


def test_pictures_of_the_folder_serve_a_table(real, tmp_path):
    rows = [
        {"image": "retina_fundus.jpg", "caption": "normal left fundus"},
        {"image": "microaneurysms.png", "caption": "microaneurysms"},
    ]
    table = tmp_path / "captions.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check(table, image_root=str(real / "images"))
    assert (report.num_good, report.num_bad) == (2, 0)
