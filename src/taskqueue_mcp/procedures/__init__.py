"""Procedures (SOPs): Markdown files with front matter, read from one folder and from nowhere else."""
