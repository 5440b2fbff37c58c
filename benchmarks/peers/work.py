"""What every library is given to keep: the same task, and the same result where it keeps one."""

from __future__ import annotations

import json

TITLE = "Count what is low"
INSTRUCTIONS = "Read the stock of every product and write the ones below their threshold into a file."
SUMMARY = "12 products are low"
TASK = {"title": TITLE, "instructions": INSTRUCTIONS}
TASK_TEXT = json.dumps(TASK)
