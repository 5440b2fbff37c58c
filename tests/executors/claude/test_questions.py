"""What a person is asked on the way, and what an answer means."""

from __future__ import annotations

import pytest

from taskqueue_mcp.executors.claude import questions
from taskqueue_mcp.executors.claude.questions import Agreed

PLAN = "# Plan\n\n1. Look.\n\n2. Do."


def asked(question: str, answer: str | None) -> dict[str, str | None]:
    return {"kind": "question", "question": question, "answer": answer}


@pytest.mark.parametrize("answer", ["yes", "Yes.", "OK", "approve", "go ahead!", "carry it out", "ja"])
def test_a_plain_yes_agrees_to_the_plan(answer: str) -> None:
    assert questions.plan_answered([asked(questions.about_plan(PLAN), answer)]) == Agreed(PLAN, is_yes=True)


@pytest.mark.parametrize("answer", ["no", "No.", "stop", "reject", "cancel!"])
def test_a_plain_no_ends_it(answer: str) -> None:
    found = questions.plan_answered([asked(questions.about_plan(PLAN), answer)])

    assert found == Agreed(PLAN, is_yes=False)


@pytest.mark.parametrize("answer", ["yes, but not on Fridays", "no more than ten", "use the other table", "why?"])
def test_whatever_else_is_said_changes_the_plan(answer: str) -> None:
    found = questions.plan_answered([asked(questions.about_plan(PLAN), answer)])

    assert found == Agreed(PLAN, is_yes=False, comment=answer)


def test_the_last_plan_counts_and_other_questions_do_not() -> None:
    answers = [
        asked(questions.about_plan("old"), "no, shorter"),
        asked(questions.about_plan(PLAN), "yes"),
        asked(questions.about_budget(1.0, 1.0, ()), "stop"),
    ]

    assert questions.plan_answered(answers) == Agreed(PLAN, is_yes=True)
    assert questions.plan_answered(answers[2:]) is None
    assert questions.plan_answered([asked(questions.about_plan(PLAN), None)]) is None


def test_a_long_plan_is_cut_in_its_question_and_says_where_it_is_whole() -> None:
    question = questions.about_plan("x" * 50_000)

    assert len(question) < 10_000
    assert question.endswith("… (whole in the artifact)")


@pytest.mark.parametrize(
    ("answer", "extra"),
    [
        ("continue with +2", 2.0),
        ("+2.5", 2.5),
        ("continue with +$3", 3.0),
        ("2,50", 2.5),
        ("continue", 1.5),
        ("yes", 1.5),
        ("well", 0.0),
        ("stop", None),
        ("Stop it here.", None),
        ("no", None),
    ],
)
def test_an_answer_at_the_ceiling_grants_money_or_stops(answer: str, extra: float | None) -> None:
    assert questions.granted([asked(questions.about_budget(1.6, 1.5, ("a.partial.md",)), answer)], 1.5) == extra


def test_what_was_granted_adds_up_and_paying_the_account_grants_nothing() -> None:
    answers = [
        asked(questions.about_budget(1.0, 1.0, ()), "+1"),
        asked(questions.about_payment("default", "No credit"), "continue, I paid 50"),
        asked(questions.about_budget(2.0, 2.0, ()), "+0.5"),
        asked(questions.about_plan("spend 100"), "yes"),
    ]

    assert questions.granted(answers, 1.0) == 1.5
    assert questions.granted([asked(questions.about_payment("default", "No credit"), "stop")], 1.0) is None


def test_where_the_queue_counts_it_asks_for_the_money_itself() -> None:
    question = questions.about_budget(1.6, 1.5, ("a.partial.md",), is_counted=True)

    assert question == "The budget is used up: Claude stopped. What there is so far is kept: a.partial.md."
