"""The mutation gate: the product, broken on purpose in one place at a time, has to turn a test red."""
