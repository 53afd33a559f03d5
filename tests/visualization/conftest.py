import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def no_figure_left_in_pyplot():
    yield
    assert not plt.get_fignums(), "a figure was left in pyplot's registry"
