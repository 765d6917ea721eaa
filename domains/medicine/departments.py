"""Which of seven departments sees a case: MMedAgent-RL's triage classes (arXiv 2506.00555), labelled from the image's modality.

A teaching table. The published labels depend on modality alone; the rule for large lesions is ours, so that one step of reasoning is
asked for. It is no referral advice.
"""

from __future__ import annotations

import random

from factory.domains.medicine.phantoms import Phantom, draw_phantom

DEPARTMENTS = ("pathologist", "radiologist", "surgeon", "oncologist", "endocrinologist", "ophthalmologist", "dermatologist")
BY_VIEW = {
    ("histology", "tissue"): "pathologist", ("fundus", "eye"): "ophthalmologist", ("dermoscopy", "skin"): "dermatologist",
    ("endoscopy", "colon"): "surgeon", ("ultrasound", "thyroid"): "endocrinologist",
}  # fmt: skip
"""Views that one department reads whatever they show."""
SECTIONAL = (("xray", "chest"), ("ct", "head"), ("ct", "chest"), ("mri", "head"))
"""Views that go to oncology with a large lesion and stay with radiology otherwise."""
MODALITY_WORDS = {
    "pathologist": ("a stained tissue section", "a biopsy slide under the microscope", "a frozen section"),
    "radiologist": ("a chest radiograph", "a CT of the head without contrast", "an MRI of the knee"),
    "surgeon": ("a view during laparoscopy", "a colonoscopy frame with a polyp", "a photograph of the open abdomen"),
    "oncologist": ("a CT that shows a large mass", "a PET-CT for staging", "an MRI with a mass of 6 cm"),
    "endocrinologist": ("an ultrasound of the thyroid", "a thyroid scintigram", "a table of thyroid hormone levels"),
    "ophthalmologist": ("a fundus photograph", "an OCT of the macula", "a slit-lamp photograph"),
    "dermatologist": ("a dermoscopy of a mole", "a photograph of a rash", "a close view of a skin lesion"),
}
"""Department -> phrases that name its images, for triage from text."""


def department_of(phantom: Phantom) -> str:
    """The department that sees this image."""
    known = BY_VIEW.get((phantom.modality, phantom.organ))
    return known or ("oncologist" if phantom.size == "large" else "radiologist")


def draw_case(rng: random.Random) -> Phantom:
    """A phantom whose department is each of the seven equally often."""
    wanted = rng.choice(DEPARTMENTS)
    for view, department in BY_VIEW.items():
        if department == wanted:
            return draw_phantom(rng, modality=view[0], organ=view[1])
    modality, organ = rng.choice(SECTIONAL)
    if wanted == "oncologist":
        return draw_phantom(rng, modality=modality, organ=organ, lesion="present", size="large")
    if rng.random() < 0.5:
        return draw_phantom(rng, modality=modality, organ=organ, lesion="absent")
    return draw_phantom(rng, modality=modality, organ=organ, lesion="present", size="small")
