"""Doors to other tools: hub, llama.cpp, TRL, verl, and the row shapes of other trainers. Nothing here opens the network unasked."""
