"""`tokens`: what opens the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskqueue_mcp import checks
from taskqueue_mcp.auth import local_person, read_scopes
from taskqueue_mcp.cli.reaching import owning, reaching
from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.model import Kind
from taskqueue_mcp.surfaces import views

if TYPE_CHECKING:
    from taskqueue_mcp.app import App
    from taskqueue_mcp.cli.output import Out


@click.group()
@reaching
def tokens() -> None:
    """Make, list and revoke the tokens that open the server."""


@tokens.command()
@click.option("--name", required=True, help="What the token is called.")
@click.option("--scope", required=True, multiple=True, help="enqueue, work, answer, admin, exec:NAME; with commas")
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), default="agent", show_default=True)
@click.option("--principal", metavar="NAME", help="Whom it speaks for; the name of the token unless given.")
@click.option("--expires", metavar="TIME", help="ISO 8601 or a time from now such as 30d; never unless given.")
@owning
async def create(
    app: App, out: Out, *, name: str, scope: tuple[str, ...], kind: str, principal: str | None, expires: str | None
) -> None:
    """Make a token and print it: this is the only time that it is shown."""
    now = await app.queue.now()
    expires_at = None if expires is None else checks.instant("expires", expires, app.settings.zone, now)
    if expires_at is not None and expires_at <= now:
        raise InvalidInput(f"expires: {expires!r} is in the past; give a time to come such as 30d")
    scopes, executors = read_scopes(scope)
    made = await app.auth.create(
        local_person(), name, scopes, kind=Kind(kind), principal=principal, expires_at=expires_at, executors=executors
    )
    unknown = executors.difference(app.queue.executor_names())
    if unknown:
        out.note(
            f"no executor {', '.join(sorted(unknown))} is known here; taskqueue-mcp executors list shows those that are"
        )
    out.show({"token": made.secret, **views.token(made.token)}, lambda: out.line(made.secret))


@tokens.command("list")
@owning
async def list_(app: App, out: Out) -> None:
    """Show every token, newest first, without its secret."""
    now = views.instant(await app.queue.now()) or ""
    found = [views.token(token) for token in await app.auth.list(local_person())]

    def view() -> None:
        rows = [
            (
                token["name"],
                token["principal"],
                ",".join(token["scopes"]),
                _state(token["revoked_at"], token["expires_at"], now),
                out.time(token["created_at"]),
                out.time(token["expires_at"]) or "never",
            )
            for token in found
        ]
        out.table(("name", "principal", "scopes", "state", "created", "expires"), rows)

    out.show({"tokens": found, "count": len(found)}, view)


@tokens.command()
@click.argument("name")
@owning
async def revoke(app: App, out: Out, *, name: str) -> None:
    """Let a token open nothing any more; leases stay with its principal."""
    await app.auth.revoke(local_person(), name)
    out.show({"name": name, "revoked": True}, lambda: out.line(f"{name} revoked"))


def _state(revoked_at: str | None, expires_at: str | None, now: str) -> str:
    if revoked_at is not None:
        return "revoked"
    return "expired" if expires_at is not None and expires_at <= now else "live"
