"""The learned data mixture: from the scores of past runs on different mixtures to the weights of the next one (MoDoMoDo)."""
