"""The schema, as numbered SQL."""
