"""Races, kills and zombies: real processes, and what the event log says of them afterwards."""
