"""From text to batches: tasks, sources, tokens, and schedules of length-bucketed batches."""
