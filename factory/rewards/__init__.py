"""Rewards: the mixture, common verifiers, output shapes, and the isolated worker pool that runs verifiers."""
