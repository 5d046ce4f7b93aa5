import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.evaluation.reports import (
    Columns,
    Figure,
    Row,
    Run,
    Summary,
    mean_of,
    mean_of_means,
    settings_hash,
)

COLUMNS: Columns = {"name": str, "count": int, "value": float}
ITEMS = [(f"item {number}", number) for number in range(6)]


def measure(numbers: Sequence[int]) -> Iterator[list[Row]]:
    for number in numbers:
        yield [
            {"name": f'a, "{number}"', "count": number, "value": number / 3},
            {"name": "b", "count": 2 * number, "value": math.nan},
        ]


def failing_at(stop: int) -> Callable[[Sequence[int]], Iterator[list[Row]]]:
    def interrupted(numbers: Sequence[int]) -> Iterator[list[Row]]:
        for number, rows in zip(numbers, measure(numbers), strict=True):
            if number == stop:
                raise KeyboardInterrupt
            yield rows

    return interrupted


def as_text(rows: Sequence[Row]) -> str:
    return repr([dict(row) for row in rows])


def test_a_stopped_run_goes_on_to_the_same_results(make_run: Callable[..., Run], tmp_path: Path) -> None:
    whole = make_run(output=tmp_path / "whole").measure("pass", COLUMNS, ITEMS, measure)
    with pytest.raises(KeyboardInterrupt):
        make_run().measure("pass", COLUMNS, ITEMS, failing_at(3))
    seen: list[int] = []

    def counting(numbers: Sequence[int]) -> Iterator[list[Row]]:
        seen.extend(numbers)
        return measure(numbers)

    run = make_run()
    assert as_text(run.measure("pass", COLUMNS, ITEMS, counting)) == as_text(whole)
    assert seen == [3, 4, 5]
    assert run.progress.done == 6
    assert (tmp_path / "out/items.csv").read_bytes() == (tmp_path / "whole/items.csv").read_bytes()


def test_results_read_back_keep_their_types_and_every_digit(make_run: Callable[..., Run]) -> None:
    first = make_run().measure("pass", COLUMNS, ITEMS, measure)
    second = make_run().measure("pass", COLUMNS, ITEMS, failing_at(0))
    assert as_text(first) == as_text(second)
    assert second[2]["value"] == 1 / 3
    assert math.isnan(float(second[1]["value"]))


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_end_costs_its_item_alone(make_run: Callable[..., Run], tmp_path: Path, cut: int) -> None:
    whole = make_run().measure("pass", COLUMNS, ITEMS, measure)
    file = tmp_path / "out/items.csv"
    content = file.read_bytes()
    file.write_bytes(content[:-cut])
    seen: list[int] = []

    def counting(numbers: Sequence[int]) -> Iterator[list[Row]]:
        seen.extend(numbers)
        return measure(numbers)

    assert as_text(make_run().measure("pass", COLUMNS, ITEMS, counting)) == as_text(whole)
    assert seen == [5]
    assert file.read_bytes() == content


def test_other_settings_are_refused_and_named(make_run: Callable[..., Run]) -> None:
    make_run(settings={"seed": 0, "model": "a"}).measure("pass", COLUMNS, ITEMS, measure)
    with pytest.raises(OutputError, match=r"other settings \(model, stride\).*--overwrite"):
        make_run(settings={"seed": 0, "model": "b", "stride": 4}).measure("pass", COLUMNS, ITEMS, measure)
    with pytest.raises(OutputError, match="other columns"):
        make_run(settings={"model": "a", "seed": 0}).measure("pass", {"name": str}, ITEMS, measure)
    again = make_run(settings={"seed": 1, "model": "a"}, overwrite=True)
    assert len(again.measure("pass", COLUMNS, ITEMS[:2], measure)) == 4


def test_results_without_their_settings_are_refused(make_run: Callable[..., Run], tmp_path: Path) -> None:
    make_run().measure("pass", COLUMNS, ITEMS, measure)
    (tmp_path / "out/settings.json").write_text("{}")
    with pytest.raises(OutputError, match="isn't the settings file"):
        make_run().measure("pass", COLUMNS, ITEMS, measure)
    (tmp_path / "out/settings.json").write_text(json.dumps({"hash": settings_hash({"seed": 0}), "settings": {}}))
    (tmp_path / "out/items.csv").write_text("item,lines,name,count,value\nitem 0,1,a,much,1\n")
    with pytest.raises(OutputError, match="can't be read back"):
        make_run().measure("pass", COLUMNS, ITEMS, measure)


def test_a_limit_takes_the_first_items_and_may_grow(make_run: Callable[..., Run]) -> None:
    assert len(make_run(limit=2).measure("pass", COLUMNS, ITEMS, measure)) == 4
    assert len(make_run(limit=4).measure("pass", COLUMNS, ITEMS, measure)) == 8
    assert len(make_run(limit=1).measure("pass", COLUMNS, ITEMS, measure)) == 2


def test_a_predictor_that_yields_too_little_is_noticed(make_run: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="zip"):
        make_run().measure("pass", COLUMNS, ITEMS, lambda numbers: measure(numbers[:-1]))


def test_the_order_of_settings_doesn_t_matter() -> None:
    assert settings_hash({"a": 1, "b": {"c": 2, "d": 3}}) == settings_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


def test_means_leave_out_what_is_unknown() -> None:
    rows: list[Row] = [
        {"set": "a", "value": 1.0},
        {"set": "a", "value": 2.0},
        {"set": "b", "value": 6.0},
        {"set": "b", "value": math.nan},
        {"set": "c", "value": math.nan},
    ]
    assert mean_of(rows, "value") == 3
    assert mean_of_means(rows, "value", by="set") == (1.5 + 6) / 2
    assert math.isnan(mean_of(rows[4:], "value"))
    assert math.isnan(mean_of_means(rows[4:], "value", by="set"))


def test_the_summary_puts_the_papers_figures_beside_ours(make_run: Callable[..., Run], tmp_path: Path) -> None:
    figures = (Figure("J", 79.123, {"paper": 79.5}), Figure("P", math.nan, {"later": 1}), Figure("x", 1, {}))
    summary = make_run().write_summary(Summary("Title", figures, ("note",)))
    assert summary.value("x") == 1
    assert (tmp_path / "out/summary.md").read_text().splitlines() == [
        "# Title",
        "",
        "| figure | ours | paper | later |",
        "| --- | ---: | ---: | ---: |",
        "| J | 79.12 | 79.50 | - |",
        "| P | - | - | 1.00 |",
        "| x | 1.00 | - | - |",
        "",
        "- note",
    ]
