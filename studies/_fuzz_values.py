"""Extreme activations and gradients: maps in range and as the formulas say, or an error."""

import random
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import captum_3dcam
from _fuzz_cases import run_cases
from _fuzz_formulas import Drawn, difference, drawn, effects_of, multiplied, sums_of, what_where
from _fuzz_networks import FUSIONS, METHODS, WHAT_WHERE
from captum_3dcam import functional

DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Products of two numbers within these bounds, and sums of them, are normal numbers in float32.
SMALLEST, LARGEST = 1e-15, 1e15
DEPENDS_ON_SCALE = "LayerwiseGradCAMPlusPlus"


def run(seed: int, seconds: float) -> tuple[int, list[str]]:
    """Pairs of an activation and a gradient tried, and what did not hold."""
    return run_cases(check, seed, seconds)


# ------------------------------------------------------------------------------------- values


def random_shape(generator: random.Random) -> tuple[int, ...]:
    """(N, C, *S): from a single position to many, and from one channel to many."""
    kind = generator.choice(("single", "tiny", "small", "small", "long", "wide", "channels"))
    batch, channels = generator.randint(1, 3), generator.randint(1, 5)
    rank = generator.randint(1, 3)
    if kind == "long":
        return (batch, 2, *[1] * (rank - 1), generator.randint(1000, 20000))
    if kind == "wide":
        return (1, 2, *generator.choices(range(80, 130), k=2))
    longest = {"single": 1, "tiny": 3}.get(kind, 8)
    if kind == "channels":
        channels, longest = 700, 3
    return (batch, channels, *(generator.randint(1, longest) for _ in range(rank)))


def random_values(generator: random.Random, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Finite values of that dtype; torch's generator draws them."""
    limits = torch.finfo(dtype)
    highest = min(limits.max, 1e38)
    normal = torch.randn(*shape, dtype=torch.float64)
    exponents = torch.empty(*shape, dtype=torch.float64).uniform_(-38, 38)
    make = {
        "normal": lambda: normal,
        "positive": lambda: normal.abs(),
        "scaled": lambda: normal * 10 ** generator.uniform(-38, 38),
        "mixed": lambda: normal.sign() * 10**exponents,
        "mildly scaled": lambda: normal * 10 ** generator.uniform(-14, 14),
        "mildly mixed": lambda: normal.sign() * 10 ** (exponents / 4),
        "zeros": lambda: normal * 0,  # of either sign
        "constant": lambda: torch.full_like(normal, generator.choice((-3.0, 0.1, 7.0))),
        "negative": lambda: -normal.abs(),
        "subnormal": lambda: normal * limits.tiny * limits.eps * generator.choice((1, 1e2)),
        "one spike": lambda: _spike(normal, generator.choice((1e3, highest))),
        "sparse": lambda: normal * (torch.rand_like(normal) < 0.1),
        "at the limit": lambda: normal.sign() * highest,
    }[generator.choice(list(_KINDS))]
    return make().clamp(-highest, highest).to(dtype)


_KINDS = (
    *("normal", "positive", "scaled", "mixed", "mildly scaled", "mildly scaled", "mildly mixed"),
    *("zeros", "constant", "negative", "subnormal", "one spike", "sparse", "at the limit"),
)


def _spike(x: Tensor, height: float) -> Tensor:
    x = x.clone()
    x.view(-1)[torch.randint(x.numel(), ())] = height
    return x


def is_in_range(*tensors: Tensor) -> bool:
    """Whether each sample's largest magnitude is zero, or so that products of two are normal."""
    peaks = torch.cat([x.double().abs().flatten(1).amax(1) for x in tensors])
    return bool(((peaks == 0) | ((peaks >= SMALLEST) & (peaks <= LARGEST))).all())


# ---------------------------------------------------------------------------------- the check


def check(case: int) -> None:
    """All rules on one activation and gradient; AssertionError for what does not hold."""
    generator = random.Random(case)  # noqa: S311
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(case)
        shape, dtype = random_shape(generator), generator.choice(DTYPES)
        activation, gradient = (random_values(generator, shape, dtype) for _ in range(2))
        size = [generator.randint(1, min(2 * n + 2, 400)) for n in shape[2:]]
        words = f"A and G {shape} {dtype}, map {tuple(size)}"
        method = generator.choice((*METHODS, WHAT_WHERE))
        if generator.random() < 0.15:
            _check_planted(generator, method, activation, gradient)
        for name in (*METHODS, WHAT_WHERE):
            _check_rule(name, activation, gradient, size, words)
        _check_class(method, activation, gradient, size, words)
        _check_scale(generator, method, activation, gradient, size, words)
        _check_maps(generator, activation, size, words)


def _map_of(method: str, activation: Tensor, gradient: Tensor, size: Sequence[int]) -> Tensor:
    if method == WHAT_WHERE:
        return functional.what_where([functional.effect(activation, gradient)], size)
    rule = getattr(functional, METHODS[method])
    return functional.layer_map(rule(activation, gradient), size)


def _expected(method: str, activation: Tensor, gradient: Tensor, size: Sequence[int]) -> Drawn:
    eps = torch.finfo(torch.promote_types(activation.dtype, torch.float32)).eps
    if method == WHAT_WHERE:
        return what_where([effects_of(activation, gradient, eps)], size, eps)
    factors = sums_of(METHODS[method], activation, gradient)
    return multiplied([drawn([factor], size, eps) for factor in factors])


def _check_rule(
    method: str, activation: Tensor, gradient: Tensor, size: Sequence[int], words: str
) -> None:
    received = _map_of(method, activation, gradient, size)
    # NaN shows that a product or sum overflowed; where it cannot, there is none.
    assert is_unit(received), f"{method}: values outside of [0, 1]; {words}"
    if not is_in_range(activation, gradient):
        return
    expected = _expected(method, activation, gradient, size)
    problem = difference(received, expected)
    assert problem is None, f"{method}: {problem}; {words}"
    for sample in range(len(activation)):
        one = slice(sample, sample + 1)
        alone = _map_of(method, activation[one], gradient[one], size)
        problem = difference(alone, Drawn(received[one].double(), expected.tolerance[one]))
        assert problem is None, f"{method}, a sample alone and in its batch: {problem}; {words}"


def is_unit(x: Tensor) -> bool:
    """Whether all values are in [0, 1], up to rounding, or NaN."""
    return bool(((x >= 0) & (x <= 1 + 1e-5) | x.isnan()).all())


class _Constant(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Tensor) -> Tensor:
        return self.values.clone()


class _Given(nn.Module):
    """Its layer has the given activation, and the score its given gradient there."""

    def __init__(self, activation: Tensor, gradient: Tensor) -> None:
        super().__init__()
        self.layer, self.gradient = _Constant(activation), gradient

    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) * self.gradient).flatten(1).sum(1, keepdim=True)


def attributed(
    method: str, activation: Tensor, gradient: Tensor, size: Sequence[int]
) -> Tensor | RuntimeError:
    """The map of the class, or the error that says why there is none."""
    cam: Any = getattr(captum_3dcam, method)(_Given(activation, gradient), "layer")
    try:
        attribution: Tensor = cam.attribute(torch.zeros(len(activation), 1, *size))
    except RuntimeError as error:
        return error
    return attribution


def _check_class(
    method: str, activation: Tensor, gradient: Tensor, size: Sequence[int], words: str
) -> None:
    """The class has the rule's map, and an error in place of NaN."""
    received = attributed(method, activation, gradient, size)
    expected = _map_of(method, activation, gradient, size)
    if isinstance(received, RuntimeError):
        is_right = not is_in_range(activation, gradient) and "NaN or Inf" in str(received)
        assert is_right, f"{method}: {received}; {words}"
        return
    assert received.isfinite().all(), f"{method}: NaN or Inf in the map; {words}"
    assert is_unit(received), f"{method}: values outside of [0, 1]; {words}"
    tolerance = _expected(method, activation, gradient, size).tolerance
    if is_in_range(activation, gradient):
        problem = difference(received, Drawn(expected.double(), tolerance))
        assert problem is None, f"{method}, the class and its rule: {problem}; {words}"


def _check_planted(
    generator: random.Random, method: str, activation: Tensor, gradient: Tensor
) -> None:
    """One NaN or Inf is an error, which says where it is."""
    planted = generator.choice(("activation", "gradient"))
    value = generator.choice((float("nan"), float("inf"), float("-inf")))
    pair = {"activation": activation.clone(), "gradient": gradient.clone()}
    pair[planted].view(-1)[torch.randint(activation.numel(), ())] = value
    received = attributed(method, pair["activation"], pair["gradient"], activation.shape[2:])
    words = f"{method}: {value} in the {planted}"
    assert isinstance(received, RuntimeError), f"{words} gives a map"
    named = "NaN or Inf in" in str(received) and f"the {planted} of 'layer'" in str(received)
    assert named, f"{words}: {received}"


def _check_scale(
    generator: random.Random,
    method: str,
    activation: Tensor,
    gradient: Tensor,
    size: Sequence[int],
    words: str,
) -> None:
    """Maps do not depend on the scale of the activation, nor of the score."""
    if method == DEPENDS_ON_SCALE or activation.dtype not in (torch.float32, torch.float64):
        return
    scaled = [x * 2.0 ** generator.randint(-20, 20) for x in (activation, gradient)]
    if is_in_range(activation, gradient) and is_in_range(*scaled):
        tolerance = _expected(method, activation, gradient, size).tolerance
        expected = _map_of(method, activation, gradient, size)
        problem = difference(
            _map_of(method, scaled[0], scaled[1], size), Drawn(expected.double(), tolerance)
        )
        assert problem is None, f"{method}, scaled: {problem}; {words}"


def _check_maps(generator: random.Random, x: Tensor, size: Sequence[int], words: str) -> None:
    """Upsampling, normalising and fusing of values that are no layer's."""
    larger = functional.upsample(x.float(), size)
    if is_in_range(x):
        low, high = x.float().amin(), x.float().amax()
        slack = 1e-5 * x.float().abs().amax()
        is_between = ((larger >= low - slack) & (larger <= high + slack)).all()
        assert is_between, f"upsample: values beyond those of its input; {words}"
    normal = functional.normalize(x[:, :1].float())
    peaks = normal.flatten(1).amax(1)
    assert ((normal >= 0) & (normal <= 1)).all(), f"normalize: not in [0, 1]; {words}"
    assert ((peaks == 0) | (peaks == 1)).all(), f"normalize: the peak is not 0 or 1; {words}"
    fusion = generator.choice(FUSIONS)
    count = generator.randint(1, 4)
    fused = functional.fuse([normal] * count, count, fusion)
    highest = count if fusion == "sum" else 1
    assert ((fused >= 0) & (fused <= highest + 1e-5)).all(), f"{fusion}: out of range; {words}"
