"""Notebooks are run with the parameters they have, and pages ask no other host."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from ptrlib.report import book
from ptrlib.report.figures import save_figure


def write_notebook(path: Path, *sources: str) -> Path:
    """A notebook whose first cell is tagged ``parameters``."""
    cells = [{"cell_type": "code", "id": f"cell{place}",
              "metadata": {"tags": ["parameters"]} if place == 0 else {},
              "execution_count": None, "outputs": [], "source": source} for place,
             source in enumerate(sources)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": {
        "display_name": "Python 3", "language": "python", "name": "python3"}}, "nbformat": 4,
                                "nbformat_minor": 5}))
    return path


@pytest.fixture
def small_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    source = ('scale = 2.0  # factor; positive\nseeds = [0, 1]  # of the runs\n'
              'source = "stored"  # "stored" or "fresh"\nbootstrap = True  # resample or not')
    work = ('from pathlib import Path\nimport os\n'
            'folder = Path(os.environ["PTRLIB_FIGURES"]); folder.mkdir(parents=True, exist_ok=True)\n'
            '(folder / "made").write_text(repr((scale, seeds, source)))')
    write_notebook(tmp_path / "book" / "results" / "page.ipynb", source, work)
    write_notebook(tmp_path / "book" / "broken.ipynb", "limit = 3  # above 0", "raise KeyError('absent')")
    contents = "root: broken\nparts:\n  - caption: Results\n    chapters:\n      - file: results/page\n"
    (tmp_path / "book" / "_toc.yml").write_text(contents)
    for name, value in {"REPOSITORY": tmp_path, "BOOK": tmp_path / "book",
                        "PAGES": tmp_path / "build" / "book",
                        "APART": tmp_path / "build" / "notebooks"}.items():
        monkeypatch.setattr(book, name, value)
    return tmp_path


def test_parameters_are_read_with_their_comments(small_book: Path) -> None:
    parameters = book.parameters_of(small_book / "book" / "results" / "page.ipynb")
    assert {name: entry.value for name, entry in parameters.items()} == {
        "scale": 2.0, "seeds": [0, 1], "source": "stored", "bootstrap": True}
    assert parameters["scale"].comment == "factor; positive"


def test_an_unknown_parameter_is_refused_with_the_valid_ones(small_book: Path) -> None:
    with pytest.raises(ValueError, match=r"no parameter 'seed'\. Did you mean 'seeds'\? .*scale = 2\.0 "
                       r"\(factor; "
                                         r"positive\); seeds = \[0, 1\]"):
        book.run_notebook("page", {"seed": 3})


@pytest.mark.parametrize(("name", "value", "taken"), [
    ("scale", 3, 3.0), ("seeds", 4, [4]), ("seeds", (5, 6), [5, 6]), ("source", "fresh", "fresh"),
                                                      ("bootstrap", False, False),
])
def test_values_take_the_type_of_the_default(small_book: Path, name: str, value: object,
                                             taken: object) -> None:
    checked = book.check_parameters(small_book / "book" / "results" / "page.ipynb", {name: value})
    assert checked[name] == taken
    assert type(checked[name]) is type(taken)


@pytest.mark.parametrize(("name", "value"), [("scale", "large"), ("scale", True), ("bootstrap", 1)])
def test_values_of_another_type_are_refused(small_book: Path, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"Parameter '{name}' is a"):
        book.check_parameters(small_book / "book" / "results" / "page.ipynb", {name: value})


@pytest.mark.parametrize(("name", "value", "nearest"), [
    ("manifest", "tabletop_claims", "tabletop_claim"), ("kinds", "tabletop_kind", "tabletop_kinds"),
    ("bounds", ["libero_bounds", "libero_bound"], "libero_bounds")])
def test_a_manifest_that_is_not_there_is_refused_before_anything_runs(name: str, value: object, nearest: str) -> None:
    page = book.notebooks()["results/our_rule"]
    with pytest.raises(ValueError, match=rf"^{name}=\w+: there is no such manifest; the nearest in experiments is "
                                         rf"'{nearest}' \("):
        book.check_parameters(page, {name: value})
    for fine in ("", "experiments/tabletop_kinds.yaml", "tabletop_hard"):
        assert book.check_parameters(page, {"kinds": fine}) == {"kinds": fine}
    assert book.check_parameters(page, {"bounds": []}) == {"bounds": []}
    with pytest.raises(ValueError, match=r"no such manifest; give the name of a file of experiments without"):
        book.check_parameters(page, {name: "zzz"})


@pytest.mark.parametrize(("comment", "inside", "outside"), [
    ("None: the manifest's; optimiser steps, 1 to 60000", [1, 60000], [0, 60001, "many", True]),
    ("mixture of Eq 21: 0 (plain training) to 1 (the paper)", [0, 0.5, 1], [-0.1, 1.1]),
    ("or a list such as [0.05, 0.2], within 0.03 to 0.20; the default is added", [0.1, [0.03, 0.2]], [[0.1, 9], []]),
    ("1 to the number of cores", [64], [0]), ("window, 1 or more", [1], [0]),
    ("number n for 0 to n - 1 (the paper: 1 to 3)", [7, "two"], [[]]), ("files; [] for none", [[]], [])])
def test_the_range_of_a_comment_holds(tmp_path: Path, comment: str, inside: list[object],
                                      outside: list[object]) -> None:
    path = write_notebook(tmp_path / "page.ipynb", f"limit = None  # {comment}")
    for value in (*inside, None):
        assert book.check_parameters(path, {"limit": value}) == {"limit": value}
    for value in outside:
        with pytest.raises(ValueError, match=rf"^limit={re.escape(repr(value))} .*; give another value \(.* or leave"):
            book.check_parameters(path, {"limit": value})


def test_notebooks_are_found_by_either_name(small_book: Path) -> None:
    assert book.find_notebook("page") == book.find_notebook("results/page") == "results/page"
    with pytest.raises(ValueError, match="no notebook 'pages'; choose one of broken, results/page"):
        book.find_notebook("pages")


def test_a_run_with_other_parameters_is_kept_apart(small_book: Path) -> None:
    page = book.run_notebook("page")
    assert page == small_book / "build" / "book" / "results" / "page.ipynb"
    assert (small_book / "figures" / "made").read_text() == "(2.0, [0, 1], 'stored')"
    other = book.run_notebook("page", {"scale": 3, "source": "fresh"})
    assert other.is_relative_to(small_book / "build" / "notebooks")
    assert (other.parent / "figures" / "made").read_text() == "(3.0, [0, 1], 'fresh')"
    assert (small_book / "figures" / "made").read_text() == "(2.0, [0, 1], 'stored')"
    assert not list(page.parent.glob(".*"))


def test_a_cell_that_says_nothing_leaves_nothing_on_its_page(small_book: Path) -> None:
    write_notebook(small_book / "book" / "quiet.ipynb", "limit = 3  # above 0",
                   "from IPython.display import Markdown, display\ndisplay(Markdown(''), Markdown('said'))\nlimit")
    cells = json.loads(book.run_notebook("quiet").read_text())["cells"]
    shown = [output["data"] for cell in cells for output in cell.get("outputs", [])]
    assert ["".join(data.get("text/markdown", data["text/plain"])) for data in shown] == ["said", "3"]


def test_a_failing_notebook_names_its_cell(small_book: Path) -> None:
    with pytest.raises(RuntimeError, match=r"broken stopped in cell \d+: KeyError: 'absent'"):
        book.run_notebook("broken")
    assert not (small_book / "build" / "book" / "broken.ipynb").exists()


def test_what_a_notebook_refuses_is_one_sentence(small_book: Path) -> None:
    write_notebook(small_book / "book" / "strict.ipynb", "limit = 3  # above 0",
                   "if limit <= 0:\n    raise ValueError(f'limit must be above 0, got {limit}')")
    with pytest.raises(ValueError, match=r"^strict: limit must be above 0, got -1$"):
        book.run_notebook("strict", {"limit": -1})
    assert not list((small_book / "build" / "notebooks").iterdir())  # the sentence says it all


def test_notebooks_that_the_contents_do_not_list_are_no_pages(small_book: Path) -> None:
    write_notebook(small_book / "book" / "waiting.ipynb", "limit = 3  # above 0")
    assert "waiting" in book.notebooks() and set(book.pages()) == {"broken", "results/page"}


def test_unexecuted_notebooks_stop_the_build(small_book: Path) -> None:
    with pytest.raises(ValueError, match="Not executed yet: broken, results/page"):
        book.build()


def test_requests_to_other_hosts_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "method" / "score.html"
    page.parent.mkdir()
    page.write_text('<a href="https://example.org">a link</a> <script src="../_static/own.js"></script>')
    assert list(book.foreign_requests(tmp_path)) == []
    page.write_text("""
        <script async src="https://example.org/a.js"></script><img src="//example.org/b.png">
        <link href="https://example.org/c.css" rel="stylesheet">
        <link rel="stylesheet" href="https://example.org/d.css">
        <style>@import url(https://example.org/e.css)</style>""")
    assert [address.rsplit("/")[-1] for address in book.foreign_requests(tmp_path)] == [
        "a.js", "b.png", "c.css", "d.css", "e.css"]


def test_a_link_to_a_page_that_is_not_there_is_found(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "index.html").write_text('<a href="https://elsewhere.org/x">a</a> <a href="#top">b</a> '
                                         '<a class="x" href="results/one%20page.html#part">c</a>')
    (tmp_path / "results" / "one page.html").write_text('<a href="../index.html">a</a> <a href="../two.ipynb">b</a>')
    assert list(book.broken_links(tmp_path)) == ["results/one page.html: ../two.ipynb"]


def test_saving_a_figure_twice_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pd.DataFrame({"step": [0, 1], "loss": [1 / 3, 0.25]})
    kept = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        monkeypatch.setenv("PTRLIB_FIGURES", str(folder))
        figure, axes = plt.subplots()
        axes.plot(data["step"], data["loss"])
        assert save_figure(figure, "loss", data=data, runs=["b", "a", "b"]) == folder / "loss.pdf"
        plt.close(figure)
        kept.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert kept[0] == kept[1]
    assert set(kept[0]) == {"loss.pdf", "loss.png", "loss.csv", "loss.json"}
    assert json.loads(kept[0]["loss.json"]) == {"figure": "loss", "runs": ["a", "b"]}
