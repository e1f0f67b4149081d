"""Run directories: what a run is, its record, lock and progress; `trackers` send metrics outside."""
