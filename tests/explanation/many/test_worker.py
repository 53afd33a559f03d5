"""The explainer as a class that engines call with batches: alone, and in actors of Ray Data."""

from pathlib import Path

import numpy as np
import pytest
from many_inputs import OPTIONS, contents, environment, network, write_images

from captum_3dcam import explain_many
from captum_3dcam.explanation import ArgumentError, ExplainWorker, Windows

pytestmark = pytest.mark.usefixtures("one_thread")
ONE_BY_ONE = {**OPTIONS, "windows": Windows(batch_size=1)}


def paths():
    return np.array([str(path.absolute()) for path in sorted(Path("in").rglob("*.png"))])


def test_batches_give_what_explain_many_gives(folder):
    write_images("in")
    expected = explain_many(network(), "in", "whole", **ONE_BY_ONE)
    worker = ExplainWorker(network, "in", "out", **ONE_BY_ONE)
    columns = [worker({"path": paths()[start : start + 3]}) for start in range(0, 8, 3)]
    assert contents("out") == contents("whole")
    joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    assert list(joined["name"]) == [outcome.name for outcome in expected]
    assert list(joined["status"]) == [outcome.status for outcome in expected]
    assert list(joined["score"]) == [outcome.score for outcome in expected]


def test_targets_and_groups_are_columns(folder):
    write_images("in", 3)
    worker = ExplainWorker(network, "in", "out", 0, **OPTIONS)
    batch = {"path": paths()[:2], "target": np.array([2, None]), "group": np.array(["a", ""])}
    columns = worker(batch)
    assert list(columns["target"]) == [2, 0]
    assert list(columns["group"]) == ["a", ""]


def test_inputs_elsewhere_are_refused(folder):
    write_images("in", 3)
    worker = ExplainWorker(network, "in/a", "out", **OPTIONS)
    with pytest.raises(ArgumentError, match="as all inputs should be"):
        worker({"path": paths()})


@pytest.fixture
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    variables = {"PYTHONPATH": environment()["PYTHONPATH"]}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("default")  # Ray's own
def test_actors_of_ray_data_give_what_one_process_gives(ray, folder):
    write_images("in")
    explain_many(network(), "in", "whole", **ONE_BY_ONE)
    dataset = ray.data.from_items([{"path": path} for path in paths()])
    rows = dataset.map_batches(
        ExplainWorker,
        fn_constructor_args=(network, str(Path("in").absolute()), str(Path("out").absolute())),
        fn_constructor_kwargs=ONE_BY_ONE,
        batch_size=2,
        concurrency=2,
    ).take_all()
    assert contents("out") == contents("whole")
    assert sorted(row["status"] for row in rows) == ["done"] * 7 + ["failed"]
