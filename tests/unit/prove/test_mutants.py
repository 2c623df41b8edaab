"""Mutants change what they say, and nothing else."""

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.prove.mutants import mutants_of, put_in
from benchmarks.prove.parts.mutation import ROOMS, all_mutants, explanations

SOURCE = '''
"""For this test."""

MOST = 3


class Box:
    @property
    def size(self) -> int:
        """How many."""
        return 2 + 1


def fits(count: int) -> bool:
    if count < MOST:
        return True
    raise ValueError(f"{count} is more than {MOST - 1}")
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one for each test, as it is changed for good."""
    name = f"of_this_test_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(name)
    return f"{name}.py"


def test_every_change_of_a_module_has_a_name(tmp_path: Path, module: str) -> None:
    names = [mutant.name.removeprefix(f"{module} ") for mutant in mutants_of(tmp_path, module)]
    assert sorted(names) == sorted(
        [
            "Box.size: return 2 + 1 -> return None",
            "Box.size: 2 + 1 -> 2 - 1",
            "Box.size: 2 -> 3",
            "Box.size: 1 -> 2",
            "fits: if count < MOST: return True -> if True: return True",
            "fits: if count < MOST: return True -> if False: return True",
            "fits: count < MOST -> count <= MOST",
            "fits: return True -> return None",
            "fits: True -> False",
            f"{module}: 3 -> 4".removeprefix(f"{module} "),
        ]
    )


def put(tmp_path: Path, path: str, ending: str) -> None:
    (mutant,) = (m for m in mutants_of(tmp_path, path) if m.name.endswith(ending))
    put_in(mutant)


def test_a_mutant_is_put_into_a_method_a_function_and_a_number(tmp_path: Path, module: str) -> None:
    loaded = sys.modules[module.removesuffix(".py")]
    put(tmp_path, module, "2 + 1 -> 2 - 1")
    assert loaded.Box().size == 1
    put(tmp_path, module, "<= MOST")
    assert loaded.fits(3)
    put(tmp_path, module, "3 -> 4")
    assert loaded.fits(4)


def test_every_module_has_mutants_of_names_of_their_own() -> None:
    mutants = all_mutants()
    assert {mutant.path for mutant in mutants} == {path for room in ROOMS for path in room.modules}
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 1000


def test_what_is_explained_is_there() -> None:
    explained = explanations()
    assert explained.keys() <= {mutant.name for mutant in all_mutants()}
    assert all(len(reason) > 20 for reason in explained.values())
