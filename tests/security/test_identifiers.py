"""Identifiers of persons in text: planted ones are found, clean medical text passes, reports name the kind and never the value."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path

import pytest

from factory.contracts import DataRequest
from factory.data.identifiers import find_identifiers, masked
from factory.errors import DataError
from factory.plugins import load_pack

SHARED = Path(__file__).parents[3] / "shared" / "data" / "medicine"
PLANTED = [
    ("e-mail address", "Send the report to jane.roe+lab@clinic.example.org today.", "jane.roe+lab@clinic.example.org"),
    ("date of birth", "DOB: 04/17/1952, seen in the emergency room.", "04/17/1952"),
    ("date of birth", "Date of birth 17 April 1952", "17 April 1952"),
    ("date of birth", "Geburtsdatum: 17.04.1952", "17.04.1952"),
    ("record number", "MRN 0048-2291 was admitted with chest pain.", "0048-2291"),
    ("record number", "MRN: A7731290", "A7731290"),
    ("record number", "Medical record number: 55-10234.", "55-10234"),
    ("record number", "Patient ID: 20391", "20391"),
    ("social security number", "SSN 219-09-9998", "219-09-9998"),
    ("social security number", "His social security number: 219099998", "219099998"),
    ("insurance number", "NHS number 943 476 5919", "943 476 5919"),
    ("insurance number", "Insurance ID: XK12345678", "XK12345678"),
    ("insurance number", "Versichertennummer: A123456780", "A123456780"),
    ("phone number", "Call (415) 555-2671 with results.", "(415) 555-2671"),
    ("phone number", "Tel.: 030 1234567", "030 1234567"),
    ("phone number", "Her mobile is at +44 20 7946 0958 now.", "+44 20 7946 0958"),
    ("name", "Patient: Mr. Harold Finch\nFindings: none.", "Harold"),
    ("name", "Patient name: Finch, Harold", "Finch, Harold"),
    ("name", "PATIENT NAME: FINCH^HAROLD", "FINCH^HAROLD"),
    ("name", "Referring physician: Dr. Nora Quill", "Nora Quill"),
    ("name", "Patient: Harold Finch, 61 years", "Harold Finch"),
]
CLEAN = [
    "A 54-year-old man presents with chest pain for 2 days; BP 140/90 mm Hg, pulse 98/min, SpO2 96 %.",
    "Na+ 138 mEq/L, K+ 4.2, Cl- 101, HCO3- 24; pH 7.35, pCO2 40; glucose 110 mg/dL; WBC 12,300/mm3.",
    "Patient: Yes, Doctor. I have had a fever since Monday.\nDoctor: Thank you.",
    "Patient: Elderly Woman. History: hypertension.",
    "Patient: 54-year-old man with lung cancer, stage IIIB (T3N2M0).",
    "Trial NCT01234567, PMID 21645374, doi:10.1001/jama.2011.1234; GEO accession number GSE12345.",
    "Data of 2010-2014 from 1,234 patients; patient number 12 was left out; record number of cases in 2009.",
    "Caffeine has the CAS number 58-08-2; ethanol 64-17-5; c.1521_1523delCTT; chr7:117199646-117199649.",
    "The mean difference was +2.5 (95 % CI +1.2 to +3.8); dose 5-10-20 mg; visual acuity 20/40, +1.25 -0.50 x 90.",
    "She was born on the island in 1950 and works 12-hour shifts; tel not asked. Cell 12 x 10^9/L; cell counts 250 000.",
    "Member of the family: 3 brothers. Policy changes in 1997. Birth date is unknown. MRN: 000000. Fax: none.",
    "Apgar 8/9; G3P2; T 38.5; 01/02/2014 admission; ICD-10 I21.4; SNOMED 22298006; LOINC 4548-4.",
    "Name the finding: Pleural Effusion. Finding: Mitral Stenosis. Stain: Hematoxylin and Eosin.",
]


@pytest.mark.parametrize(("kind", "text", "value"), PLANTED)
def test_planted_identifiers_are_found_and_masked(kind, text, value):
    assert [one.kind for one in find_identifiers(text)] == [kind]
    after, kinds = masked(text)
    assert kinds == [kind] and value not in after and f"[{kind}]" in after
    assert not find_identifiers(after), "masking is stable"


@pytest.mark.parametrize("text", CLEAN)
def test_clean_medical_text_raises_no_alarm(text):
    assert find_identifiers(text) == []


def texts_of(item) -> str:
    sample = getattr(item, "sample", item)
    turns = "\n".join(turn.content for turn in sample.messages)
    return "\n".join((turns, str(getattr(item, "response", "")), str(sample.reference)))


@pytest.mark.parametrize("name", ["medicine", "pathology"])
def test_generated_texts_raise_no_alarm(name):
    pack = load_pack(name)
    request = DataRequest(limit=12)
    for what in ("samples", "lessons"):
        for item in islice(getattr(pack, what)("train", 3, request), 12):
            assert find_identifiers(texts_of(item)) == [], item.id


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the repository")
def test_published_medical_texts_raise_no_alarm():
    seen = 0
    for path in sorted(SHARED.rglob("*.json*")):
        for number, line in enumerate(path.read_text(encoding="utf-8")[:300_000].splitlines()):
            seen += len(line)
            assert find_identifiers(line) == [], f"{path.name}:{number + 1}"
    assert seen > 100_000


def test_a_hostile_text_costs_linear_time():
    for unit in ("a", "1 ", "1-", "Patient: A", "MRN 1", "a@a.", "+1 ", "NHS no 1 "):
        text = unit * (60_000 // len(unit))
        start = time.process_time()
        find_identifiers(text)
        assert time.process_time() - start < 5.0, unit


CHOICE = {"options": ["yes", "no"], "answer": "A"}
ROW = {"question": "MRN: 7741902. Is there a fracture?", **CHOICE}
GOOD = [{"question": f"Is there a fracture in film {n}?", **CHOICE} for n in range(60)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [ROW, *GOOD]))
    return path


@pytest.mark.parametrize("name", ["medicine", "pathology"])
def test_packs_of_patient_data_refuse_by_default_and_name_row_and_kind_only(table, name, tmp_path):
    pack = load_pack(name)
    request = DataRequest(paths=(str(table),), quarantine_dir=str(tmp_path / "bad"))
    report = pack.check(request)
    [bad] = report.first_bad
    assert (bad.row, bad.field) == (1, "identifiers") and "record number" in bad.reason and "7741902" not in str(bad)
    written = "".join(path.read_text() for path in (tmp_path / "bad").iterdir())
    assert "record number" in written and "7741902" not in written
    assert report.num_good == len(GOOD)


def test_the_share_of_refused_rows_stops_a_load(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**ROW, "question": f"{ROW['question']} {n}"}) + "\n" for n in range(40)))
    with pytest.raises(DataError, match="max_bad_fraction") as caught:
        list(load_pack("medicine").samples("train", 0, DataRequest(paths=(str(path),))))
    assert "7741902" not in str(caught.value) and caught.value.exit_code == 3


def test_redact_masks_and_records_and_allow_reads_and_says_so(table):
    pack = load_pack("medicine")

    def rows(mode: str):
        options = {"identifiers": mode, "splits": {"validation": 0.0, "test": 0.0}}
        request = DataRequest(paths=(str(table),), options=options)
        return list(pack.samples("train", 0, request)), pack.check(request)

    made, report = rows("redact")
    [changed] = [sample for sample in made if "identifiers" in sample.meta]
    assert "[record number]" in texts_of(changed) and "7741902" not in json.dumps(changed.to_json())
    assert changed.meta["identifiers"] == "masked: record number" and report.tallies["masked record number"] == 1
    made, report = rows("allow")
    assert any("7741902" in texts_of(sample) for sample in made) and "not looked for" in report.notes[0]


def test_other_packs_do_not_look(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"Write to a{n}@b.example?", **CHOICE}) + "\n" for n in range(30)))
    report = load_pack("safety").check(DataRequest(paths=(str(path),)))
    assert report.num_bad == 0 and report.num_good == 30
