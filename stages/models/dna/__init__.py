"""A language model that reads DNA through an encoder, as BioReason does (arXiv 2505.23579, section 3).

A sequence stands in a text as `<dna>ACGT</dna>`. `words` turns it into tokens of the encoder, numbered from the end of the
language model's table on; `model` runs the encoder over them and puts its projected states in their places; `assemble` makes
such a model from a language model and an encoder. The model is a transformers model of type `dna_qwen3`, so that training,
sampling, adapters, saving and loading work on it as on any other.
"""
