"""How well do the methods find the actor whose action they are asked about?

    python studies/evaluate_localization.py --clips 256 --actors 2

explains held-out synthetic actions with every method over each layer, and over all of them
together, and prints the scores beside those of boxes that look at nothing. With two actors a clip
is two samples: each actor's class is asked about in turn, and only that actor counts as truth. A
run that was stopped goes on where it was. It can be shared among processes:

    torchrun --nproc-per-node 2 studies/evaluate_localization.py
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch.distributed as dist

from captum_3dcam import (
    CounterfactualCAM,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseGradCAMPlusPlus,
    LayerwiseHiResCAM,
    LayerwiseLayerCAM,
    LayerwiseWhatWhereCAM,
    LayerwiseXGradCAM,
)
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.evaluation import (
    COLUMNS,
    Attribution,
    Bootstrap,
    Evaluation,
    Sample,
    evaluate,
    make_attributions,
)
from trained_networks.action_net import LAYERS, WEIGHTS, ActionNet, load_action_net

METHODS: dict[str, type[LayerwiseCAM]] = {
    "GlobalLocal": LayerwiseGlobalLocalCAM,
    "GradCAM": LayerwiseGradCAM,
    "GradCAM++": LayerwiseGradCAMPlusPlus,
    "LayerCAM": LayerwiseLayerCAM,
    "HiResCAM": LayerwiseHiResCAM,
    "XGradCAM": LayerwiseXGradCAM,
    "Counterfactual": CounterfactualCAM,
    "WhatWhere": LayerwiseWhatWhereCAM,
}
WITHOUT_FUSION = {"WhatWhere"}
FUSIONS = ("sum", "mean", "max", "product", "geometric_mean")
HELD_OUT_SEED = 10**6  # as in train_actions.py: the network has not seen these clips


class ActorSamples:
    """Each actor of each clip as a sample: its action is the class, it alone is the truth.

    With ``other`` the truth is the next actor of the clip, whose action is not asked about.
    """

    def __init__(self, clips: SyntheticActions, other: bool = False) -> None:
        if other and clips.actors < 2:
            raise ValueError("There is no other actor: ask for --actors 2.")
        self.clips, self.other = clips, other

    def __len__(self) -> int:
        return len(self.clips) * self.clips.actors

    def __getitem__(self, index: int) -> Sample:
        clip, actor = divmod(index, self.clips.actors)
        found = self.clips[clip]
        target = int(found.labels[actor])
        place = (actor + self.other) % self.clips.actors
        return Sample(found.clip, target, found.boxes[place], found.masks[place])


def attributions(
    network: ActionNet,
    methods: Iterable[str],
    layer_sets: Iterable[Sequence[str]],
    fusions: Iterable[str],
) -> dict[str, Attribution]:
    """Every method over every set of layers; where a set has several, by every fusion."""
    chosen = {name: METHODS[name] for name in methods}
    sets = {"+".join(layers): list(layers) for layers in layer_sets}
    alone = {name: layers for name, layers in sets.items() if len(layers) == 1}
    together = {name: layers for name, layers in sets.items() if len(layers) > 1}
    fused: Mapping[str, partial[LayerwiseCAM]] = {
        f"{name} ({fusion})": partial(method, fusion=fusion)
        for name, method in chosen.items()
        if name not in WITHOUT_FUSION
        for fusion in fusions
    }
    whole = {name: method for name, method in chosen.items() if name in WITHOUT_FUSION}
    return make_attributions(network, chosen, alone) | make_attributions(
        network, {**fused, **whole}, together
    )


@contextmanager
def processes() -> Iterator[bool]:
    """Meet the other processes, if torchrun has started several; whether this is the first."""
    if not dist.is_torchelastic_launched():
        yield True
        return
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> Evaluation:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--actors", type=int, default=1, choices=(1, 2))
    parser.add_argument(
        "--other", action="store_true", help="how much lies on the other actor, of another class"
    )
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="of the clips")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--layers",
        action="append",
        type=lambda names: names.split(","),
        help="a set, as layer2,layer3; once for each set. By default each alone, and all together",
    )
    parser.add_argument("--fusions", nargs="+", default=["sum"], choices=FUSIONS)
    parser.add_argument("--columns", nargs="+", default=COLUMNS, help="of the table")
    parser.add_argument("--output", type=Path, default=Path("out/localization.json"))
    parser.add_argument("--checkpoint", type=Path, default=Path("out/localization"))
    options = parser.parse_args(arguments)

    network = load_action_net(options.weights)
    layer_sets = options.layers or [*([layer] for layer in LAYERS), LAYERS]
    clips = SyntheticActions(options.clips, seed=options.seed, actors=options.actors)
    with processes() as first:
        found = evaluate(
            attributions(network, options.methods, layer_sets, options.fusions),
            ActorSamples(clips, options.other),
            checkpoint=options.checkpoint,
            progress=True,
            bootstrap=Bootstrap(group_size=options.actors),
        )
        if first:
            found.save(options.output)
            print(found.table(options.columns))
    return found


if __name__ == "__main__":
    main()
