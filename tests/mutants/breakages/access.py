"""Who gets in, by which name, from which page, with which token; and what a model may say once it is in."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

ASGI = "test_asgi.py"
AUTH = "test_auth.py"
TOOLS = "mcp_surface/test_tools.py"
SHORT_WAY = "mcp_surface/test_short_way.py"

EVERY_REQUEST = "every request needs a token, also on loopback"
OWN_NAMES = "Host and Origin are checked"

MUTANTS = (
    Mutant(
        "any-host-is-ours",
        OWN_NAMES,
        (
            Edit(
                "surfaces/access.py",
                "if named and (named.loopback or {named, named._replace(port=None)} & self._hosts):",
                "if named:",
                "AccessControl._check_host",
            ),
        ),
        (f"{ASGI}::test_only_our_own_names_are_answered",),
    ),
    Mutant(
        "any-page-may-ask",
        OWN_NAMES,
        (Edit("surfaces/access.py", "if not values:", "if values is not None:", "AccessControl._check_origin"),),
        (f"{ASGI}::test_the_page_that_asks_is_one_of_ours",),
    ),
    Mutant(
        "a-get-needs-no-token",
        EVERY_REQUEST,
        (Edit("surfaces/access.py", 'scope["path"] in self._open_paths and ', "", "AccessControl._admit"),),
        (f"{ASGI}::test_every_route_and_method_wants_a_token",),
    ),
    Mutant(
        "the-first-of-two-tokens-is-taken",
        EVERY_REQUEST,
        (
            Edit(
                "surfaces/access.py", "if len(values) == 1 else None", "if values else None", "AccessControl._identify"
            ),
        ),
        (f"{ASGI}::test_two_tokens_are_refused",),
    ),
    Mutant(
        "a-token-is-stored-as-it-is",
        "tokens are stored hashed",
        (
            Edit(
                "auth.py",
                "principals.insert(transaction, name, who, digest(secret)",
                "principals.insert(transaction, name, who, secret",
                "create",
            ),
            Edit(
                "auth.py",
                "hashed = digest(secret)",
                "hashed = secret",
                "Auth.authenticate",
            ),
        ),
        (f"{AUTH}::test_a_secret_is_nowhere_in_the_database",),
    ),
    Mutant(
        "a-revoked-token-opens-the-door",
        "tokens can be revoked",
        (Edit("store/principals.py", "AND tokens.revoked_at IS NULL", "", "CALLER"),),
        (f"{AUTH}::test_a_revoked_token_opens_nothing_and_its_name_is_free_again",),
    ),
    Mutant(
        "a-token-is-remembered-past-its-revocation",
        "tokens can be revoked",
        (Edit("auth.py", "self._known.clear()", "pass", "Auth.revoke"),),
        (f"{AUTH}::test_a_token_that_was_just_used_opens_nothing_once_it_is_revoked",),
    ),
    Mutant(
        "a-token-that-is-revoked-meanwhile-is-remembered",
        "tokens can be revoked",
        (Edit("auth.py", "and revocations == self._revocations", "", "Auth._look_up"),),
        (f"{AUTH}::test_a_token_that_is_revoked_while_it_is_looked_up_is_not_remembered",),
    ),
    Mutant(
        "a-token-is-remembered-for-ever",
        "tokens can be revoked",
        (Edit("auth.py", "and time.monotonic() < known[1]", "", "Auth.authenticate"),),
        (f"{AUTH}::test_a_token_that_another_process_revokes_opens_nothing_a_second_later",),
    ),
    Mutant(
        "the-short-way-takes-what-the-protocol-refuses",
        "what is no plain call is the SDK's to refuse",
        (
            Edit(
                "surfaces/mcp/http.py",
                "if not isinstance(classify_inbound_request(message, headers=headers), InboundModernRoute):",
                "if not message:",
                "ShortWay._plain",
            ),
        ),
        (f"{SHORT_WAY}::test_both_ways_give_the_same_answer",),
    ),
    Mutant(
        "a-client-that-is-gone-keeps-its-claim",
        "a claim whose request was disconnected before its answer went out is released at once",
        (Edit("surfaces/mcp/http.py", "answering.cancel()", "pass", "_cancel_when_gone"),),
        (f"{SHORT_WAY}::test_a_claim_whose_client_goes_away_before_the_answer_is_handed_back",),
    ),
    Mutant(
        "a-token-never-ends",
        "a token ends when its time is over",
        (Edit("store/principals.py", "tokens.expires_at > {now}", "tokens.expires_at > 0", "CALLER"),),
        (f"{AUTH}::test_a_token_ends_when_its_time_is_over",),
    ),
    Mutant(
        "anybody-makes-tokens",
        "only admin makes tokens",
        (Edit("auth.py", "if not by.may(Scope.ADMIN):", "if by is None:", "_needs_admin"),),
        (f"{AUTH}::test_only_an_admin_makes_lists_and_revokes_tokens",),
    ),
    Mutant(
        "deep-json-reaches-the-parser",
        "12: JSON nesting is bounded before anything parses it",
        (Edit("surfaces/access.py", "return bool(brackets)", "return False", "too_deep"),),
        (f"{ASGI}::test_deep_json_is_refused_before_anything_parses_it",),
    ),
    Mutant(
        "a-body-has-any-length",
        "12: a body is bounded",
        (Edit("surfaces/access.py", "if size > bound:", "if size < 0:", "_check_size"),),
        (f"{ASGI}::test_a_body_ends_at_four_mebibytes", f"{ASGI}::test_a_body_that_hides_its_length_ends_there_too"),
    ),
    Mutant(
        "a-caller-over-the-limit-is-served",
        "12: a rate a principal",
        (Edit("surfaces/access.py", "if wait is not None:", "if wait is False:", "AccessControl._admit"),),
        (f"{ASGI}::test_a_caller_over_the_limit_is_told_when_to_come_back",),
    ),
    Mutant(
        "an-unknown-argument-is-dropped",
        "any other unknown argument is refused by name",
        (Edit("surfaces/mcp/arguments.py", 'extra="forbid"', 'extra="ignore"', "Arguments"),),
        (f"{TOOLS}::test_wrong_input_is_answered_in_a_line_with_a_code",),
    ),
)
