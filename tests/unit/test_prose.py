"""The linter of prose: each rule finds what it is for and nothing else, in the line it is in."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from etl.config.settings import settings_table
from etl.database import sql_views
from etl.database.schema import metadata
from scripts import prose
from scripts.help_texts import help_texts
from scripts.prose_texts import Text, of_comments, of_markdown, of_python, texts_of
from tests.support.paths import ROOT

RULES = prose.read_rules()
FORMS = [(form, word["say"]) for word in RULES.words for form in word["avoid"]]


def found_in(text: Text) -> list[tuple[int, str]]:
    return [(finding.line, finding.found) for finding in RULES.findings(text)]


def advice_for(markdown: str) -> list[str]:
    return [finding.advice for finding in RULES.findings(of_markdown("page.md", markdown))]


# --- rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "say"), FORMS)
def test_a_word_to_avoid_is_found_with_what_to_say_instead(form: str, say: str):
    assert f"say {say}" in advice_for(f"One file {form} the other.")
    assert f"say {say}" in advice_for(f"**{form.capitalize()}** the other.")
    assert found_in(of_markdown("page.md", f"One file\n{form} it.")) == [(2, form)]


@pytest.mark.parametrize(("form", "say"), FORMS)
def test_a_word_to_avoid_is_no_part_of_another_and_no_code(form: str, say: str):
    for harmless in (f"x{form}y", f"`{form}`", f"/{form}", f"{form}_at", f"pre-{form}"):
        assert f"say {say}" not in advice_for(f"One file {harmless} the other.")


def test_no_word_is_avoided_twice_and_none_is_recommended():
    forms = [form for form, _ in FORMS]
    assert len(forms) == len(set(forms))
    for _, say in FORMS:
        assert found_in(of_markdown("page.md", f"Say {say.replace('...', '')}.")) == []


@pytest.mark.parametrize("pattern", RULES.patterns, ids=lambda pattern: pattern["wrong"])
def test_a_pattern_finds_its_wrong_sentence_and_leaves_its_right_one(pattern: dict[str, str]):
    assert pattern["say"] in advice_for(pattern["wrong"])
    assert advice_for(pattern["right"]) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "An hourly job so pauses for two hours once a year",
        "Of a folder each file has its own schedule",
        "What befalls one stops no other",
        "configured in a lonely file",
        "For BI that shall read the SQL views and no table",
        "Two beside each other harm nothing",
        "Read 1 views.",
        "An hourly job pauses so for two hours once a year.",
        "A server closes so; it waits.",
        "In a folder has each file its own schedule.",
        "In the ledger is what was cut.",
        "In `sync_runs` is what was cut.",
        "In the hidden folder is a file.",
        "In the list of snapshots is one that is new.",
        "Behind it are two servers.",
        "Nothing is lost: in the ledger is what was cut.",
        "Gone from the list is a snapshot that nobody pins.",
        "Stored in the first run are all rows.",
        "To each view belongs a verdict.",
        "Should a run die, the next one goes on.",
        "Were the clock wrong, nothing is stamped.",
        "It waits; had it failed, it would say.",
        "Nobody but the owner may.",
        "For BI that is to read the SQL views and no table.",
        "It ends when the process is to stop.",
        "It counts how many parts of views were to be read.",
        "Two of them at once harm none.",
        "One error stops nobody.",
        "A view with many hits is read first.",
        "A snapshot disappears.",
        "Of a folder, each file has its own schedule.",
        "Never is a file deleted.",
        "Not only does it read them.",
        "So is a view that nobody reads.",
        "Nor does it write.",
        "Stored are only the names.",
        "Missing is a view.",
        "The fault was told in the log.",
        "It is read, for these are new.",
    ],
)
def test_what_stopped_readers_is_found(sentence: str):
    assert advice_for(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "In a folder, each file has its own schedule.",
        "In a folder each file has its own schedule.",
        "On PostgreSQL this is set by the transaction.",
        "On Windows files are locked.",
        "In a run views are read in turn.",
        "In the list of snapshots it is marked.",
        "At most `max` are kept.",
        "To read is not to write.",
        "From there it is read.",
        "In which folder is the file?",
        "Missing keys are no error.",
        "Missing is not the same as removed.",
        "Only one is read.",
        "So far it waits.",
        "Removed by a reading that is trusted.",
        "Stored in a table: it is small.",
        "Should a run wait? Had it failed?",
        "Should a run die, what happens?",
        "Should only be set where it is known, as here.",
        "Had to round, which is reported.",
        "The first step is to read the log.",
        "The easiest way to fix that is to set it.",
        "The point of it is to wait.",
        "Do so once a year.",
        "If so, it waits, and it does so for an hour.",
        "The log says so. It takes an hour or so.",
        "In the end none is asked.",
        "He was told that it failed, and people are told which.",
        "Use it for these are the cases.",
        "Of the three databases, SQLite is the smallest.",
        "Never is a long time.",
        "The log says that that row is new.",
        "The list is 1 pages-long.",
        "On port 1 requests wait.",
        "The page shows two charts side by side.",
        "One outage hits many views, and `sync` hits the limit.",
        "It counts the cache hits.",
    ],
)
def test_good_english_is_left(sentence: str):
    assert advice_for(sentence) == []


@pytest.mark.parametrize(
    ("sentence", "check"),
    [
        ("At this point in time it is read.", ""),
        ("It is a safe haven.", ""),
        ("Thusly it ends.", ""),
    ],
)
def test_the_checks_of_proselint_run_too(sentence: str, check: str):
    assert advice_for(sentence) not in ([], [check])


def test_a_sentence_may_have_so_many_words_and_no_more():
    longest = RULES.longest[".md"]
    fits, too_long = (
        " ".join(["Word", *["and"] * (n - 2), "end."]) for n in (longest, longest + 1)
    )
    found = [a for a in advice_for(f"{fits} {fits}\n\n{too_long}") if "words" in a]
    assert found == [f"{longest + 1} words in one sentence, at most {longest}: make it two"]


def test_a_list_of_names_is_no_sentence():
    names = " ".join(["name"] + ["other"] * RULES.longest[".md"])
    assert [a for a in advice_for(names) if "words" in a] == []
    assert [a for a in advice_for(f"{names}.") if "words" in a] != []


@pytest.mark.parametrize("words", RULES.allowed)
def test_a_word_of_the_trade_is_allowed_and_would_be_found_else(words: str):
    assert advice_for(f"One {words} is kept.") == []
    content = tomllib.loads(prose.RULES.read_text(encoding="utf-8")) | {"allowed": []}
    page = of_markdown("page.md", f"One {words} is kept.")
    assert [finding.found for finding in prose.Rules(content).findings(page)] == [words]


def test_a_word_is_reported_once_and_with_what_to_say():
    assert advice_for("It waits for ever.") == ["say without end, always"]


def test_code_is_one_word_whatever_is_in_it():
    assert advice_for(f"Run `{'word ' * 50}` now.") == []


# --- where it looks -----------------------------------------------------------------------


def test_markdown_is_read_without_code_and_with_the_lines_of_its_findings():
    page = """\
# A lonely page

Text in `lonely code`, [whilst](heed.md)
it is <!-- mute --> read. Of a file
nothing is read.

```sh
heed --lonely
```

    lonely

| Lonely | it |
| --- | --- |
| ok | whilst `heed` |

- One item.

  Its lonely paragraph.
- Of the items the last.
"""
    assert found_in(of_markdown("page.md", page)) == [
        *((1, "lonely"), (3, "whilst"), (4, "Of")),
        *((13, "Lonely"), (15, "whilst"), (19, "lonely"), (20, "Of")),
    ]


def test_of_the_changelog_only_what_is_not_released_is_read():
    page = "# Changelog\n\n## [Unreleased]\n- Lonely.\n\n## [0.1.0]\n- Lonely.\n"
    assert found_in(of_markdown("CHANGELOG.md", page)) == [(4, "Lonely")]


def test_comments_and_descriptions_of_other_files_are_read():
    unit = """\
# A lonely unit; for
# the reader whilst he reads.
#   heed this example
[Unit]
Description=A mute unit
ExecStart=/bin/lonely  # in vain
"""
    assert found_in(of_comments("x.service", unit)) == [
        *((1, "lonely"), (2, "whilst"), (5, "mute"), (6, "in vain")),
    ]


def test_messages_docstrings_and_comments_of_code_are_read():
    code = '''\
"""What a lonely module is for.

    an example, whilst shown

The end.
"""
log.warning("%s: stays mute", name)  # read in vain
raise Refused(
    f"the keys of {site} are refused: "
    f"mend them, and {len(views)} views are read "
    f"{count:,} records, {MAX_COUNT:,} records, {name} views"
)
LONELY = {"lonely": 1, "sql": "SELECT whilst FROM heed"}
epilog = """\\b
Lonely codes:
  0  it mends a view
"""
HEAD = """\\
# In vain, whilst
#   heed this example
lonely = "for ever"  # a twins file
"""
'''
    assert found_in(of_python("x.py", code)) == [
        *((1, "lonely"), (7, "in vain"), (7, "mute"), (10, "# views"), (10, "mend")),
        *((11, "# records"), (15, "Lonely"), (16, "mends")),
        *((19, "In vain"), (19, "whilst"), (21, "twins")),
    ]


@pytest.mark.slow
@pytest.mark.slow
def test_all_that_the_program_says_of_itself_is_read():
    """Help, settings, and the comments in the database, where they are written."""
    read = "\n".join(text.flat for text in texts_of(sorted((ROOT / "etl").rglob("*.py")), ROOT))
    known = set(re.findall(r"\w+", read))
    tables = [*metadata.tables.values(), *sql_views.metadata.tables.values()]
    said = [text for _, text in help_texts()]
    said += [setting.description for setting in settings_table()]
    said += [str(table.comment) for table in tables]
    said += [str(column.comment) for table in tables for column in table.columns]
    assert len(said) > 300
    said.remove("Show the version and exit.")  # click's own
    words = "".join(read.split())
    missed = [text for text in said if not (plain(text) <= known)]
    assert missed == []
    clauses = {text: inspect.cleandoc(text).split("; ") for text in said}
    whole = [text for text in said if all("".join(c.split()) in words for c in clauses[text])]
    assert len(whole) > 0.9 * len(said)


def plain(text: str) -> set[str]:
    """Its words, without code and without names of columns, which a program may put in."""
    words = re.findall(r"\w+", re.sub(r"`.*?`", "", text.replace("\b", "")))
    return {word for word in words if "_" not in word}


# --- the command --------------------------------------------------------------------------


def test_the_command_prints_findings_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nOne lonely file.\n", encoding="utf-8")
    assert prose.main([str(page)]) == 1
    assert capsys.readouterr().out == f"{page}:3: lonely: say alone, single\n"
    assert prose.main(["--count", str(page)]) == 1
    assert capsys.readouterr().out == f"    1  {page}\n"


def test_the_command_is_silent_where_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nOne file.\n", encoding="utf-8")
    assert prose.main([str(page)]) == 0
    assert capsys.readouterr() == ("", "")


def test_every_kind_of_text_is_looked_at():
    names = {str(path.relative_to(ROOT)) for path in prose.files_of(RULES)}
    expected = {"README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "crontab.example"}
    expected |= {"docs/bi.md", "deploy/compose.yaml", "deploy/systemd/heatmap-etl.service"}
    expected |= {"etl/config/settings.py", "etl/database/schema.py", "etl/cli/commands/sync.py"}
    assert expected - names == set()


def test_a_place_to_look_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"prose\.toml: files has README\.md"):
        prose.files_of(RULES, tmp_path)


def test_make_check_runs_it():
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    assert "-m scripts.prose || status=1" in recipe
