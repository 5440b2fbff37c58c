"""The queue as an MCP server: tools, resources, prompts, and the pipe they are served on."""
