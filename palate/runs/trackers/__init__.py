"""Trackers outside the run directory: TensorBoard, W&B, MLflow, trackio. `metrics.jsonl` is always written; these come on top."""

from palate.runs.trackers.follow import TRACKERS, Followers, require_trackers, tracker_names

__all__ = ["TRACKERS", "Followers", "require_trackers", "tracker_names"]
