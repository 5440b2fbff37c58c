"""The edges: they translate between the world and the service, and hold no rules."""
