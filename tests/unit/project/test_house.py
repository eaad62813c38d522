"""The house stays one that a newcomer finds things in (docs/design.md section 2, CONTRIBUTING.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[3]
FUNCTION_LINES_MAX = 40
FUNCTION_LINES_MEDIAN_MAX = 6
FILE_LINES_MAX = 480
FILES_OF_FOLDER = range(2, 17)


def sources(*tops: str) -> list[Path]:
    return [path for top in tops for path in sorted((ROOT / top).rglob("*.py"))]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each with its lines, decorators not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short():
    lengths = dict(each for path in sources("wh", "tools") for each in functions(path))
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}
    assert median(lengths.values()) <= FUNCTION_LINES_MEDIAN_MAX


def test_files_are_of_one_thing():
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources("wh")}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_the_house_holds_folders_of_few_files():
    folders = {path.parent for path in sources("wh")} - {ROOT / "wh"}
    counts = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count not in FILES_OF_FOLDER} == {}
    assert {path.name for path in (ROOT / "wh").glob("*.py")} == {"__init__.py", "errors.py"}


def test_every_package_says_what_it_is_about():
    packages = [path for path in sources("wh") if path.name == "__init__.py" and path.parent.name != "wh"]
    assert [path for path in packages if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []
