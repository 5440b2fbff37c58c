"""`python -m taskqueue_mcp` is `taskqueue-mcp`."""

from taskqueue_mcp.cli import main

if __name__ == "__main__":
    main()
