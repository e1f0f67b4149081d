"""Training: the learner and its checkpoints, the loop of epochs, guards, and how data become batches for each loss."""
