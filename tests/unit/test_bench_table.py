"""The bench's table: what a target is held against, and what a figure without validity says."""

from __future__ import annotations

import json

import pytest

from bench.table import Figure, Target, number, table


@pytest.mark.parametrize(
    ("measured", "reference", "target", "verdict"),
    [
        (60.0, 100.0, Target("ratio", 0.6), "reached"),
        (59.0, 100.0, Target("ratio", 0.6), "short"),
        (15.0, 10.0, Target("ratio", 1.5, at_most=True), "reached"),
        (15.1, 10.0, Target("ratio", 1.5, at_most=True), "short"),
        (19.0, 1.0, Target("figure", 20.0, at_most=True), "reached"),
        (100_000.0, None, Target("figure", 100_000), "reached"),
        (17.0, 7.0, Target("excess", 10.0, at_most=True), "reached"),
        (17.5, 7.0, Target("excess", 10.0, at_most=True), "short"),
        (1.0, None, Target("ratio", 0.6), ""),
        (1.0, 0.0, Target("ratio", 0.6), ""),
        (1.0, 2.0, None, ""),
    ],
)
def test_a_target_is_held_against_what_it_says(
    measured: float, reference: float | None, target: Target | None, verdict: str
) -> None:
    assert Figure("row", "what", measured, reference=reference, target=target).verdict == verdict


def test_the_ratio_of_the_rounds_counts_more_than_that_of_the_medians() -> None:
    figure = Figure("row", "what", 50.0, reference=100.0, ratio=0.7, target=Target("ratio", 0.6))
    assert figure.ratio_to_reference == 0.7
    assert figure.verdict == "reached"


def test_a_figure_of_a_busy_load_generator_is_invalid_whatever_it_is() -> None:
    assert Figure("row", "what", 1.0, reference=1.0, target=Target("ratio", 0.6), valid=False).verdict == "invalid"


def test_the_table_names_each_row_once_and_each_reference() -> None:
    figures = [
        Figure(
            "commands", "commands/s", 30_000, reference=50_000, of="the bare store", target=Target("ratio", 0.6)
        ),
        Figure("commands", "p50 ms", 0.5, server_us=28.3),
    ]
    text = "\n".join(table(figures))
    assert text.count("\ncommands\n") == 1
    for word in ("30,000", "50,000", "0.6", "reached", "the bare store", "28.3"):
        assert word in text


def test_a_figure_is_a_document_with_its_verdict() -> None:
    document = Figure("row", "what", 3.0, reference=4.0, target=Target("ratio", 0.6, aim=0.9)).document()
    assert json.loads(json.dumps(document)) == document
    assert (document["ratio"], document["verdict"], document["target"]) == (0.75, "reached", ">= 0.6x, aim 0.9")


def test_numbers_are_short() -> None:
    assert [number(value) for value in (None, 1234567.8, 12.345, 0.01234)] == ["", "1,234,568", "12.3", "0.0123"]
