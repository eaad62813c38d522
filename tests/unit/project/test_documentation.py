"""What the documents list is what the code has."""

import re
from pathlib import Path

import pytest

from wh.errors import Code
from wh.wire.messages import Message
from whcore.datapath import COUNTER_NAMES
from whtools.application import COMMANDS, application, options_of

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
DESIGN = (DOCS / "design.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "protocol.md").read_text(encoding="utf-8")
MAN_PAGE = re.sub(r"\\f[BIR]|\\\n", "", (DOCS / "man/wh.1").read_text(encoding="utf-8").replace(r"\-", "-"))
"""Without fonts and broken lines."""

CODES_BEGIN = "<!-- codes: as in wh.errors.Code -->"
CODES_END = "<!-- end of codes -->"


def sources(*tops: str) -> list[Path]:
    return [path for top in tops for path in sorted((ROOT / top).rglob("*.py"))]


def test_the_table_of_error_codes_is_the_codes():
    table = OPERATIONS.split(CODES_BEGIN)[1].split(CODES_END)[0].strip()
    rows = "".join(f"\n| {code.value} | {code.meaning} |" for code in Code)
    assert table == f"| code | meaning |\n| --- | --- |{rows}"


def test_operations_explains_every_counter_of_the_data_plane():
    named = set(re.findall(r"`(\w+)`", OPERATIONS.split("## Reading `wh inspect`")[1]))
    assert {*COUNTER_NAMES, "keys_locked"} <= named


@pytest.mark.parametrize("document", [OPERATIONS, MAN_PAGE], ids=["operations", "man page"])
def test_every_environment_variable_is_documented(document: str):
    text = "".join(path.read_text(encoding="utf-8") for path in sources("wh", "tools"))
    used = set(re.findall(r'"(WH_[A-Z]+)"', text))
    assert used
    assert {name for name in used if name not in document} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_man_page_has_every_command_with_its_options(name: str):
    synopsis = re.search(rf'^\.(?:BR|BI|B) "?wh {name}\b.*', MAN_PAGE, re.MULTILINE)
    assert synopsis
    command = application.get_command(None, name)
    missing = [option for option in options_of(command) if option not in synopsis[0]]
    assert missing == []


def test_the_design_names_every_module():
    house = DESIGN.split("## 2. The house")[1].split("## 3.")[0]
    words = set(re.findall(r"\w+", house))
    modules = [path.stem for path in sources("wh") if path.stem != "__init__"]
    modules += [path.stem for path in (ROOT / "whcore").glob("*.pyx")]
    assert sorted(set(modules) - words) == []


@pytest.mark.parametrize(
    "path", [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_links_lead_to_files(path: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_message_of_the_protocol_that_exists_is_in_its_first_table():
    built = PROTOCOL.split("## 3. Messages")[1].split("**Not built yet:**")[0]
    rows = re.findall(r"^\| ([\d/]+) \|", built, re.MULTILINE)
    assert {int(number) for row in rows for number in row.split("/")} == {
        message.__struct_config__.tag for message in Message.__args__
    }


def test_every_test_that_security_names_exists():
    named = re.findall(
        r"`((?:unit|lab|sim)/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "security.md").read_text(encoding="utf-8")
    )
    assert len(named) > 40
    for path, function in named:
        text = (ROOT / "tests" / path).read_text(encoding="utf-8")
        assert f"def {function or 'test_'}" in text, (path, function)
