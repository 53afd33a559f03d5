"""How well do the methods find the actor whose action is explained?

    python studies/evaluate_localization.py --clips 256 --actors 2

explains held-out synthetic actions by every method over each layer, and over all layers together,
and prints the scores beside those of baselines that ignore the clip. A clip of two actors is two
samples: each actor's class is explained in turn, and only that actor is the ground truth. A stopped
run resumes from its checkpoint. Several processes can share a run:

    torchrun --nproc-per-node 2 studies/evaluate_localization.py
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from _arguments import make_parser
from _methods import METHODS, WITHOUT_FUSION
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
from captum_3dcam.evaluation._processes import process_group
from trained_networks.action_net import (
    HELD_OUT_SEED,
    LAYERS,
    WEIGHTS,
    ActionNet,
    load_action_net,
)

FUSIONS = ("sum", "mean", "max", "product", "geometric_mean")


class ActorSamples:
    """Each actor of each clip as a sample: its action is the target, it alone is the ground truth.

    With ``other`` the ground truth is the clip's next actor, whose action is not explained.
    """

    def __init__(self, clips: SyntheticActions, other: bool = False) -> None:
        if other and clips.actors < 2:
            raise ValueError("There is no other actor: give --actors 2.")
        self.clips, self.other = clips, other

    def __len__(self) -> int:
        return len(self.clips) * self.clips.actors

    def __getitem__(self, index: int) -> Sample:
        clip, actor = divmod(index, self.clips.actors)
        sample = self.clips[clip]
        target = int(sample.labels[actor])
        located = (actor + self.other) % self.clips.actors
        return Sample(sample.clip, target, sample.boxes[located], sample.masks[located])


def attributions(
    network: ActionNet,
    methods: Iterable[str],
    layer_sets: Iterable[Sequence[str]],
    fusions: Iterable[str],
) -> dict[str, Attribution]:
    """Every method over every set of layers; over several layers, by every fusion."""
    chosen = {name: METHODS[name] for name in methods}
    sets = {"+".join(layers): list(layers) for layers in layer_sets}
    single = {name: layers for name, layers in sets.items() if len(layers) == 1}
    several = {name: layers for name, layers in sets.items() if len(layers) > 1}
    fused: Mapping[str, partial[LayerwiseCAM]] = {
        f"{name} ({fusion})": partial(method, fusion=fusion)
        for name, method in chosen.items()
        if name not in WITHOUT_FUSION
        for fusion in fusions
    }
    others = {name: method for name, method in chosen.items() if name in WITHOUT_FUSION}
    return make_attributions(network, chosen, single) | make_attributions(
        network, {**fused, **others}, several
    )


def main(arguments: Sequence[str] | None = None) -> Evaluation:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--weights", type=Path, default=WEIGHTS)
    add("--clips", type=int, default=256, help="(default: 256)")
    add("--actors", type=int, default=1, choices=(1, 2), help="of a clip (default: 1)")
    add("--other", action="store_true", help="score on the actor whose class is not explained")
    add("--seed", type=int, default=HELD_OUT_SEED, help="of the clips")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    add(
        "--layers",
        action="append",
        type=lambda names: names.split(","),
        help="a set, as layer2,layer3; once for each set. By default each alone, and all together",
    )
    add("--fusions", nargs="+", default=["sum"], choices=FUSIONS)
    add("--columns", nargs="+", default=COLUMNS, help="of the table")
    add("--output", type=Path, default=Path("out/localization.json"), help="JSON file to write")
    add("--checkpoint", type=Path, default=Path("out/localization"), help="folder to resume from")
    options = parser.parse_args(arguments)

    network = load_action_net(options.weights)
    layer_sets = options.layers or [*([layer] for layer in LAYERS), LAYERS]
    clips = SyntheticActions(options.clips, seed=options.seed, actors=options.actors)
    with process_group() as first:
        evaluation = evaluate(
            attributions(network, options.methods, layer_sets, options.fusions),
            ActorSamples(clips, options.other),
            checkpoint=options.checkpoint,
            progress=True,
            bootstrap=Bootstrap(group_size=options.actors),
        )
        if first:
            evaluation.save(options.output)
            print(evaluation.table(options.columns))
    return evaluation


if __name__ == "__main__":
    main()
