"""The house keeps its rules: sizes of files and functions, no machine paths, what --help may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    limit = 150 if path.parent.name == "methods" and path.name != "__init__.py" else 400
    assert text.count("\n") <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_public_things_have_docstrings(path):
    tree = ast.parse(path.read_text())
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    allowed = {"Arguments", "run", "words"} if path.parent.name == "cli" else set()
    short = {n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.end_lineno - n.lineno <= 6}
    assert not set(bare) - allowed - short
    assert path.name == "__init__.py" or ast.get_docstring(tree)


def test_nothing_reads_pickle():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} & {
                    n.split(".")[0] for n in names
                }, path
            if isinstance(node, ast.Attribute) and node.attr == "load" and isinstance(node.value, ast.Name):
                assert node.value.id != "torch", f"{path}:{node.lineno} torch.load"


def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib, io\n"
        "from selftaught.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out: main(['--help'])\n"
        "assert 'pretrain' in out.getvalue()\n"
        "print([m for m in ('torch', 'numpy', 'tyro', 'rich', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert done.stdout.strip() == "[]"
