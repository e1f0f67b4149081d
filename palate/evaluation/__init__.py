"""Measurements of models: what training gained and lost. Statistics in numpy, measurements of reward models, and the report.

Import from the modules, for example `intervals`, `calibration`, `evals`, `reward_model` or `report`.
"""
