"""Notebooks in, a book out.

:func:`run_notebook` executes one notebook with papermill; with the notebook's own parameters the
executed copy becomes a page (``build/book``) and its figures go to ``figures/``, with others it is kept
apart (``build/notebooks``). ``python -m ptrlib.report.book`` turns the executed pages into HTML. The
notebooks in ``book/`` themselves never hold outputs.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import yaml

from ptrlib import runs
from ptrlib.errors import Stopped
from ptrlib.report import REPOSITORY
from ptrlib.report.explorer import PLOTLY, write_plotly
from ptrlib.report.figures import FOLDER_VARIABLE
from ptrlib.report.results import manifest_path

BOOK = REPOSITORY / "book"
PAGES = REPOSITORY / "build" / "book"  # sources and executed notebooks, as Jupyter Book reads them
APART = REPOSITORY / "build" / "notebooks"  # executions with other parameters
HTML = BOOK / "_build" / "html"
MATHJAX = "tex-svg-full.js"  # one file, needs no fonts and no other file

# What a browser fetches by itself; a link that a reader clicks is not among them.
_ADDRESS = r"""["']?((?:https?:)?//[^"')\s]+)"""
FOREIGN = re.compile(rf"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc={_ADDRESS}"""
                     r"""|<link\b(?=[^>]*rel=["'](?:stylesheet|preload|icon|shortcut icon|preconnect))"""
                     rf"""[^>]*?\bhref={_ADDRESS}|@import\s+(?:url\()?{_ADDRESS}""")


# A range as the comment of a parameter states it, outside brackets: there stands what the paper has.
_NUMBER = r"\d+(?:\.\d+)?"
RANGE = re.compile(rf"({_NUMBER})\s+(?:to\s+({_NUMBER})|to the number of|or more)")
BRACKETS = re.compile(r"\([^)]*\)")

LINK = re.compile(r"""<a\b[^>]*?\bhref=["'](?![a-z]+:|//|#)([^"'#?]+)""")  # to another file, not to another host


@dataclass(frozen=True)
class Parameter:
    """One assignment of a notebook's ``parameters`` cell."""

    name: str
    value: object
    comment: str  # its meaning and range


def notebooks() -> dict[str, Path]:
    """All notebooks of the book by their path without suffix, e.g. ``"method/score"``."""
    paths = sorted(path for path in BOOK.rglob("*.ipynb")
                   if not {"_build", ".ipynb_checkpoints"} & set(path.relative_to(BOOK).parts))
    return {path.relative_to(BOOK).with_suffix("").as_posix(): path for path in paths}


def pages() -> dict[str, Path]:
    """The notebooks that ``_toc.yml`` lists: those whose runs are stored. The others run by name, afresh."""
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text())
    listed = [contents["root"], *(entry["file"] for part in contents.get("parts", []) for entry in part["chapters"])]
    return {name: path for name, path in notebooks().items() if name in listed}


def find_notebook(name: str) -> str:
    """The full name (``results/corruption_robustness``) of a notebook given by it or by its last part."""
    known = notebooks()
    matches = [full for full in known if name in (full, full.split("/")[-1])]
    if len(matches) == 1:
        return matches[0]
    problem = f"The name '{name}' fits several notebooks" if matches else f"The book has no notebook '{name}'"
    raise ValueError(f"{problem}; choose one of {', '.join(matches or known)}.")


def parameters_of(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name, read from its one cell tagged ``parameters``."""
    cells = [cell for cell in json.loads(path.read_text())["cells"]
             if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{path} has {len(cells)} cells tagged 'parameters'; tag exactly one.")
    source = "".join(cells[0]["source"])
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0],
                                                                                       ast.Name)):
            raise ValueError(f"{path}: line {node.lineno} of the parameters cell is not 'name = value  # "
                             f"meaning'.")
        name = node.targets[0].id
        comment = lines[(node.end_lineno or node.lineno) - 1].partition("#")[2].strip()
        found[name] = Parameter(name, ast.literal_eval(node.value), comment)
    return found


def check_parameters(path: Path, parameters: Mapping[str, object]) -> dict[str, object]:
    """``parameters``, each in the type of its default.

    Raises:
        ValueError: an unknown name, a wrong type, a number outside the range that its comment states, a list of
            nothing where the comment gives ``[]`` no meaning, or a manifest that is not there.
    """
    known = parameters_of(path)
    checked = {}
    for name, value in parameters.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
            valid = "; ".join(f"{entry.name} = {entry.value!r} ({entry.comment})" for entry in known.values())
            raise ValueError(f"{path.name} has no parameter '{name}'.{hint} Its parameters are: {valid}.")
        checked[name] = _like(known[name], value)
        _check_range(known[name], checked[name])
        _check_manifest(known[name], checked[name])
    return checked


def run_notebook(name: str, parameters: Mapping[str, object] | None = None) -> Path:
    """Execute one notebook and return the path of the executed copy.

    ``name`` is its path in the book or the last part of it. Without ``parameters`` the copy becomes the
    book's page and the figures go to ``figures/``; with them, both go to a folder of ``build/notebooks``
    named by the parameters, and the book is left alone.

    Raises:
        ValueError: a parameter that the notebook refuses, or a run that it misses.
        Stopped: the notebook stopped for another reason; the sentence names the cell.
    """
    import papermill

    full = find_notebook(name)
    source = BOOK / f"{full}.ipynb"
    checked = check_parameters(source, parameters or {})
    if checked:
        folder = APART / f"{full.replace('/', '-')}-{_slug(checked)}"
        target, figures = folder / source.name, folder / "figures"
    else:
        target, figures = PAGES / f"{full}.ipynb", REPOSITORY / "figures"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    # The kernel is this environment's own, whatever kernels the user has registered elsewhere.
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", FOLDER_VARIABLE: str(figures),
                   "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    try:
        papermill.execute_notebook(source, temporary, parameters=checked, kernel_name="python3", cwd=REPOSITORY,
                                   progress_bar=False, start_timeout=600,
                                   extra_arguments=["--log-level=CRITICAL"])  # errors come as exceptions
    except papermill.PapermillExecutionError as error:
        if error.ename == "ValueError":  # a wrong parameter or a missing run: the sentence says it all
            temporary.unlink()
            with contextlib.suppress(OSError):  # it holds figures, or other pages
                target.parent.rmdir()
            raise ValueError(f"{full}: {error.evalue}") from error
        failed = temporary.replace(target.with_name(f"{target.stem}.failed.ipynb"))
        raise Stopped(f"{full} stopped in cell {error.cell_index}: {error.ename}: {error.evalue} "
                      f"(executed so far: {failed})") from error
    _drop_empty_outputs(temporary)
    return temporary.replace(target)


def _drop_empty_outputs(notebook: Path) -> None:
    """Take out the Markdown outputs that say nothing, which a page would show as the name of a Python object."""
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if "".join(
                output.get("data", {}).get("text/markdown", "said")).strip()]
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def build() -> Path:
    """Turn ``build/book`` into HTML, warnings as errors; returns the folder of the HTML.

    Every notebook must have been executed (``make book`` does that first).
    """
    missing = [full for full in pages() if not (PAGES / f"{full}.ipynb").exists()]
    if missing:
        raise ValueError(f"Not executed yet: {', '.join(missing)}; run `make book`.")
    _copy_pages()
    _copy_mathjax(PAGES / "_static")
    write_plotly(PAGES / "_static")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(PAGES), "--path-output",
               str(BOOK),
               "--all", "--warningiserror", "--nitpick", "--keep-going"]
    subprocess.run(command, check=True, cwd=REPOSITORY)
    foreign = sorted(set(foreign_requests(HTML)))
    if foreign:
        raise ValueError(f"The book would ask other hosts: {', '.join(foreign)}.")
    unread = sorted(path.name for path in HTML.rglob("*.html") if "IPython.core.display." in path.read_text())
    if unread:
        raise ValueError(f"These pages show the name of a Python object instead of what it says: {', '.join(unread)}.")
    broken = sorted(set(broken_links(HTML)))
    if broken:
        raise ValueError(f"Links of the book lead nowhere: {', '.join(broken)}.")
    return HTML


def foreign_requests(html: Path) -> Iterator[str]:
    """``page: address`` of every script, style sheet, image or frame that a page loads from another host."""
    for page in sorted(html.rglob("*.html")):
        for match in FOREIGN.finditer(page.read_text()):
            yield f"{page.relative_to(html)}: {next(filter(None, match.groups()))}"


def broken_links(html: Path) -> Iterator[str]:
    """``page: link`` of every link to a file of the book that is not there."""
    for page in sorted(html.rglob("*.html")):
        for link in LINK.findall(page.read_text()):
            if not (page.parent / unquote(link)).exists():
                yield f"{page.relative_to(html)}: {link}"


def _copy_pages() -> None:
    """Bring ``build/book`` up to date with everything in ``book/`` but the notebooks."""
    kept = {PAGES / f"{full}.ipynb" for full in pages()}
    for path in BOOK.rglob("*"):
        relative = path.relative_to(BOOK)
        if path.is_file() and path.suffix != ".ipynb" and not {"_build",
                                                               ".ipynb_checkpoints"} & set(relative.parts):
            (PAGES / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, PAGES / relative)
            kept.add(PAGES / relative)
    for path in PAGES.rglob("*"):
        if path.is_file() and path not in kept and path.name not in (MATHJAX, PLOTLY):
            path.unlink()


def _copy_mathjax(folder: Path) -> None:
    """Put MathJax beside the pages, from the package that ships it: formulas show without a network."""
    package = importlib.util.find_spec("mathjax")
    if package is None or not package.submodule_search_locations:
        raise ValueError("The MathJax files are missing; run `make setup`, or pip install 'ptrlib[book]'.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path(package.submodule_search_locations[0]) / "static" / "mathjax" / "es5" / MATHJAX, folder)


def _like(parameter: Parameter, value: object) -> object:
    """``value`` in the type of the default; a whole number passes for a float, one value for a list."""
    default = parameter.value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, list | tuple):
        return list(value) if isinstance(value, list | tuple) else [value]
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, str) and not isinstance(value, list | dict):
        return str(value)
    raise ValueError(f"Parameter '{parameter.name}' is a {type(default).__name__} ({parameter.comment}); "
                     f"{value!r} is a {type(value).__name__}.")


def _check_range(parameter: Parameter, value: object) -> None:
    """Raise ValueError for what the comment of ``parameter`` excludes; the default needs no check."""
    if value == parameter.value:
        return
    mend = f"give another value ({parameter.comment}) or leave it out."
    if value == [] and "[]" not in parameter.comment:
        raise ValueError(f"{parameter.name}=[] names nothing; {mend}")
    stated = RANGE.search(BRACKETS.sub("", parameter.comment))
    if stated is None:
        return
    low, high = float(stated[1]), float(stated[2] or "inf")
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
            raise ValueError(f"{parameter.name}={value!r} is out of range; {mend}")


def _check_manifest(parameter: Parameter, value: object) -> None:
    """Raise ValueError if the default of ``parameter`` names manifests and ``value`` one that is not there: a page
    would find out only after all that it trains for other sections."""
    if not any(_is_manifest(name) for name in _as_list(parameter.value)):
        return
    for name in _as_list(value):
        if name and not _is_manifest(name):
            known = sorted(path.stem for path in (REPOSITORY / runs.EXPERIMENTS).glob("*.yaml"))
            nearest = difflib.get_close_matches(str(name), known, n=1)
            mend = (f"the nearest in {runs.EXPERIMENTS} is '{nearest[0]}'" if nearest else
                    f"give the name of a file of {runs.EXPERIMENTS} without its suffix, such as '{known[0]}'")
            raise ValueError(f"{parameter.name}={name}: there is no such manifest; {mend} ({parameter.comment}).")


def _is_manifest(name: object) -> bool:
    return isinstance(name, str) and bool(name) and (REPOSITORY / manifest_path(name)).is_file()


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _slug(parameters: Mapping[str, object]) -> str:
    """A readable, short and unique folder name for a set of parameters."""
    text = "-".join(f"{name}_{value}" for name, value in sorted(parameters.items()))
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:6]
    return re.sub(r"[^A-Za-z0-9_.-]+", "", text)[:60] + "-" + digest


if __name__ == "__main__":
    try:
        print(build())
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
