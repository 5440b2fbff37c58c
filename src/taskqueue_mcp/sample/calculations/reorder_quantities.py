"""How much to reorder, as a calculation: parameters as JSON on stdin, the result as JSON on stdout.

It takes `{"items": [{"sku", "quantity", "reorder_point", "daily_sales", "pack_size", "unit_cost"}, …]}`, with
`cover_days` (14) and `most_days` (60), by the rules of the procedure `inventory/reorder_quantities.md`.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any


def packs(item: dict[str, Any], cover_days: float, most_days: float) -> int:
    """Return how many whole packs to order, at least one; none of what is not below its reorder point."""
    if item["quantity"] >= item["reorder_point"]:
        return 0
    wanted = item["reorder_point"] + item["daily_sales"] * cover_days - item["quantity"]
    most = max(item["daily_sales"] * most_days, 1)
    count: int = math.ceil(min(wanted, most) / item["pack_size"])
    return max(1, count)


def orders(given: dict[str, Any]) -> dict[str, Any]:
    """Return the lines to order, the dearest first, and what they cost."""
    lines = []
    for item in given["items"]:
        count = packs(item, given.get("cover_days", 14), given.get("most_days", 60))
        if count:
            units = count * item["pack_size"]
            cost = round(units * item.get("unit_cost", 0), 2)
            lines.append({"sku": item["sku"], "packs": count, "order_quantity": units, "order_cost": cost})
    lines.sort(key=lambda line: (-line["order_cost"], line["sku"]))
    return {"lines": lines, "products": len(lines), "total_cost": round(sum(line["order_cost"] for line in lines), 2)}


if __name__ == "__main__":
    json.dump(orders(json.load(sys.stdin)), sys.stdout)
