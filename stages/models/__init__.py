"""Models as the stages see them: a loaded transformers folder with its codec, log-probabilities and sampling. No torch here."""
