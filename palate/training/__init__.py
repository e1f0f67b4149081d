"""Training: the learner (accumulate, clip, step), its checkpoints, and the loop over an epoch's batches."""
