"""Trackers outside the run directory: TensorBoard, W&B, MLflow, trackio. They come on top of `metrics.jsonl`, which is always written."""

from palate.runs.trackers.follow import TRACKERS, About, Followers, require_trackers, tracker_names

__all__ = ["TRACKERS", "About", "Followers", "require_trackers", "tracker_names"]
