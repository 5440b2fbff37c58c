"""The peers that we are measured against, each in its own process and none in our environment."""
