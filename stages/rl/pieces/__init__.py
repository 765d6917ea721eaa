"""The small parts an RL step is made of. None of these modules imports torch: `plan` reads what they need.

Shape letters: B = rollouts in a batch, T = token positions, G = rollouts of one prompt (the group).
"""
