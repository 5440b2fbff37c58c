"""A message to a destination of the owner's list, with files of the output folder; nothing else can be addressed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import anyio
import anyio.to_thread
from pydantic import AfterValidator, Field

from taskqueue_mcp.errors import InvalidInput, LimitReached, NotFound, SettingsRefused, TaskQueueError
from taskqueue_mcp.executors.base import Executor, Params
from taskqueue_mcp.model import Completed, Failed, Returned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from taskqueue_mcp.executors.base import Run
    from taskqueue_mcp.model import Outcome
    from taskqueue_mcp.outputs.folder import OutputFolder, WrittenFile

Tls = Literal["starttls", "implicit", "none"]

MOST_FILES: Final = 20
MOST_BYTES: Final = 20 * 1024 * 1024
LONGEST_SUBJECT: Final = 200
LONGEST_TEXT: Final = 200_000
SECONDS: Final = 60
"""How long one answer of the mail server may take where the task does not say."""
PREFLIGHT_SECONDS: Final = 5.0
FIRST_PERMANENT: Final = 500
LONGEST_ANSWER: Final = 200
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
ADDRESS: Final = re.compile(r"[^\s@<>(),;:\"\[\]\\]+@[A-Za-z0-9.-]+")
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _one_line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("holds a line break or another control character")
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class MailParams(Params):
    """A message. Whom it reaches is the owner's to say: `to` is a name of the settings, never an address."""

    to: Line = Field(min_length=1, max_length=100, description="Name of a configured destination")
    subject: Line | None = Field(
        default=None, max_length=LONGEST_SUBJECT, description="One line; the task's title unless given"
    )
    text: str | None = Field(
        default=None, max_length=LONGEST_TEXT, description="Plain text; the task's instructions unless given"
    )
    attach: list[Line] = Field(default=[], max_length=MOST_FILES, description="Files, relative to the output folder")
    attach_inputs: bool = Field(default=True, description="Attach the files of the tasks that this one depends on")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where messages are handed in, and as whom."""

    host: str
    port: int = 587
    tls: Tls = "starttls"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None


class Mail(Executor[MailParams]):
    """Sends messages to named destinations.

    Raises:
        SettingsRefused: an address is none, or a password would go over the network in clear.
    """

    name: ClassVar[str] = "mail"
    description: ClassVar[str] = "Sends a message with files of the output folder to a destination that the owner named"
    params = MailParams

    def __init__(
        self,
        server: MailServer | None,
        *,
        sender: str | None,
        destinations: Mapping[str, Sequence[str]],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        faults = [
            f"{address!a} is no address such as name@example.com"
            for address in [*([sender] if sender else []), *(each for found in destinations.values() for each in found)]
            if ADDRESS.fullmatch(address) is None or not address.isascii()
        ]
        faults += [f"destination {name!a} has no address" for name, found in destinations.items() if not found]
        if server is not None and sender is None:
            faults.append("sender is missing: say as whom messages are sent")
        if server is not None and server.tls == "none" and server.password and server.host not in LOOPBACK:
            faults.append(f"the password for {server.host} would go in clear; use tls starttls or implicit")
        if faults:
            raise SettingsRefused(f"worker.mail: {'; '.join(faults)}")
        self._server = server
        self._sender = sender or ""
        self._destinations = {name: tuple(found) for name, found in destinations.items()}
        self._most_bytes = most_bytes

    async def preflight(self) -> str | None:
        """Whether a server and a destination are set, and the server answers."""
        if self._server is None:
            return "mail: no server is set; set worker.mail.host and worker.mail.sender"
        if not self._destinations:
            return "mail: no destination is set; set worker.mail.destinations"
        place = (self._server.host, self._server.port)
        try:
            await anyio.to_thread.run_sync(lambda: socket.create_connection(place, PREFLIGHT_SECONDS).close())
        except OSError as error:
            return f"mail: {place[0]}:{place[1]} cannot be reached ({error.strerror or error}); is the server up?"
        return None

    async def run(self, params: MailParams, run: Run) -> Outcome:
        """Send the message, or say in a line why not."""
        if self._server is None:
            return Failed("this worker has no mail server; set worker.mail.host", permanent=True)
        try:
            recipients = self._recipients(params.to)
            files = await anyio.to_thread.run_sync(self._files, params, run)
            message = self._message(params, run, recipients, files)
        except NotFound as error:
            return Failed(f"{error}; is the file made on this machine, and synced?")
        except (TaskQueueError, MessageError, ValueError) as error:
            return Failed(f"the message cannot be written: {' '.join(str(error).split())}", permanent=True)
        await run.progress(None, f"Sending to {params.to}")
        delivery = _Delivery(self._server, run.timeout_seconds or SECONDS)
        outcome = await self._delivered(delivery, message, recipients, run)
        if outcome is not None:
            return outcome
        refused = len(delivery.refused)
        told = f"; {refused} of {len(recipients)} addresses were refused" if refused else ""
        along = f" with {len(files)} {'file' if len(files) == 1 else 'files'}" if files else ""
        summary = f"Sent {message['Subject']!s} to {params.to}{along}{told}"
        return Completed(
            summary,
            data={
                "to": params.to,
                "recipients": len(recipients) - refused,
                "refused": refused,
                "message_id": str(message["Message-ID"]),
                "attachments": [_described(each.written) for each in files],
            },
        )

    async def _delivered(
        self, delivery: _Delivery, message: EmailMessage, recipients: tuple[str, ...], run: Run
    ) -> Outcome | None:
        """Hand the message in; None once it was taken."""
        failure: Outcome | None = Returned(None, "stopped before the message was handed in")
        async with anyio.create_task_group() as group:

            async def break_off() -> None:
                await run.stop.wait()
                delivery.break_off()

            group.start_soon(break_off)
            try:
                await anyio.to_thread.run_sync(delivery.send, self._sender, recipients, message)
                failure = None
            except (smtplib.SMTPException, OSError) as error:
                failure = failure if run.stop.is_set() else _failed(error, self._server)
            group.cancel_scope.cancel()
        return failure

    def _recipients(self, name: str) -> tuple[str, ...]:
        found = self._destinations.get(name)
        if found is None:
            known = ", ".join(sorted(self._destinations)) or "none; the owner names them in worker.mail.destinations"
            raise InvalidInput(f"there is no destination {name[:80]!a}; there is {known}")
        return found

    def _files(self, params: MailParams, run: Run) -> list[_File]:
        """Read what is attached, in a thread: the sum is bounded before anything is read."""
        wanted = dict.fromkeys(params.attach)
        if params.attach_inputs:
            wanted |= dict(_made(run.inputs))
        if len(wanted) > MOST_FILES:
            raise LimitReached(f"{len(wanted)} files; at most {MOST_FILES} fit a message")
        left, files = self._most_bytes, []
        for path, expected in wanted.items():
            read = _read(run.outputs, path, left)
            left -= len(read.content)
            if expected not in {None, read.written.sha256}:
                raise InvalidInput(f"{path[:80]!a} is not the file any more that the task before made")
            files.append(read)
        return files

    def _message(
        self, params: MailParams, run: Run, recipients: tuple[str, ...], files: Sequence[_File]
    ) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(addr_spec=self._sender)
        message["To"] = [Address(addr_spec=each) for each in recipients]
        message["Subject"] = (params.subject or " ".join(run.title.split()))[:LONGEST_SUBJECT]
        message["Date"] = format_datetime(run.now)
        # The same for every attempt: where a second one repeats the first, mail systems show one message.
        proof = hashlib.sha256(f"{run.task.get('created_at')} {params.model_dump_json()}".encode()).hexdigest()[:16]
        message["Message-ID"] = f"<T-{run.task_id}.{proof}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-Taskqueue-Attempt"] = f"T-{run.task_id}:{run.attempt}"
        message.set_content(params.text if params.text is not None else run.instructions or run.title)
        for each in files:
            kind, _, subtype = each.written.media_type.partition("/")
            name = each.written.path.rpartition("/")[2]
            message.add_attachment(each.content, maintype=kind, subtype=subtype.partition(";")[0], filename=name)
        return message


@dataclass(frozen=True, slots=True)
class _File:
    written: WrittenFile
    content: bytes


class _Delivery:
    """One conversation with the mail server, in a thread; `break_off` ends it from outside."""

    def __init__(self, server: MailServer, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._client: smtplib.SMTP | None = None
        self._broken_off = False
        self.refused: dict[str, tuple[int, bytes]] = {}

    def send(self, sender: str, recipients: tuple[str, ...], message: EmailMessage) -> None:
        server = self._server
        context = ssl.create_default_context(cafile=None if server.ca_file is None else str(server.ca_file))
        place = (server.host, server.port)
        made = (
            smtplib.SMTP_SSL(*place, timeout=self._seconds, context=context)
            if server.tls == "implicit"
            else smtplib.SMTP(*place, timeout=self._seconds)
        )
        self._client = made
        try:
            if self._broken_off:
                raise smtplib.SMTPServerDisconnected("broken off")
            if server.tls == "starttls":
                made.starttls(context=context)
            if server.user is not None:
                made.login(server.user, server.password or "")
            self.refused = made.send_message(message, sender, list(recipients))
            with contextlib.suppress(smtplib.SMTPException, OSError):
                made.quit()  # the message was taken: what comes after changes nothing
        finally:
            made.close()

    def break_off(self) -> None:
        self._broken_off = True
        found = None if self._client is None else self._client.sock
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


def _made(inputs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
    """The files of finished tasks, each with its hash where that is known."""
    for each in inputs:
        data = each.get("result_data")
        listed = data.get("artifacts") if isinstance(data, dict) else None
        for found in (*(each.get("artifacts") or ()), *(listed or ())):
            if isinstance(found, dict) and isinstance(found.get("path"), str):
                yield found["path"], found.get("sha256")
        known = {found.get("path") for found in listed or () if isinstance(found, dict)}
        if each.get("result_path") and each["result_path"] not in known:
            yield each["result_path"], None


def _read(outputs: OutputFolder, path: str, most: int) -> _File:
    found = outputs.find(path)
    if found.size > most:
        raise LimitReached(f"the files are too large for a message: {path[:80]!a} has {found.size:,} bytes")
    with outputs.opened(path) as (file, _):
        content = file.read(most + 1)
    if hashlib.sha256(content).hexdigest() != found.sha256:
        raise InvalidInput(f"{path[:80]!a} was changed while it was read")
    return _File(found, content)


def _described(file: WrittenFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256, "media_type": file.media_type}


def _failed(error: Exception, server: MailServer | None) -> Failed:
    """What the server, or the way to it, said; another attempt is worth it where that may pass."""
    where = "the mail server" if server is None else f"{server.host}:{server.port}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = list(error.recipients.values())
        code, said = max(answers, key=lambda answer: answer[0]) if answers else (0, b"")
        permanent = all(answer[0] >= FIRST_PERMANENT for answer in answers)
        return Failed(f"{where} takes the message for nobody: {code} {_said(said)}", permanent=permanent)
    if isinstance(error, smtplib.SMTPResponseException):
        what = f"{where} refused: {error.smtp_code} {_said(error.smtp_error)}"
        return Failed(what, permanent=error.smtp_code >= FIRST_PERMANENT)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failed(f"the certificate of {where} is not trusted: {error.verify_message}", permanent=True)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Failed(f"{where} cannot do what the settings ask for: {_said(str(error))}", permanent=True)
    return Failed(f"{where} could not be talked to: {_said(str(error) or type(error).__name__)}")


def _said(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return " ".join(CONTROL.sub(" ", text).split())[:LONGEST_ANSWER]
