import pytest
import torch
from hypothesis import settings

# The same examples at every run: a test that fails does so for everyone.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def figures_not_written(monkeypatch):
    """The PNG files of figures are empty."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save(figure, path, **options):
        Image.new("RGB", (1, 1)).save(path, "png")

    monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture
def figures_not_drawn(figures_not_written, monkeypatch):
    """Figures of explanations take most of the time, and few tests read them."""
    from matplotlib.figure import Figure

    from captum_3dcam.explanation import _figures

    for name in dir(_figures):
        if name.startswith("visualize_"):
            monkeypatch.setattr(_figures, name, lambda *given, **options: (Figure(), None))


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch on one thread until the module's end: small networks are faster, and round alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
