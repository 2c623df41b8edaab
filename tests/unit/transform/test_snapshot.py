"""Numbers that are stored with what they stand for."""

from etl.transform.snapshot import HASH_VERSION, MAX_DRIFT_NAMES, NORMALIZER_VERSION


def test_the_versions() -> None:
    """Another one makes every run read all that it could skip, or compare contents anew."""
    assert (NORMALIZER_VERSION, HASH_VERSION) == (2, "1")


def test_names_of_drift_have_a_bound() -> None:
    assert MAX_DRIFT_NAMES == 20_000
