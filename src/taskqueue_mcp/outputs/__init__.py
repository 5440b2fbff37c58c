"""Files that attempts make: where they may lie, how they appear, and what stands in their cells."""
