"""What the tests of the sanity checks share."""

import io

import numpy as np
import torch
from PIL import Image

SIZES = {1: (16,), 2: (8, 6), 3: (4, 6, 6)}


def edges(inputs, target=None):
    """A map of the input alone, not of the model."""
    return inputs.diff(dim=-1, prepend=inputs[..., :1]).sum(1, keepdim=True).abs()


def state_of(model):
    """All that a sanity check must not change."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict(keep_vars=True).items()},
        "tensors": [id(t) for t in (*model.parameters(), *model.buffers())],
        "flags": [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad for p in model.parameters()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
    }


def assert_same(before, after):
    torch.testing.assert_close(before.pop("values"), after.pop("values"), rtol=0, atol=0)
    for key in ("torch", "numpy"):
        assert (np.asarray(before.pop(key)) == np.asarray(after.pop(key))).all(), key
    assert before == after


def recording(make_attribution, states, targets=None):
    """The same attribution; it records the parameters and targets that it receives."""

    def make(model):
        attribution = make_attribution(model)
        explain = getattr(attribution, "attribute", attribution)

        def explained(inputs, target=None, **options):
            states.append({name: value.clone() for name, value in model.state_dict().items()})
            if targets is not None:
                targets.append(target)
            return explain(inputs, target=target, **options)

        return explained

    return make


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=50)
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)
