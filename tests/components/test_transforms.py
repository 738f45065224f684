from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mainspring.components import apply_columns, fit_columns, read_table
from mainspring.components.transforms import fit_steps, load_transform, save_transform, to_pandas
from mainspring.core import Corrupt, InvalidInput, NotFound

TRAIN = pl.DataFrame(
    {"x": [1.0, None, 3.0, 5.0], "n": [1, 2, 3, 4], "kind": ["b", "a", None, "a"], "late": [0, 1, 0, 1]}
)
NEW = pl.DataFrame({"x": [None, 9.0], "n": [7, 8], "kind": ["never seen", "b"], "other": ["y", "z"]})


@pytest.mark.parametrize("style", ["codes", "standard"])
def test_what_was_fitted_is_applied_the_same_after_it_was_kept(tmp_path: Path, style: str) -> None:
    fitted = fit_steps(TRAIN, numeric=["x", "n"], categorical=["kind"], style=style)
    save_transform(fitted, tmp_path)
    np.testing.assert_array_equal(load_transform(tmp_path).matrix(NEW), fitted.matrix(NEW))


def test_codes_leave_gaps_and_the_estimators_steps_give_the_same_matrix() -> None:
    fitted = fit_steps(TRAIN, numeric=["x", "n"], categorical=["kind"])
    nan = np.nan
    np.testing.assert_array_equal(fitted.matrix(TRAIN), [[1, 1, 1], [nan, 2, 0], [3, 3, nan], [5, 4, 0]])
    np.testing.assert_array_equal(fitted.matrix(NEW), [[nan, 7, nan], [9, 8, 1]])
    np.testing.assert_array_equal(fitted.as_steps(TRAIN).transform(to_pandas(NEW, fitted)), fitted.matrix(NEW))


def test_standard_fills_scales_and_spreads_by_the_training_rows_alone() -> None:
    fitted = fit_steps(TRAIN, numeric=["x"], categorical=["kind"], style="standard")
    matrix = fitted.matrix(NEW)
    filled = np.array([1.0, 3.0, 3.0, 5.0])
    np.testing.assert_allclose(matrix[:, 0], [(3 - filled.mean()) / filled.std(), (9 - filled.mean()) / filled.std()])
    np.testing.assert_array_equal(matrix[:, 1:], [[0, 0], [0, 1]])


def test_without_named_columns_all_that_can_be_learned_from_are_taken(table, file) -> None:
    transform, prepared = file("transform"), file("prepared")
    fit_columns(table("train", TRAIN), transform=transform, without=["late"])
    assert (transform.metadata["numeric"], transform.metadata["categorical"]) == (["x", "n"], ["kind"])
    apply_columns(table("new", NEW), transform=transform, prepared=prepared, keep=["other"])
    assert read_table(prepared).columns == ["x", "n", "kind", "other"]
    assert read_table(prepared)["kind"].to_list()[1] == 1.0


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no transform"):
        load_transform(tmp_path)
    fitted = fit_steps(TRAIN, numeric=["x"], categorical=["kind"])
    with pytest.raises(InvalidInput, match="no column 'x'"):
        fitted.matrix(NEW.drop("x"))
    with pytest.raises(InvalidInput, match="no style"):
        fit_steps(TRAIN, numeric=["x"], categorical=[], style="magic")
    with pytest.raises(InvalidInput, match="No column is left"):
        fit_columns_of(TRAIN, without=TRAIN.columns)
    (tmp_path / "transform.json").write_text("{}")
    with pytest.raises(Corrupt):
        load_transform(tmp_path)


def fit_columns_of(frame: pl.DataFrame, without: list[str]) -> None:
    from mainspring.components.transforms import choose_columns

    choose_columns(frame, without)


def test_a_transform_that_holds_other_types_is_not_built(tmp_path: Path) -> None:
    import skops.io

    save_transform(fit_steps(TRAIN, numeric=["x"], categorical=[], style="standard"), tmp_path)
    skops.io.dump(Path("/"), tmp_path / "transform.skops")
    with pytest.raises(Corrupt, match="is not a transform"):
        load_transform(tmp_path)
