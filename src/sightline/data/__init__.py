"""From a user's images to batches: scan, inspect, audit, split, load. The user's files are only ever read."""
