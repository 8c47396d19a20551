"""Names, paths and values (SPEC 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_protocol import names

BAD_ANYWHERE = ["", ".", "..", "-a", "_a", ".a", "a b", "a\n", "\na", "a\x00", "ä", "a/b", "a\\b", "{n}"]


@pytest.mark.parametrize("text", ["a", "A9", "9", "a.b_c-d", "a" * 64, "a..", "a."])
def test_tokens(text: str) -> None:
    assert names.token(text) is None


@pytest.mark.parametrize("text", [*BAD_ANYWHERE, "a" * 65, "a+b", "a=b"])
def test_no_tokens(text: str) -> None:
    assert names.token(text)


@pytest.mark.parametrize("text", ["a", "9", "a.b_c+d=e-f", "a" * 128])
def test_segments(text: str) -> None:
    assert names.segment(text) is None


@pytest.mark.parametrize("text", [*BAD_ANYWHERE, "a" * 129, "=a", "+a"])
def test_no_segments(text: str) -> None:
    assert names.segment(text)


@pytest.mark.parametrize("text", ["a", "a/b", "/".join("abcdefgh"), "/".join(["a" * 102] * 5)[:512]])
def test_acq_names(text: str) -> None:
    assert names.acq_name(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/", "/a", "a//b", "a/../b", "a/./b", "/".join("abcdefghi"), "/".join(["a" * 128] * 4), "a/ b"],
)
def test_no_acq_names(text: str) -> None:
    assert names.acq_name(text)


@pytest.mark.parametrize("text", ["", "a", "a/b", "/".join(["a"] * 16), "/".join(["a" * 128] * 16)])
def test_paths(text: str) -> None:
    assert names.path(text) is None


@pytest.mark.parametrize("text", ["/", "/a", "a/", "a//b", "..", "a/..", "/".join(["a"] * 17), "a/.b"])
def test_no_paths(text: str) -> None:
    assert names.path(text)


@pytest.mark.parametrize("text", ["r", "r{n}", "{n}", "{n:06}", "r{n:01}x", "a{n:099}"])
def test_run_patterns(text: str) -> None:
    assert names.run_pattern(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{m}",
        "{n",
        "n}",
        "{n}{n}",
        "{n:6}",
        "{n:00}",
        "{n:0100}",
        "{n:+06}",
        "{n:06d}",
        "-{n}",
        "r {n}",
        "{{n}}",
    ],
)
def test_no_run_patterns(text: str) -> None:
    assert names.run_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "number", "name"),
    [("r{n}", 7, "r7"), ("{n:03}", 7, "007"), ("r{n:03}x", 1234, "r1234x"), ("r", 7, "r")],
)
def test_numbered(pattern: str, number: int, name: str) -> None:
    assert names.numbered(pattern, number) == name


def test_the_text_around_the_number_is_the_same_whatever_its_width() -> None:
    assert names.split_numbered("a{n}b") == names.split_numbered("a{n:06}b") == ("a", "b")
    assert names.split_numbered("ab") is None


@pytest.mark.parametrize("text", ["x", "a b", "é", "x" * 128, "温度", "a/b:c"])
def test_params(text: str) -> None:
    assert names.param(text) is None


@pytest.mark.parametrize("text", ["", " x", "x ", "x" * 129, "a\tb", "a\nb", "\x7f", "a\u200bb"])
def test_no_params(text: str) -> None:
    assert names.param(text)


@pytest.mark.parametrize("value", ["", "undef", 0, -(2**63), 2**63 - 1, 0.5, -0.0, True, False, None])
def test_values(value: object) -> None:
    assert names.value(value) is None


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, float("nan"), float("inf"), float("-inf"), b"", [], {}, (), object()]
)
def test_no_values(value: object) -> None:
    assert names.value(value)


@pytest.mark.parametrize(
    ("value", "size"), [("abc", 3), ("ä", 2), ("", 0), (7, 8), (0.5, 8), (True, 1), (False, 1), (None, 1)]
)
def test_what_a_value_counts(value: names.Value, size: int) -> None:
    assert names.value_bytes(value) == size


@given(st.text())
def test_every_rule_answers_whatever_the_text(text: str) -> None:
    for rule in names.RULES.values():
        assert rule(text) is None or isinstance(rule(text), str)


@given(st.text(alphabet="ab./", max_size=12))
def test_what_is_allowed_never_leads_out_of_its_folder(text: str) -> None:
    for rule in (names.acq_name, names.path):
        if rule(text) is None and text:
            assert not {"", ".", ".."} & set(text.split("/"))
