"""What the base step and the overlap check draw from a pack: every sort that is there, and no other."""

from __future__ import annotations

from factory.contracts import DataRequest, Document, Media
from factory.pipeline.base_step import READ_IMAGES, _TrainingItems
from factory.pipeline.overlap import GENERATED, check_overlap, held_sorts, training_items


def partial_pack():
    """A pack whose user data holds samples only; drawing anything else fails, as loaders of real files do."""
    from fakekit import FakePack

    class Partial(FakePack):
        def gives(self, request: DataRequest) -> frozenset[str]:
            return frozenset({"samples"}) if request.paths else frozenset(self.manifest.provides)

        def lessons(self, split, seed, request):
            assert not request.paths, "asked for lessons that the files do not hold"
            return super().lessons(split, seed, request)

    return Partial()


def test_user_data_of_one_sort_is_enough_for_base_and_check(base):
    pack, request = partial_pack(), DataRequest(paths=("rows.jsonl",))
    assert held_sorts(pack, request) == ("samples",) and held_sorts(pack, DataRequest()) == ("lessons", "samples")
    assert next(iter(_TrainingItems(pack, request, 0).texts())) == "Say train 0."
    counts = check_overlap(pack, request, seed=0, eval_settings={"samples": 5, "validation_samples": 4, "seed": 1})
    # The kit yields 50 items where no limit is given: the user's data is drawn whole.
    assert counts == {"train": 50, "test": 5, "validation": 4}


def test_generated_data_is_drawn_up_to_the_limit_for_each_sort(base):
    assert sum(1 for _ in training_items(partial_pack(), DataRequest(), 0)) == 2 * GENERATED


def test_images_stop_at_the_limit(base):
    from fakekit import FakePack

    class Illustrated(FakePack):
        def gives(self, request: DataRequest) -> frozenset[str]:
            return frozenset({"corpus"})

        def corpus(self, split, seed, request):
            return (Document(str(i), "<image>", (Media(data=b"x"), Media(data=b"y")), split) for i in range(request.limit))

    assert sum(1 for _ in _TrainingItems(Illustrated(), DataRequest(), 0).images()) == READ_IMAGES
