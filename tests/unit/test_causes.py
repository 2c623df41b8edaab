from etl.causes import cause_lines


def test_one_cause_is_one_line_with_the_first_names_and_the_count() -> None:
    causes = [(f"/view/{number}", "failed: 503: down") for number in range(120)]

    assert cause_lines(causes) == ["120 views (/view/0, /view/1, /view/2, ...): failed: 503: down"]


def test_few_names_all_stand_in_the_line() -> None:
    causes = [("/a", "down"), ("/b", "cut"), ("/c", "down")]

    assert cause_lines(causes) == ["2 views (/a, /c): down", "/b: cut"]


def test_too_many_causes_are_counted() -> None:
    lines = cause_lines([(f"/{number}", f"why {number}") for number in range(43)])

    assert lines[39:] == ["/39: why 39", "... and 3 more causes"]


def test_a_long_name_is_shortened() -> None:
    (line,) = cause_lines([("x" * 400, "down")])

    assert len(line) < 80
