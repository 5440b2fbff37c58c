"""Messages to named destinations, handed in to a real mail server on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.executors.base import validate_params
from taskqueue_mcp.executors.mail import Mail, MailServer
from taskqueue_mcp.model import Completed, Failed, Outcome, Returned
from taskqueue_mcp.outputs.folder import OutputFolder
from tests.executors.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.executors.conftest import MakeRun

TEAM = ("ann@example.com", "bob@example.com")
DESTINATIONS = {"team": TEAM, "boss": ("carla@example.com",)}


@dataclass
class Inbox:
    """What the server took, and what it answers instead when told to."""

    envelopes: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)
    answer: str = "250 taken"
    refused: dict[str, str] = field(default_factory=dict)
    hurry: bool = True
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        while not self.hurry:
            await anyio.sleep(0.01)
        if self.answer.startswith("2"):
            read = message_from_bytes(envelope.content, policy=default)
            assert isinstance(read, EmailMessage)
            self.envelopes.append((envelope.mail_from, envelope.rcpt_tos, read))
        return self.answer

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        self.logins.append((given.login, given.password))
        return AuthResult(success=given.password == b"secret", handled=False)


class Post:
    """A mail server with an inbox."""

    def __init__(self, inbox: Inbox, *, encrypted: ssl.SSLContext | None = None, **options: Any) -> None:
        self.inbox = inbox
        self._encrypted = encrypted
        self._options = options
        self.port = 0

    async def __aenter__(self) -> Post:
        loop = asyncio.get_running_loop()
        self.talks: list[SMTP] = []

        def talk() -> SMTP:
            self.talks.append(SMTP(self.inbox, loop=loop, **self._options))
            return self.talks[-1]

        self._server = await loop.create_server(talk, "127.0.0.1", 0, ssl=self._encrypted)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for talk in self.talks:
            if isinstance(talk.transport, asyncio.WriteTransport):
                talk.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # a transport closes its socket in the turn after


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with Post(Inbox()) as found:
        yield found


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only who is told trusts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * 80))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "server.pem", tmp_path / "server.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def mail(port: int, **given: Any) -> Mail:
    server = {"host": "127.0.0.1", "port": port, "tls": "none"}
    means = {key: given.pop(key) for key in ("destinations", "most_bytes") if key in given}
    return Mail(
        MailServer(**{**server, **given}), sender="queue@example.com", **{"destinations": DESTINATIONS, **means}
    )


async def send(executor: Mail, make_run: MakeRun, params: dict[str, Any], **given: Any) -> Outcome:
    outcome = await executor.run(validate_params(executor, params), make_run(**given))
    assert isinstance(outcome, Completed | Failed | Returned)
    return outcome


def file(tmp_path: Path, relative: str, content: bytes) -> str:
    OutputFolder(tmp_path / "out").write(relative, lambda stream: stream.write(content))
    return hashlib.sha256(content).hexdigest()


async def test_a_message_reaches_everybody_of_a_destination_with_its_files(
    post: Post, make_run: MakeRun, tmp_path: Path
) -> None:
    sha256 = file(tmp_path, "Reports/stock.csv", b"item,left\nPens,3\n")
    params = {"to": "team", "subject": "Stock für Ann", "text": "See the file.\n", "attach": ["Reports/stock.csv"]}
    outcome = await send(mail(post.port), make_run, params)
    assert isinstance(outcome, Completed), outcome
    ((sender, recipients, message),) = post.inbox.envelopes
    assert (sender, recipients) == ("queue@example.com", list(TEAM))
    assert message["Subject"] == "Stock für Ann"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Taskqueue-Attempt"] == "T-142:1"
    (part,) = message.iter_attachments()
    assert (part.get_filename(), part.get_content_type()) == ("stock.csv", "text/csv")
    assert part.get_payload(decode=True) == b"item,left\nPens,3\n"
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == "See the file.\n"
    assert outcome.data == {
        "to": "team", "recipients": 2, "refused": 0, "message_id": message["Message-ID"],
        "attachments": [{"path": "Reports/stock.csv", "size": 17, "sha256": sha256, "media_type": "text/csv"}],
    }  # fmt: skip
    assert "ann@example.com" not in repr(outcome)


async def test_the_files_of_finished_dependencies_go_along_unless_told_otherwise(
    post: Post, make_run: MakeRun, tmp_path: Path
) -> None:
    sha256 = file(tmp_path, "Reports/a.csv", b"a\n")
    file(tmp_path, "Reports/b.csv", b"b\n")
    inputs: list[dict[str, Any]] = [
        {"result_path": "Reports/a.csv", "result_data": {"artifacts": [{"path": "Reports/a.csv", "sha256": sha256}]}},
        {"result_path": "Reports/b.csv", "result_data": None},
        {"result_path": None, "result_data": {"artifacts": "none"}},
    ]
    assert isinstance(await send(mail(post.port), make_run, {"to": "boss"}, inputs=inputs), Completed)
    assert isinstance(
        await send(mail(post.port), make_run, {"to": "boss", "attach_inputs": False}, inputs=inputs), Completed
    )
    with_files, without = (list(message.iter_attachments()) for _, _, message in post.inbox.envelopes)
    assert [part.get_filename() for part in with_files] == ["a.csv", "b.csv"]
    assert without == []
    inputs[0]["result_data"] = {"artifacts": [{"path": "Reports/a.csv", "sha256": "0" * 64}]}
    outcome = await send(mail(post.port), make_run, {"to": "boss"}, inputs=inputs)
    assert outcome == Failed(
        "the message cannot be written: 'Reports/a.csv' is not the file any more that the task before made",
        permanent=True,
    )


async def test_title_and_instructions_are_the_message_where_it_says_nothing(post: Post, make_run: MakeRun) -> None:
    outcome = await send(
        mail(post.port), make_run, {"to": "boss"}, title="The week\nwas good", instructions="Sales went up.\n"
    )
    assert isinstance(outcome, Completed)
    ((_, _, message),) = post.inbox.envelopes
    assert message["Subject"] == "The week was good"
    body = message.get_body()
    assert body is not None
    assert "Sales went up." in body.get_content()


@pytest.mark.parametrize(
    "params",
    [
        {"to": "team\nBcc: eve@evil.example"},
        {"to": "boss", "subject": "Hello\r\nBcc: eve@evil.example"},
        {"to": "boss", "subject": "Hello\x0bBcc: eve@evil.example"},
        {"to": "boss", "subject": "Hello\u2028Bcc: eve@evil.example"},
        {"to": "boss", "subject": "x" * 201},
        {"to": "boss", "attach": ["a\nb.csv"]},
        {"to": "boss", "attach": ["a.csv"] * 21},
        {"to": "boss", "cc": "eve@evil.example"},
        {"to": "boss", "headers": {"Bcc": "eve@evil.example"}},
        {"subject": "to nobody"},
    ],
)
async def test_what_could_become_a_header_or_an_address_is_no_parameter(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="params of mail"):
        validate_params(mail(1), params)


async def test_a_title_with_a_header_in_it_stays_a_subject(post: Post, make_run: MakeRun) -> None:
    outcome = await send(mail(post.port), make_run, {"to": "boss"}, title="Hi\r\nBcc: eve@evil.example\r\n\r\nBuy")
    assert isinstance(outcome, Completed)
    ((_, recipients, message),) = post.inbox.envelopes
    assert recipients == ["carla@example.com"]
    assert message["Bcc"] is None
    assert message["Subject"] == "Hi Bcc: eve@evil.example Buy"


@pytest.mark.parametrize("to", ["eve@evil.example", "ann@example.com", "TEAM", "team,boss", "", "*"])
async def test_nothing_but_a_named_destination_can_be_addressed(post: Post, make_run: MakeRun, to: str) -> None:
    if not to:
        with pytest.raises(InvalidInput):
            validate_params(mail(1), {"to": to})
        return
    outcome = await send(mail(post.port), make_run, {"to": to})
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert "there is boss, team" in outcome.error
    assert post.inbox.envelopes == []


@pytest.mark.parametrize(
    "path", ["../secret.txt", "/etc/passwd", "Reports/../../secret.txt", "link.txt", "folder/secret.txt", "."]
)
async def test_no_file_outside_the_output_folder_goes_along(
    post: Post, make_run: MakeRun, tmp_path: Path, path: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "out" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "out" / "folder").symlink_to(tmp_path)
    for params, inputs in (({"attach": [path]}, []), ({}, [{"result_path": path, "result_data": None}])):
        outcome = await send(mail(post.port), make_run, {"to": "boss", **params}, inputs=inputs)
        assert isinstance(outcome, Failed), path
        assert "secret" not in outcome.error.replace(path, "")
    assert post.inbox.envelopes == []


async def test_files_that_are_too_large_together_are_refused_before_they_are_read(
    post: Post, make_run: MakeRun, tmp_path: Path
) -> None:
    for name in ("a.csv", "b.csv"):
        file(tmp_path, name, b"x" * 600)
    outcome = await send(mail(post.port, most_bytes=1_000), make_run, {"to": "boss", "attach": ["a.csv", "b.csv"]})
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert "too large for a message: 'b.csv' has 600 bytes" in outcome.error


async def test_a_file_that_is_not_there_yet_is_tried_again(post: Post, make_run: MakeRun) -> None:
    outcome = await send(mail(post.port), make_run, {"to": "boss", "attach": ["late.csv"]})
    assert isinstance(outcome, Failed)
    assert not outcome.permanent


@pytest.mark.parametrize(
    ("answer", "permanent"), [("451 try later", False), ("421 too busy", False), ("554 no spam here", True)]
)
async def test_what_the_server_says_decides_whether_it_is_worth_another_attempt(
    post: Post, make_run: MakeRun, answer: str, permanent: bool
) -> None:
    post.inbox.answer = answer
    outcome = await send(mail(post.port), make_run, {"to": "boss"})
    assert outcome == Failed(f"127.0.0.1:{post.port} refused: {answer}", permanent=permanent)


async def test_an_address_that_is_refused_does_not_keep_the_others_from_theirs(post: Post, make_run: MakeRun) -> None:
    post.inbox.refused = {"ann@example.com": "550 no such user"}
    outcome = await send(mail(post.port), make_run, {"to": "team"})
    assert isinstance(outcome, Completed)
    assert (outcome.data["recipients"], outcome.data["refused"]) == (1, 1)
    assert "1 of 2 addresses were refused" in outcome.summary
    post.inbox.refused |= {"bob@example.com": "450 mailbox busy"}
    outcome = await send(mail(post.port), make_run, {"to": "team"})
    assert isinstance(outcome, Failed)
    assert not outcome.permanent
    post.inbox.refused["bob@example.com"] = "550 no such user"
    outcome = await send(mail(post.port), make_run, {"to": "team"})
    assert isinstance(outcome, Failed)
    assert outcome.permanent


async def test_a_server_that_is_not_there_is_tried_again_and_the_preflight_says_so(make_run: MakeRun) -> None:
    async with Post(Inbox()) as gone:
        port = gone.port
        assert await mail(port).preflight() is None
        await eventually(lambda: len(gone.talks) > 0)
    outcome = await send(mail(port), make_run, {"to": "boss"})
    assert isinstance(outcome, Failed)
    assert not outcome.permanent
    assert f"127.0.0.1:{port}" in outcome.error
    assert "cannot be reached" in (await mail(port).preflight() or "")
    assert "worker.mail.host" in (await Mail(None, sender=None, destinations={}).preflight() or "")
    assert "destinations" in (await mail(port, destinations={}).preflight() or "")


async def test_every_attempt_of_a_message_has_the_same_id(post: Post, make_run: MakeRun) -> None:
    for attempt, to in ((1, "boss"), (2, "boss"), (3, "team")):
        await send(mail(post.port), make_run, {"to": to}, attempt=attempt)
    first, second, other = (message["Message-ID"] for _, _, message in post.inbox.envelopes)
    assert first == second != other
    assert first.startswith("<T-142.")


async def test_a_message_that_is_being_handed_in_is_broken_off_when_told_to_stop(make_run: MakeRun) -> None:
    async with Post(Inbox(hurry=False)) as slow:
        stop = anyio.Event()
        outcomes: list[Outcome] = []

        async def run() -> None:
            outcomes.append(await send(mail(slow.port), make_run, {"to": "boss"}, stop=stop))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await anyio.sleep(0.2)
                stop.set()
        slow.inbox.hurry = True
    assert outcomes == [Returned(None, "stopped before the message was handed in")]


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH while not requiring TLS"
)  # the server does not see that TLS is below it
async def test_a_message_goes_over_tls_to_a_server_that_is_trusted(
    make_run: MakeRun, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    inbox = Inbox()
    login = {"user": "queue", "password": "secret"}
    secured: dict[str, Any] = {"authenticator": inbox.authenticate, "auth_required": True}
    makers: list[tuple[str, Callable[[], Post]]] = [
        ("starttls", lambda: Post(inbox, tls_context=context, require_starttls=True, **secured)),
        ("implicit", lambda: Post(inbox, encrypted=context, auth_require_tls=False, **secured)),
    ]
    for tls, make in makers:
        async with make() as server:
            outcome = await send(mail(server.port, tls=tls, ca_file=certificate[0], **login), make_run, {"to": "boss"})
            assert isinstance(outcome, Completed), (tls, outcome)
            distrusted = await send(mail(server.port, tls=tls, **login), make_run, {"to": "boss"})
            assert isinstance(distrusted, Failed), tls
            assert distrusted.permanent
            assert "not trusted" in distrusted.error
            wrong = mail(server.port, tls=tls, ca_file=certificate[0], **{**login, "password": "wrong-canary"})
            refused = await send(wrong, make_run, {"to": "boss"})
            assert isinstance(refused, Failed)
            assert refused.permanent
            assert "wrong-canary" not in repr((refused, wrong.__dict__))
    assert len(inbox.envelopes) == 2
    assert (b"queue", b"secret") in inbox.logins


async def test_a_server_without_tls_gets_nothing_where_tls_is_wanted(post: Post, make_run: MakeRun) -> None:
    outcome = await send(mail(post.port, tls="starttls"), make_run, {"to": "boss"})
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert post.inbox.envelopes == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"destinations": {"team": ["ann@example.com", "not an address"]}}, "not an address"),
        ({"destinations": {"team": ["Ann <ann@example.com>"]}}, "no address"),
        ({"destinations": {"team": ["a@example.com\nBcc: eve@evil.example"]}}, "no address"),
        ({"destinations": {"team": []}}, "has no address"),
        ({"host": "mail.example.com", "password": "secret"}, "in clear"),
    ],
)
def test_settings_that_would_send_astray_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsRefused, match=named):
        mail(25, **given)
