import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def nothing_shown():
    yield
    assert not plt.get_fignums(), "a figure was left in pyplot's registry"
