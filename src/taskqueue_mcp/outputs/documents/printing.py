"""The process that lays out one PDF file: HTML on stdin, the file on stdout, one line on stderr if it cannot."""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Any, Final

MEMORY: Final = 2 * 1024 * 1024 * 1024
"""Bytes of address space beyond which the process ends instead of the machine suffering."""
NEEDS_PANGO: Final = (
    "Pango, which WeasyPrint lays text out with, is missing or broken on this machine; install it "
    "(Debian: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0; macOS: brew install pango)"
)
NEEDS_EXTRA: Final = "PDF files need WeasyPrint; install it with: pip install 'taskqueue-mcp[pdf]'"


def main() -> int:
    """Lay out what comes in; return the exit code."""
    _bounded(int(sys.argv[1]))
    if importlib.util.find_spec("weasyprint") is None:
        return _refused(NEEDS_EXTRA)
    try:
        import weasyprint  # noqa: PLC0415 - an extra, and a library of the system behind it
    except OSError as error:
        return _refused(f"{NEEDS_PANGO}: {' '.join(str(error).split())[:160]}")
    except ImportError as error:
        return _refused(f"{NEEDS_EXTRA} ({error})")
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    page = sys.stdin.buffer.read().decode()
    try:
        document = weasyprint.HTML(string=page, url_fetcher=_fetcher(weasyprint), base_url=None).render()
        sys.stdout.buffer.write(document.write_pdf())
    except MemoryError:
        return _refused("the page is too large to lay out; show fewer rows")
    except Exception as error:  # noqa: BLE001 - the edge of a process: whatever went wrong is told in a line
        return _refused(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    sys.stdout.buffer.flush()
    return 0


def _fetcher(weasyprint: Any) -> Any:
    """Only what the page carries itself: no file of this machine and no address is ever opened."""

    class OnlyData(weasyprint.URLFetcher):  # type: ignore[misc]  # known when the extra is there
        def fetch(self, url: str, headers: Any = None) -> Any:
            if not url.lower().startswith("data:"):
                raise ValueError("a document fetches nothing")
            return super().fetch(url, headers)

    return OnlyData(allowed_protocols=("data",), allow_redirects=False)


def _bounded(seconds: int) -> None:
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 5, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refused(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
