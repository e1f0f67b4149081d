"""Where data and runs live on disk: rows, outside dataset shapes, run directories. Never imports torch."""
