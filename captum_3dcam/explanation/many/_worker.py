"""The explainer of many inputs as a class that engines call with batches, such as Ray Data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from captum_3dcam._files import StrPath
from captum_3dcam.explanation._recipe import Options, Recipe
from captum_3dcam.explanation.many._inputs import list_items
from captum_3dcam.explanation.many._run import Results, Run


class ExplainWorker:
    """Explains the paths of a batch as :func:`explain_many` does, into the same folders.

    Made once in each process or actor, where it makes the model. Called with a dict of columns, of
    which "path" is needed, "target" and "group" are optional, it returns a dict of columns: those
    of ``summary.csv``. It depends on no engine; with Ray Data::

        ray.data.read_csv("clips.csv").map_batches(
            ExplainWorker,
            fn_constructor_args=(make_model, "clips", "out"),
            fn_constructor_kwargs={"preprocessing": "kinetics"},
            batch_size=8, concurrency=4, num_gpus=1,
        ).write_parquet("summary")

    Args:
        make_model: returns the model, in eval mode and on its device.
        root: the folder of all inputs, below which results have their names.
        folder: where the results are written.
        target: for rows without one.
        options: of :func:`explain_many`.

    What is done is kept, as in :func:`explain_many`; whoever calls sees to it that no two workers
    get the same path.

    >>> from PIL import Image
    >>> def make_model():
    ...     layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2640, 2)]
    ...     return nn.Sequential(*layers).eval()
    >>> folder = getfixture("tmp_path")
    >>> Image.effect_noise((32, 24), 50).save(folder / "a.png")
    >>> worker = ExplainWorker(make_model, folder, folder / "out", layers=["1"])
    >>> worker({"path": np.array([str(folder / "a.png")])})["status"]
    array(['done'], dtype=object)
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        root: StrPath,
        folder: StrPath,
        target: Any = None,
        *,
        overlay: str = "mp4",
        keep_names: bool = False,
        page: bool = True,
        **options: Any,
    ) -> None:
        self._recipe = Recipe(make_model(), Options(**options))
        self._results = Results(Path(folder), overlay, keep_names, page)
        self._root, self._target = Path(root), target

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The outcomes of the paths of a batch, by column."""
        columns = [name for name in ("path", "target", "group") if name in batch]
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*(batch[name] for name in columns), strict=True)
        ]
        items = list_items(rows, self._results.folder, self._root)
        outcomes = Run(self._recipe, items, self._target, self._results).run_alone()
        return {
            name: np.array([getattr(outcome, name) for outcome in outcomes], dtype=object)
            for name in outcomes[0]._fields
        }
