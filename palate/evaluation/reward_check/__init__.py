"""`palate reward-check`: what a reward model's scores rest on. Each file measures one thing; `faults` names what is wrong."""
