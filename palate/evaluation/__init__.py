"""What was gained and what was lost: pure statistics (numpy) and the report.

Import from the modules: `intervals`, `calibration`, `best_of_n`, `overoptimisation`, `length`, `refusal`, `report`.
"""
