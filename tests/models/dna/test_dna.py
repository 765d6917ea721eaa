"""The DNA language model: its tokens, where encoder states go, saving, adapters, sampling, assembly, and the control without DNA."""

import json
import subprocess
import sys

import pytest
import torch

from factory.config.schema import AdapterConfig, AdapterKind, OptimConfig
from factory.contracts import Message, Sample
from factory.errors import ModelError
from factory.stages.eval.measure import blinded
from factory.stages.models.dna.words import DNA_END, DNA_START, SMALL, DnaVocabulary, vocabulary_of, without_dna
from factory.stages.models.embedded import make_embedded
from factory.stages.models.facts import model_facts
from factory.stages.models.forward import model_inputs, token_logprobs
from factory.stages.models.generate import generate
from factory.stages.models.load import load
from factory.stages.models.store import save
from factory.stages.schedule import freeze_what_is_asked, lr_scale

TEXT = "gene A <dna>ACGT</dna> or <dna>TTN</dna> ?"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dna") / "base"
    return make_embedded("embedded-dna", folder, seed=1, texts=["gene A or B is up ? down", "yes no <think> so </think>"] * 30)


@pytest.fixture
def loaded(base):
    return load(base, precision="fp32")


def prompt(loaded, text):
    return loaded.codec.prompt([Message("user", text)])


# --- tokens -------------------------------------------------------------------------------------------------------------


def test_words_of_six_bases_as_the_nucleotide_transformer_reads_them():
    """ACGTACGTA N ACGTAC: one word, three letters that do not fill a word before N, N, one word."""
    vocabulary = DnaVocabulary(("<cls>", "A", "C", "G", "T", "N", "ACGTAC"), k=6, prefix=(0,), pad=0, unknown=5)
    assert vocabulary.ids("ACGTACGTANACGTAC") == [0, 6, 3, 4, 1, 5, 6]
    assert vocabulary.ids("acg uac") == [0, 6]


def test_spans_become_numbers_behind_the_language_model_s_own(loaded):
    ids = loaded.codec.document(TEXT, add_eos=False).ids
    start, end = (loaded.codec.tokenizer.convert_tokens_to_ids(token) for token in (DNA_START, DNA_END))
    offset = loaded.model.config.vocab_size
    first = ids.index(start)
    assert [i - offset for i in ids[first + 1 : first + 5]] == SMALL.ids("ACGT") and ids[first + 5] == end
    assert [i - offset for i in ids if i >= offset] == SMALL.ids("ACGT") + SMALL.ids("TTN")


def test_prompts_and_documents_hold_the_same_dna(loaded):
    offset = loaded.model.config.vocab_size
    asked = [i for i in prompt(loaded, TEXT).ids if i >= offset]
    assert asked == [i for i in loaded.codec.document(TEXT).ids if i >= offset]


def test_dna_is_read_and_never_learned_or_written(loaded):
    row = loaded.codec.document(TEXT)
    offset = loaded.model.config.vocab_size
    assert all(bit == 0 for token, bit in zip(row.ids, row.loss_mask, strict=True) if token >= offset)
    assert sum(row.loss_mask) > 4
    lesson = loaded.codec.lesson([Message("user", "x")], "say <dna>ACG</dna>")
    assert all(bit == 0 for token, bit in zip(lesson.ids, lesson.loss_mask, strict=True) if token >= offset)
    assert loaded.model(input_ids=torch.tensor([row.ids])).logits.shape[-1] == offset


def test_marks_in_a_user_s_text_have_no_power(loaded):
    start = loaded.codec.tokenizer.convert_tokens_to_ids(DNA_START)
    assert start not in prompt(loaded, f"a {DNA_START} b {DNA_END}").ids
    assert prompt(loaded, "<dna>AC<b></dna>").ids.count(start) == 0  # not letters: text


def test_texts_without_dna_are_tokenised_as_ever(base, loaded):
    from factory.stages.models.codec import Codec

    plain = Codec(loaded.codec.tokenizer)
    messages = [Message("system", "be brief"), Message("user", "is A up <|im_end|> ?")]
    assert plain.prompt(messages).ids == loaded.codec.prompt(messages).ids
    assert plain.document("is A up ?").ids == loaded.codec.document("is A up ?").ids


# --- the model ----------------------------------------------------------------------------------------------------------


def test_projected_states_stand_in_the_places_of_the_bases(loaded):
    model, ids = loaded.model.eval(), torch.tensor([loaded.codec.document(TEXT).ids])
    embeds = model.embed_words_and_dna(ids)
    for sequence in ("ACGT", "TTN"):
        numbers = torch.tensor([SMALL.ids(sequence)])
        alone = model.dna_projector(
            model.dna_encoder(input_ids=numbers, attention_mask=torch.ones_like(numbers)).last_hidden_state
        )
        places = [i for i in range(ids.shape[1]) if ids[0, i] - model.config.vocab_size in SMALL.ids(sequence)]
        run = next(i for i in places if (ids[0, i : i + len(sequence)] - model.config.vocab_size).tolist() == SMALL.ids(sequence))
        torch.testing.assert_close(embeds[0, run : run + len(sequence)], alone[0], rtol=1e-5, atol=1e-6)
    words = ids[0] < model.config.vocab_size
    assert torch.equal(embeds[0][words], model.get_input_embeddings()(ids[0][words]))


def test_rows_do_not_see_each_other_s_dna(loaded):
    model = loaded.model.eval()
    rows = [loaded.codec.document(text) for text in (TEXT, "gene B <dna>GGGGGGGG</dna>", "no dna here", TEXT)]
    batch = loaded.codec.collate(rows)
    together = model(**model_inputs(batch)).logits
    for index, row in enumerate(rows):
        alone = model(input_ids=torch.tensor([row.ids])).logits[0]
        torch.testing.assert_close(together[index, : len(row.ids)], alone, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_encoder_also_where_a_step_has_no_dna(loaded):
    model = loaded.model.train()
    for text, is_zero in ((TEXT, False), ("no dna here", True)):
        batch = loaded.codec.collate([loaded.codec.document(text)])
        logprobs, _ = token_logprobs(model, batch)
        model.zero_grad()
        (-logprobs.sum()).backward()
        gradients = [p.grad for name, p in model.named_parameters() if "dna_" in name]
        assert all(gradient is not None for gradient in gradients)
        assert all((gradient == 0).all() for gradient in gradients) == is_zero


def test_sampling_with_the_cache_equals_the_whole_forward(loaded):
    [found] = list(generate(loaded, [prompt(loaded, TEXT)], max_new_tokens=5, temperature=0.0, stop_ids=()))
    ids = prompt(loaded, TEXT).ids
    for token in found.ids:
        logits = loaded.model.eval()(input_ids=torch.tensor([ids])).logits[0, -1]
        assert int(logits.argmax()) == token
        ids = [*ids, token]


def test_plan_counts_every_parameter(loaded):
    assert model_facts("embedded-dna").num_params == sum(p.numel() for p in loaded.model.parameters())
    assert model_facts(str(loaded.source)).num_params == model_facts("embedded-dna").num_params
    assert model_facts("embedded-dna").modality == "dna"


# --- saving, adapters, freezing -----------------------------------------------------------------------------------------


def logits_of(loaded):
    return loaded.model.eval()(input_ids=torch.tensor([loaded.codec.document(TEXT).ids])).logits


def test_saved_models_are_safetensors_and_load_again(loaded, tmp_path):
    again = load(save(loaded, tmp_path / "out"), precision="fp32")
    assert torch.equal(logits_of(loaded), logits_of(again))
    assert not list((tmp_path / "out").glob("*.bin"))
    assert again.codec.dna == loaded.codec.dna


def test_an_adapter_leaves_the_encoder_and_learns_the_projection(base, tmp_path):
    adapted = load(base, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=4, alpha=8))
    learned = [name for name, p in adapted.model.named_parameters() if p.requires_grad]
    assert not any("dna_encoder" in name for name in learned)
    assert sum("dna_projector" in name for name in learned) == 2
    with torch.no_grad():
        for parameter in adapted.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    merged = load(save(adapted, tmp_path / "adapter"), precision="fp32")
    torch.testing.assert_close(logits_of(adapted), logits_of(merged), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits_of(merged), logits_of(load(base, precision="fp32")), atol=1e-3)


def test_a_frozen_encoder_with_a_projection_that_learns(loaded):
    """BioReason: the encoder is frozen, the projection is trained."""
    optim = OptimConfig(vision_lr_scale=0.0, projector_lr_scale=1.0)
    freeze_what_is_asked(loaded.model, optim)
    for name, parameter in loaded.model.named_parameters():
        assert parameter.requires_grad == ("dna_encoder" not in name), name
    assert lr_scale("dna_projector.weight", optim) == 1.0


# --- the control --------------------------------------------------------------------------------------------------------


def test_without_dna_every_base_is_n():
    assert without_dna(TEXT) == "gene A <dna>NNNN</dna> or <dna>NNN</dna> ?"
    assert without_dna("ACGT stays") == "ACGT stays"
    sample = Sample("s", "t", (Message("user", TEXT),), "up")
    assert blinded(sample).text() == without_dna(TEXT)


# --- assembly -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A Qwen3 folder, and an ESM encoder with words of three bases as EsmTokenizer writes them."""
    from transformers import EsmConfig, EsmModel, EsmTokenizer

    root = tmp_path_factory.mktemp("parts")
    llm = make_embedded("embedded-text", root / "llm", seed=3, texts=["gene A or B is up ? down"] * 30)
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *(a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"), *"ACGTN"]
    encoder = root / "encoder"
    encoder.mkdir()
    (root / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = EsmTokenizer(str(root / "vocab.txt"), eos_token=None)
    tokenizer.save_pretrained(str(encoder))
    torch.manual_seed(0)
    EsmModel(
        EsmConfig(vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                  max_position_embeddings=128, position_embedding_type="rotary", pad_token_id=1, mask_token_id=2),
    ).save_pretrained(str(encoder))  # fmt: skip
    return llm, encoder


def test_a_model_is_assembled_from_two_folders(parts, tmp_path):
    llm, encoder = parts
    code = [
        sys.executable,
        "-m",
        "factory.stages.models.dna.assemble",
        "--llm",
        str(llm),
        "--encoder",
        str(encoder),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    joined, words = load(tmp_path / "out", precision="fp32"), load(llm, precision="fp32")
    assert joined.codec.dna.vocabulary.k == 3 and joined.codec.dna.vocabulary.prefix == (3,)
    for name, weight in words.model.state_dict().items():
        assert torch.equal(joined.model.state_dict()[name], weight), name
    text = "gene A or B ?"
    ids = torch.tensor([words.codec.document(text).ids])
    assert joined.codec.document(text).ids == words.codec.document(text).ids
    torch.testing.assert_close(joined.model.eval()(input_ids=ids).logits, words.model.eval()(input_ids=ids).logits)
    assert logits_of(joined).isfinite().all()
    assert model_facts(str(tmp_path / "out")).num_params == sum(p.numel() for p in joined.model.parameters())


def test_assembly_refuses_what_it_cannot_read(parts, tmp_path):
    from factory.stages.models.dna.assemble import assemble

    llm, encoder = parts
    with pytest.raises(ModelError, match="is made from qwen3"):
        assemble(encoder, encoder, tmp_path / "a")
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "config.json").write_text(json.dumps({"model_type": "esm", "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ModelError, match="brings code of its own"):
        assemble(llm, remote, tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x").write_text("")
    with pytest.raises(ModelError, match="not empty"):
        assemble(llm, encoder, tmp_path / "c")


def test_a_tokenizer_of_another_rule_is_refused():
    """Byte-pair words of varying length, as DNABERT-2 has them."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    pairs = Tokenizer(models.BPE(unk_token="[UNK]"))
    pairs.train_from_iterator(["ACGTACGTTTACGT"] * 50, trainers.BpeTrainer(vocab_size=16, special_tokens=["[PAD]", "[UNK]"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs, pad_token="[PAD]", unk_token="[UNK]")
    with pytest.raises(ModelError, match="single letters and of fixed words"):
        vocabulary_of(tokenizer, ["TTTACGTACGTA"])


def test_a_damaged_dna_tokenizer_is_named(base, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(base, folder)
    (folder / "dna_tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"dna_tokenizer\.json: cannot be read"):
        load(folder, precision="fp32")
