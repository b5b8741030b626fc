"""`fw bench`: rows, children, figures and pages; nothing here looks at how long anything took."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework
from framework.cli import bench

programs = bench.load()
children, figures, machine, plots, registry, report, runs, svg = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("children", "figures", "machine", "plots", "registry", "report", "run", "svg")
)
arrays, mlp_numpy = (importlib.import_module(f"benchmarks.baselines.{name}") for name in ("arrays", "mlp_numpy"))
gemm, ours, our_trainer = (
    importlib.import_module(f"benchmarks.contenders.{name}") for name in ("gemm", "ours", "our_trainer")
)
rows = {name: importlib.import_module(f"benchmarks.rows.{name}") for name in ("growth", "program", "trainer")}

HAND = children.Contender("by hand", "by_hand:gradient")
EAGER = children.Contender("eager", "ours:gradient", settings={"kind": "modules"})


def check_form(told: dict) -> None:
    """The form of the JSON, as the pages rely on it."""
    assert set(told) == {"format", "command", "date", "quick", "environment", "minutes", "results"}
    assert told["format"] == programs.FORMAT
    assert set(told["environment"]) == {"python", "system", "cpu", "cpus", "load", "versions", "blas", "shell"}
    assert {"OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS"} <= set(told["environment"]["shell"])
    assert told["results"]
    for result in told["results"]:
        assert result["row"] in programs.ROWS
        assert {"row", "what", "case", "unit"} <= set(result)
        if "skipped" in result:
            assert result["skipped"]
            continue
        low, high = result["quartiles"]
        assert low <= result["median"] <= high
        assert result["rounds"] >= 1
        bar = result.get("bar")
        if bar is None or bar["limit"] is None:
            assert result["holds"] is None
        else:
            met = result["median"] >= bar["limit"] if bar["at_least"] else result["median"] <= bar["limit"]
            assert result["holds"] is met


# -- the command -----------------------------------------------------------------------------------


def test_list_names_every_row(fw):
    done = fw("bench", "--list")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == list(programs.ROWS)
    assert list(programs.ROWS)[:3] == ["gradient", "step", "fit"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("gradint",), "fw bench: no row 'gradint'. Did you mean 'gradient'?"),
        (("nothing-like-it",), "There are gradient, step, fit"),
        (("--rounds", "0"), "must be a whole number from 1 on, got '0'"),
        (("--threads", "1,x"), "must be a whole number from 1 on, got 'x'"),
        (("--thread", "1"), "unknown option --thread. Did you mean '--threads'?"),
        (("imports", "--json", "no/where.json"), "cannot write no/where.json: there is no folder"),
        (("--from", "my.yaml"), "--from my.yaml: Expecting value"),
        (("--from", "absent.json"), "--from absent.json"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(fw, argv, told):
    assert told in fw.refused("bench", *argv)


def test_figures_of_another_version_are_refused(fw):
    fw.write("old.json", '{"format": 0}')
    assert "not what `fw bench --json FILE` of this version writes" in fw.refused("bench", "--from", "old.json")


def test_a_row_is_measured_written_and_read_again(fw, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    done = fw("bench", "imports", "--rounds", "2", "--threads", "1", "--json", "told.json")
    assert done.code == 0, done.err
    assert "OPENBLAS_CORETYPE=Haswell" in done.out
    told = json.loads(Path("told.json").read_text())
    check_form(told)
    assert told["command"] == "fw bench imports --rounds 2 --threads 1 --json told.json"
    assert {result["row"] for result in told["results"]} == {"imports"}
    assert all(result["rounds"] == 2 for result in told["results"])
    assert told["results"][0]["bar"] == {"limit": 1.3, "aim": None, "at_least": False}
    again = fw("bench", "--from", "told.json", "--page", "page.md", "--plot", "plots")
    assert again.code == 0
    assert again.out == ""
    assert "## imports" in Path("page.md").read_text()


def test_rows_measured_again_take_the_place_of_theirs() -> None:
    def figures(command: str, **rows: list[int]) -> dict[str, Any]:
        results = [{"row": row, "median": median} for row, medians in rows.items() for median in medians]
        return {"command": command, "quick": False, "minutes": dict.fromkeys(rows, 1.0), "results": results}

    told = programs.replaced(
        figures("fw bench", gradient=[1, 2], step=[3], cnn=[4]), figures("fw bench step", step=[5, 6])
    )
    assert told["command"] == "fw bench\nfw bench step"
    assert told["results"] == figures("", gradient=[1, 2], step=[5, 6], cnn=[4])["results"]
    assert told["minutes"] == {"gradient": 1.0, "step": 1.0, "cnn": 1.0}


def test_an_installation_without_the_programs_says_so(fw, monkeypatch, tmp_path):
    monkeypatch.setattr(framework, "__file__", str(tmp_path / "site" / "framework" / "__init__.py"))
    assert "has no benchmarks; reinstall it" in fw.refused("bench", "--list")


def test_an_installed_package_has_them_beside_the_recipes(monkeypatch, tmp_path):
    place = tmp_path / "framework" / "_examples" / "benchmarks"
    place.mkdir(parents=True)
    (place / "registry.py").touch()
    monkeypatch.setattr(framework, "__file__", str(tmp_path / "framework" / "__init__.py"))
    assert bench.folder() == place


def test_a_package_of_that_name_in_the_users_folder_is_left_alone(fw, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    fw.write("benchmarks/__init__.py", "raise RuntimeError('not this one')")
    monkeypatch.syspath_prepend(str(fw.folder))
    assert fw("bench", "--list").code == 0


def test_python_m_benchmarks_is_the_same(repository):
    command = [sys.executable, "-m", "benchmarks", "--list"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gradient ")


# -- children --------------------------------------------------------------------------------------


def test_contenders_take_turns_and_those_that_cannot_are_named(tmp_path):
    absent = children.Contender("absent", "by_hand:gradient", "no_such_library")
    broken = children.Contender("broken", "by_hand:no_such_function")
    other = children.Contender("other", "by_hand:gradient", settings={"sizes": [784, 8, 10]})
    with children.started([HAND, EAGER, absent, broken, other], 1, tmp_path) as group:
        times = group.interleave({"batch": 1}, 3, count=2)
        assert list(times) == ["by hand", "eager"]
        assert all(len(values) == 3 and min(values) > 0 for values in times.values())
        assert group.why_not("absent") == "no_such_library is not installed"
        assert group.why_not("broken").startswith("failed: ")
        assert "no_such_function" in group.why_not("broken")
        assert group.why_not("other").startswith("failed: other computes something else")
        assert group.why_not("absent", "other", "by hand").count(";") == 1
        processes = [child._process for child in group.children.values()]
    assert all(process.returncode == 0 for process in processes)


def test_a_child_that_ends_in_its_turn_is_quoted(tmp_path):
    with children.started([HAND], 1, tmp_path) as group, pytest.raises(children.ChildFailedError) as told:
        group.children["by hand"].turn({"no_such_argument": 1}, 1)
    assert str(told.value).startswith("by hand: its process ended with code 1: TypeError")
    assert "no_such_argument" in str(told.value)


def test_a_failed_row_makes_the_command_fail(fw, monkeypatch):
    def broken(settings):
        yield registry.Result("imports", "first", values=[1.0])
        raise children.ChildFailedError("it has ended")

    monkeypatch.setitem(registry.ROWS, "imports", registry.Row("imports", "a broken row", broken, 0.1, ""))
    done = fw("bench", "imports", "--threads", "1", "--json", "told.json")
    assert done.code == 1
    results = json.loads(Path("told.json").read_text())["results"]
    assert [result.get("skipped") for result in results] == [None, "failed: it has ended"]


def test_children_choose_their_own_kernels_and_have_the_threads_said(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    environment = children.environment(2)
    assert "OPENBLAS_CORETYPE" not in environment
    assert {environment[name] for name in children.THREAD_VARIABLES} == {"2"}


def test_mnist_is_looked_for_where_the_framework_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(runs, "HERE", tmp_path / "checkout" / "benchmarks")
    monkeypatch.delenv("FW_DATA", raising=False)
    assert runs.find_mnist() is None
    place = tmp_path / "data" / "MNIST" / "raw"
    place.mkdir(parents=True)
    monkeypatch.setenv("FW_DATA", str(tmp_path / "data"))
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3"):
        (place / f"{name}-ubyte.gz").touch()
    assert runs.find_mnist() is None
    (place / "t10k-labels-idx1-ubyte").touch()
    assert runs.find_mnist() == place


@pytest.mark.parametrize("count", [1, 3, 5, 12])
def test_a_turn_makes_the_calls_it_is_asked_for(count, monkeypatch):
    worker = importlib.import_module("benchmarks.worker")
    now, calls = iter(range(10_000)), []
    monkeypatch.setattr(worker.time, "perf_counter", lambda: float(next(now)))
    found = worker.seconds(worker.Work(lambda: calls.append(next(now)), warm=False, scale=2), count)
    assert len(calls) == count
    assert 0.5 <= found <= 1.0  # a tick for each call and one for reading the clock, in two pieces


def test_a_turn_that_is_disturbed_once_counts_as_if_it_were_not(monkeypatch):
    worker = importlib.import_module("benchmarks.worker")
    clock, durations = [0.0], iter([1.0, 1.0, 50.0, 1.0, 1.0])

    def once():
        clock[0] += next(durations)

    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])
    assert worker.seconds(worker.Work(once, warm=False), 5) == 1.0


# -- what contenders compute -----------------------------------------------------------------------


def test_the_baselines_agree_with_each_other():
    params, (x, y) = mlp_numpy.init(), arrays.random_batch(4)
    for one, other in zip(mlp_numpy.gradient(params, x, y)[1], mlp_numpy.deep_gradient(params, x, y)[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("major", [False, True])
def test_a_product_is_right_in_both_layouts(major):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    out = np.empty((3, 5), order="F" if major else "C")
    gemm.call(left, right, out)()
    np.testing.assert_allclose(out, left @ right)


def test_the_floor_is_a_steps_eight_products():
    products = gemm.products(3)
    assert len(products) == 8
    shapes = gemm.shapes(2, (784, 300, 100, 10))
    for left, right, out in products:
        (m, k), (k2, n) = (shapes[s.rstrip("'")][:: -1 if s.endswith("'") else 1] for s in (left, right))
        assert k == k2
        assert shapes[out] == (m, n)
    layout = gemm.best_layout(1, (6, 5, 4))
    assert set(layout) == set(gemm.shapes(1, (6, 5, 4)))


def test_a_pass_of_the_order_visits_every_sample_once():
    order = arrays.Order(10, 4)
    first, second = (np.concatenate([order.next(), order.next()]) for _ in range(2))
    assert len(set(first)) == len(set(second)) == 8
    assert list(first) != list(second)


def test_images_come_from_the_files_where_they_are(mnist_root):
    x, y = arrays.images(100, str(mnist_root / "mnist"))
    ours = framework.data.MNIST(str(mnist_root))
    np.testing.assert_array_equal(x, ours.arrays[0][:100])
    np.testing.assert_array_equal(y, ours.arrays[1][:100])
    np.testing.assert_allclose(
        arrays.normalized(x), framework.data.transforms.Normalize(0.1307, 0.3081)(x).reshape(100, -1), atol=1e-6
    )


def test_the_frames_that_are_counted_are_those_from_fit_to_training_step(tmp_path):
    module = our_trainer.OneLayer()
    trainer = framework.Trainer(max_epochs=1, default_root_dir=tmp_path, enable_progress_bar=False, backend="cpu")
    trainer.fit(module, our_trainer.one_layer_loader(2))
    assert 2 <= our_trainer.FRAMES[0] <= 6


# -- figures, bars, pages --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", [figures, svg, report, plots, gemm, importlib.import_module("benchmarks.rows.gradient")]
)
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_bars_hold_at_their_limit_and_not_beyond():
    most, least, aim = registry.Bar(1.35, 1.2), registry.Bar(5.0, at_least=True), registry.Bar(aim=4.0)
    assert (most.holds(1.35), most.holds(1.36)) == (True, False)
    assert (least.holds(5.0), least.holds(4.9)) == (True, False)
    assert aim.holds(100.0) is None
    assert [str(bar) for bar in (most, least, aim)] == ["≤ 1.35, aim 1.2", "≥ 5", "aim ≤ 4"]


def test_quantiles_are_those_of_numpy():
    values = list(np.random.default_rng(0).standard_normal(17))
    for q in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert figures.quantile(values, q) == pytest.approx(np.quantile(values, q))


def test_the_faster_of_two_is_taken_as_a_whole():
    assert figures.faster([3.0, 1.0, 3.0], [2.0, 2.0, 2.0]) == [2.0, 2.0, 2.0]


def test_the_cost_of_an_epoch_and_of_a_step_come_apart():
    few, many = rows["trainer"].FEW, rows["trainer"].MANY
    times = {f"light {n}": [0.001 + n * 2e-5] for n in (few, many)} | {f"bare {n}": [0.0] for n in (few, many)}
    times |= {rows["trainer"].FULL: [0.004 + few * 2e-5], rows["trainer"].SAVING: [0.003]}
    found = rows["trainer"].costs(times)
    assert [value for [value] in found] == pytest.approx([20.0, 4.0, 1.0, 1.0])


def some_results() -> list[dict]:
    bar, values = registry.Bar(1.0, 0.9), [1.1, 1.2, 1.3]
    found = [
        registry.Result("gradient", f"{who} ÷ by hand", f"batch {n}, 1 thread", values, bar=bar)
        for who in ("eager", "compiled", "PyTorch")
        for n in (1, 128)
    ]
    found[3] = registry.Result("gradient", "compiled ÷ by hand", "batch 128, 1 thread", bar=bar, skipped="no | reason")
    times = {"Trainer.fit, eager": 900.0, "Lightning's Trainer.fit": 4000.0}
    curve = {"sweep": "batch", "who": "eager", "sizes": [1, 2, 4], "seconds": [1e-4, 2e-4, 3e-4], "over all sizes": 0.8}
    both = {"fw": 3.0, "Lightning": 20.0}
    found += [
        registry.Result("fit", "a ÷ b", "batch 128", [6.0], "times the throughput", detail=times),
        registry.Result("train", "process start to exit, fw train ÷ Lightning", "10 epochs", [0.15], detail=both),
        registry.Result("growth", "exponent of batch, eager", "batch", [0.8, 0.9], "exponent", detail=curve),
        registry.Result("size", "site-packages", "", [83.7], "MB", registry.Bar(120.0)),
    ]
    return [result.to_json() for result in found]


def told(results: list[dict]) -> dict:
    environment = {
        "python": "3.11", "system": "Linux", "cpu": "a CPU", "cpus": 2, "load": 0.1, "versions": {"numpy": "2"},
        "blas": {"1": [{"internal_api": "openblas", "version": "0.3", "architecture": "Zen", "num_threads": 1}]},
        "shell": {"OPENBLAS_CORETYPE": None, "OPENBLAS_NUM_THREADS": "1"},
    }  # fmt: skip
    return {
        "format": programs.FORMAT, "command": "fw bench", "date": "2026-01-01", "quick": False,
        "environment": environment, "minutes": {"gradient": 1.0}, "results": results,
    }  # fmt: skip


def test_plots_are_pictures_with_every_contender(tmp_path):
    written = plots.draw(told(some_results()), tmp_path / "plots")
    assert list(written) == ["gradient", "fit", "growth"]
    texts = {}
    for name, file in written.items():
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts[name] = " ".join(node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text"))
        numbers = [float(v) for node in root.iter() for k, v in node.attrib.items() if k in ("x", "y", "cx", "cy")]
        assert all(-1 <= number <= 2000 for number in numbers)
    assert all(who in texts["gradient"] for who in ("eager", "compiled", "PyTorch", "batch 128, 1 thread"))
    assert "Lightning" in texts["fit"]
    assert "n^0.85" in texts["growth"]


def test_nothing_measured_gives_no_plots(tmp_path):
    assert plots.draw(told([registry.Result("fit", "a ÷ b", skipped="no torch").to_json()]), tmp_path) == {}


def test_a_page_has_every_figure_and_its_bar(tmp_path):
    results = told(some_results())
    page = tmp_path / "docs" / "performance.md"
    report.write_page(page, results, plots.draw(results, tmp_path / "docs"))
    text = page.read_text()
    assert "| eager ÷ by hand<br>≤ 1, aim 0.9 | 1.20 [1.15 1.25] **missed** | 1.20 [1.15 1.25] **missed** |" in text
    assert "not measured: no \\| reason" in text
    assert "| site-packages | ≤ 120 MB | 83.7 MB |" in text
    assert "](bench-growth.svg)" in text
    assert "Zen kernels" in text
    assert "OPENBLAS_NUM_THREADS=1" in text


def test_of_a_page_with_comments_only_what_is_between_is_replaced(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write_page(page, told(some_results()), {"gradient": tmp_path / "docs" / "bench-gradient.svg"})
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "](docs/bench-gradient.svg)" in text
    assert "gradient: eager ÷ by hand | ≤ 1, aim 0.9 | batch 1, 1 thread: 1.20" in text


# -- everything, at tiny size ----------------------------------------------------------------------


@pytest.mark.slow
def test_every_row_runs(fw, mnist_root, monkeypatch):
    monkeypatch.setenv("FW_DATA", str(mnist_root))
    names = [name for name in programs.ROWS if name != "size"]  # this one needs the network
    done = fw("bench", *names, "--quick", "--rounds", "1", "--threads", "1", "--json", "told.json", "--plot", "plots")
    assert done.code == 0, done.out
    found = json.loads(Path("told.json").read_text())
    check_form(found)
    assert {result["row"] for result in found["results"]} == set(names)
    measured = {result["row"] for result in found["results"] if "skipped" not in result}
    assert {"gradient", "step", "trainer", "accuracy", "imports", "faults", "growth"} <= measured
