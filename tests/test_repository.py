"""What the repository promises: requirements in step, clean notebooks, real commands, no machine paths."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import pytest
import torch
import yaml

import ptrlib
from ptrlib import runs
from ptrlib.report import REPOSITORY
from ptrlib.report.book import notebooks, parameters_of
from ptrlib.report.book import pages as book_pages
from ptrlib.report.results import is_stored

NOTEBOOKS = notebooks()


def tracked_files() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True,
                           text=True)
    return [REPOSITORY / name for name in names.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def package(requirement: str) -> str:
    """The name of a requirement, spelled as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]).lower()


def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return {package(line): line for line in lines if line and not line.startswith("#")}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", (REPOSITORY / "Makefile").read_text(),
                          flags=re.MULTILINE))


def test_environment_holds_the_requirements_of_pyproject() -> None:
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    extras = project()["optional-dependencies"]
    wanted = [*project()["dependencies"], *extras["book"], *extras["dev"], *extras["lerobot"]]
    assert [entry for entry in pip if not entry.startswith("-")] == wanted
    assert "-c constraints.txt" in pip
    assert "python=3.11" in environment["dependencies"]


def test_every_requirement_is_pinned_exactly() -> None:
    extras = project()["optional-dependencies"]
    pins = pinned()
    for requirement in (*project()["dependencies"], *extras["book"], *extras["dev"], *extras["lerobot"]):
        assert package(requirement) in pins, f"{requirement} has no exact version in constraints.txt"
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in pins.values())


def test_version_and_licence_stand_once() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"] == "Apache-2.0"
    assert "2603.16542" in json.dumps(citation["preferred-citation"])
    assert "Version 2.0, January 2004" in (REPOSITORY / "LICENSE").read_text()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_stored_without_outputs(name: str) -> None:
    cells = json.loads(NOTEBOOKS[name].read_text())["cells"]
    kept = [place for place, cell in enumerate(cells) if cell.get("outputs") or cell.get("execution_count")]
    assert not kept, f"cells {kept} hold outputs"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_have_one_cell_of_explained_parameters(name: str) -> None:
    parameters = parameters_of(NOTEBOOKS[name])  # refuses none, several, and anything but name = value
    assert parameters
    unexplained = [entry.name for entry in parameters.values() if len(entry.comment.split()) < 2]
    assert not unexplained, "say meaning and range in a comment"


def waits_for_runs(path: Path) -> bool:
    """Whether the notebook reads a manifest whose runs are not all stored."""
    parameters = parameters_of(path)
    if path.stem == "speed":
        return not list((REPOSITORY / str(parameters["results"].value)).glob("*.csv"))
    if "manifest" in parameters:
        return not is_stored(str(parameters["manifest"].value))
    named = cast(list[str], parameters["manifests"].value) if "manifests" in parameters else []
    return bool(named) and not any(map(is_stored, named))  # such a page says what it leaves out


def test_the_table_of_contents_has_every_page_once_and_none_that_waits_for_its_runs() -> None:
    contents = yaml.safe_load((REPOSITORY / "book" / "_toc.yml").read_text())
    text = json.dumps(contents)
    listed = [contents["root"], *re.findall(r'"file": "([^"]+)"', text)]
    pages = {path.relative_to(REPOSITORY / "book").with_suffix("").as_posix() for path in tracked_files()
             if path.is_relative_to(REPOSITORY / "book") and path.suffix in {".md", ".ipynb"}}
    waiting = {name for name, path in NOTEBOOKS.items() if waits_for_runs(path)}
    assert Counter(listed) == Counter((pages | set(NOTEBOOKS)) - waiting)


def test_figures_are_named_once_and_plainly() -> None:
    """``make figures/NAME.pdf`` finds the notebook by the literal name in its save_figure call."""
    names, drawn_by = [], {}
    for notebook, path in NOTEBOOKS.items():
        code = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]
                         if cell["cell_type"] == "code")
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "save_figure":
                assert isinstance(node.args[1],
                                  ast.Constant), f"{path.name}: write the figure's name as a plain string"
                names.append(node.args[1].value)
                drawn_by[node.args[1].value] = notebook
    assert [name for name, count in Counter(names).items() if count > 1] == []
    known = subprocess.run(["make", "--no-print-directory", "-s", "list-figures"], cwd=REPOSITORY, check=True,
                           capture_output=True, text=True).stdout.split()
    shown = {name for name, notebook in drawn_by.items() if notebook in book_pages()}
    assert set(known) == {f"figures/{name}.pdf" for name in shown} | {"figures/pipeline.pdf"}


def test_commands_of_the_texts_are_make_targets() -> None:
    texts = [REPOSITORY / "README.md", *(REPOSITORY / "book").glob("*.md"), *NOTEBOOKS.values()]
    for path in texts:
        for target in re.findall(r"\bmake ([a-z][a-z-]*)(?=[`\s\\]|$)(?! sure)", "\n".join(
                re.findall(r"`[^`]*`|^\s{4}.*$", path.read_text(), flags=re.MULTILINE))):
            assert target in make_targets(), f"{path.name} names `make {target}`, which the Makefile lacks"


def test_every_target_is_explained_by_make_help() -> None:
    shown = subprocess.run(["make", "--no-print-directory", "help"], cwd=REPOSITORY, check=True,
                           capture_output=True,
                           text=True).stdout
    explained = set(re.findall(r"^  ([a-z][a-z-]*)  +\S+", shown, flags=re.MULTILINE))
    assert explained == make_targets() - {"list-figures"}


def test_the_overlay_of_the_readme_runs_and_trains() -> None:
    code = re.search(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)
    assert code is not None
    generator = torch.Generator().manual_seed(0)
    policy = torch.nn.Linear(8, 512)
    context = policy(torch.randn(6, 8, generator=generator))
    names = {"PosteriorTransitionReweighting": ptrlib.PosteriorTransitionReweighting, "context": context,
             "action_tokens": torch.randn(6, 16, 512, generator=generator), "episode_ids": torch.arange(6),
             "targets": torch.randn(6, 256, generator=generator), "valid": torch.ones(6, dtype=torch.bool),
             "per_sample_action_loss": context.square().mean(1),
             "optimizer": torch.optim.SGD(policy.parameters(), lr=0.1)}
    before = policy.weight.clone()
    exec(code.group(1), names)
    assert not torch.equal(policy.weight, before)
    assert torch.isfinite(names["loss"])
    assert names["ptr"].step == 1


def test_no_tracked_file_names_a_path_of_some_machine() -> None:
    """Neither this checkout's place nor anybody's home folder; settings and records hold relative paths."""
    places = {str(REPOSITORY), str(Path.home())} - {"/"}
    pattern = re.compile("|".join([*(rf"{re.escape(place)}(?![\w-])" for place in sorted(places)),
                                   r"(?<![\w.])/(?:home|Users)/[a-z]\w*/",
                                   r"\b[A-Z]:\\\\Users\\\\"]).encode())
    parts = [*(place.encode() for place in places), b"/home/", b"/Users/", b":\\\\Users"]  # found sooner than a pattern

    def named(text: bytes) -> str:
        match = pattern.search(text) if any(part in text for part in parts) else None
        return match.group().decode() if match else ""

    for example in (REPOSITORY, Path("/", "home", "someone", "x"), Path("/", "Users", "someone", "x")):
        assert named(f" {example} ".encode())
    assert named(b"\\\\".join([b"C:", b"Users", b"someone"])) and not named(b"at home in data/libero")
    found = [f"{path.relative_to(REPOSITORY)}: {name}" for path in tracked_files()
             if (name := named(path.read_bytes()))]
    assert found == []


def test_runs_start_from_policies_that_a_manifest_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that was pretrained with other settings has another name: its manifest and the ones that start
    from it change together."""
    monkeypatch.chdir(REPOSITORY)
    manifests = [runs.load_manifest(path) for path in sorted(runs.EXPERIMENTS.glob("*.yaml"))]
    made = {setting.folder_name for manifest in manifests for setting in manifest.settings}
    for manifest in manifests:
        for start in {setting.config.initial_policy for setting in manifest.settings} - {"", *made}:
            near = get_close_matches(start, made, n=1, cutoff=0.0)[0]
            pytest.fail(f"experiments/{manifest.name}.yaml starts from '{start}', which no manifest makes; the nearest "
                        f"name is '{near}': set initial_policy to what the pretraining manifest makes")


# Every part of the package; a part imports those before it alone.
ORDER = ("errors", "writing", "config", "distributed", "method", "policy", "data", "demonstrations", "credit", "checks",
         "runs", "storage", "simulators", "gallery", "correspondence", "training", "agent", "batched_evaluation",
         "evaluation", "weighting", "experiment", "scene_identity", "report", "cli", "__main__")
# And not these either, though they come before it.
APART = {"policy": {"method"}, "data": {"method"}, "checks": {"method"}, "storage": {"credit"},
         "simulators": {"method", "credit"}, "training": {"simulators"}, "agent": {"credit", "training"},
         "batched_evaluation": {"method", "credit", "policy", "training", "agent"},
         "evaluation": {"method", "credit", "policy", "training", "agent"},
         "weighting": {"simulators", "agent", "evaluation"}}


def imported_parts(source: str) -> set[str]:
    """The parts of ptrlib that a module imports anywhere, but for what it does when it is run as a script."""
    body = [node for node in ast.parse(source).body
            if not (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'")]
    names = []
    for node in (inner for outer in body for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "ptrlib":
            names += [f"ptrlib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("ptrlib.")}


def test_imports_are_found_however_they_are_written() -> None:
    assert imported_parts("import ptrlib.agent\ndef f():\n    from ptrlib import cli, runs\n"
                          "from ptrlib.data.chunks import hold_out\n"
                          "if __name__ == '__main__':\n    from ptrlib import report\n") == {
        "agent", "cli", "runs", "data"}


def test_imports_run_one_way() -> None:
    package, wrong = REPOSITORY / "ptrlib", []
    parts = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")} - {"__init__"}
    assert parts == set(ORDER)
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        if part != "__init__":  # the doors to the package
            allowed = {*ORDER[:ORDER.index(part) + 1]} - APART.get(part, set())
            wrong += [f"{path.relative_to(REPOSITORY)} imports ptrlib.{name}"
                      for name in sorted(imported_parts(path.read_text()) - allowed)]
    assert wrong == []


def test_every_module_imports_where_no_simulator_is_installed():
    """`make book` and Tabletop need nothing that `make simulators` adds."""
    script = """
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mujoco", "robosuite", "libero", "robocasa", "bddl"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import ptrlib
for module in pkgutil.walk_packages(ptrlib.__path__, "ptrlib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there_and_the_commands_do_not_wait_for_torch():
    code = ("import sys, ptrlib.cli, ptrlib.report.results; assert 'torch' not in sys.modules; import ptrlib; "
            "print([name for name in ptrlib.__all__ if not getattr(ptrlib, name).__module__.startswith('ptrlib.')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'ptrlib'"):
        from ptrlib import nothing  # noqa: F401
