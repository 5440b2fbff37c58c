"""PDF files, laid out by WeasyPrint in a process of its own: it can be ended, and its memory has a bound."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

BETWEEN_LOOKS: Final = 0.1
"""Seconds until the next look at whether the file is still wanted."""
PASSED_ON: Final = (
    "PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "XDG_CACHE_HOME", "XDG_DATA_DIRS",
    "FONTCONFIG_PATH", "FONTCONFIG_FILE", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "WEASYPRINT_DLL_DIRECTORIES",
)  # fmt: skip
"""Variables that fonts and libraries are found by; no other reaches the process."""


class PdfFailed(InvalidInput):
    """The page could not be laid out; the message says what to do."""


class PdfTimedOut(PdfFailed):
    """It took too long."""


def pdf(html: str, *, seconds: float, wanted: Callable[[], None] | None = None) -> bytes:
    """Return a page as a PDF file; nothing is fetched for it. `wanted` is called often, and may raise to end it.

    Raises:
        PdfFailed: the extra or a library of the system is missing, or WeasyPrint gave up.
        PdfTimedOut: it took longer than `seconds`.
    """
    until = time.monotonic() + seconds
    command = [sys.executable, "-P", "-m", "taskqueue_mcp.outputs.documents.printing", str(max(1, int(seconds)))]
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # A file and no pipe: a page that does not fit into a pipe would need somebody to go on filling it between looks.
    with tempfile.TemporaryFile() as page:
        page.write(html.encode(errors="replace"))
        page.seek(0)
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, env=environment, stdin=page, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    try:
        found, told = _talked(process, until, seconds, wanted)
    finally:
        with suppress(OSError):
            process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()
    if process.returncode == 0 and found.startswith(b"%PDF-"):
        return found
    lines = told.decode(errors="replace").strip().splitlines()
    why = lines[-1][:500] if lines else f"its process ended with code {process.returncode}"
    raise PdfFailed(f"the PDF file could not be made: {why}")


def _talked(
    process: subprocess.Popen[bytes], until: float, seconds: float, wanted: Callable[[], None] | None
) -> tuple[bytes, bytes]:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=BETWEEN_LOOKS)
        if wanted is not None:
            wanted()
        if time.monotonic() > until:
            raise PdfTimedOut(f"the PDF file took longer than {seconds:g} s; show fewer rows or give it longer")
