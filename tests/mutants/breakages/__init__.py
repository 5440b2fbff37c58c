"""Every seeded breakage, by the part of the product that it breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.mutants.breakages import (
    access,
    claims,
    claude,
    creation,
    decisions,
    evidence,
    files,
    loops,
    money,
    moving,
    outcomes,
    postgres,
    queries,
    races,
    reports,
    rights,
    schedules,
    schema,
    storage,
)

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant

ALL: tuple[Mutant, ...] = (
    *claims.MUTANTS,
    *outcomes.MUTANTS,
    *evidence.MUTANTS,
    *money.MUTANTS,
    *claude.MUTANTS,
    *creation.MUTANTS,
    *decisions.MUTANTS,
    *schedules.MUTANTS,
    *storage.MUTANTS,
    *schema.MUTANTS,
    *postgres.MUTANTS,
    *queries.MUTANTS,
    *moving.MUTANTS,
    *races.MUTANTS,
    *access.MUTANTS,
    *rights.MUTANTS,
    *files.MUTANTS,
    *reports.MUTANTS,
    *loops.MUTANTS,
)


def by_name(name: str) -> Mutant:
    """Return a mutant.

    Raises:
        LookupError: there is none of this name.
    """
    for mutant in ALL:
        if mutant.name == name:
            return mutant
    raise LookupError(f"there is no mutant {name!r}; --list shows those that exist")
