"""Gemini enqueues: a person's sentence becomes a task, and the answer comes back when somebody has done it.

    export GEMINI_API_KEY=… TASKQUEUE_TOKEN=…          # a token with the scope `enqueue`
    python examples/gemini_enqueues.py "What is running out? I need it as a spreadsheet."

Gemini calls the queue's tools itself: google-genai takes an MCP session as a tool, runs the calls that the model asks
for, and hands the results back until the model answers in words. See examples/README.md.
"""

import asyncio
import os
import sys

import httpx2
from google import genai
from google.genai import types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

SERVER = os.environ.get("TASKQUEUE_SERVER", "http://127.0.0.1:8080") + "/mcp"
MODEL = os.environ.get("GEMINI_MODEL", "gemini-3.8-flash")

ROLE = """
You take requests for a company and have them done by the workers of the queue; you do not do the work yourself. Use a
procedure (sop) where one fits: inventory/low_stock_calculation.md, inventory/reorder_rules.md or
reports/weekly_summary.md. Wait until the task is final, then tell the person in two sentences what came of it and
where the file is.
"""


async def answer(request: str) -> str:
    """Have `request` done; return what Gemini says about it in the end."""
    headers = {"Authorization": f"Bearer {os.environ['TASKQUEUE_TOKEN']}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=90) as http,  # a call may park for 50 s
        Client(streamable_http_client(SERVER, http_client=http)) as queue,
        genai.Client().aio as gemini,
    ):
        # A dict, not a GenerateContentConfig: that cannot hold a session (googleapis/python-genai#2669).
        config = types.GenerateContentConfigDict(
            system_instruction=(queue.instructions or "") + ROLE,
            tools=[queue.session],
            automatic_function_calling={"maximum_remote_calls": 60},
        )
        response = await gemini.models.generate_content(model=MODEL, contents=request, config=config)
    return response.text or "Gemini had nothing to say."


if __name__ == "__main__":
    print(asyncio.run(answer(" ".join(sys.argv[1:]) or input("What do you need? "))))
