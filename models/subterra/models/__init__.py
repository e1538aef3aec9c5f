"""Base models: what exists, where it comes from, and how it becomes a local checkpoint."""
