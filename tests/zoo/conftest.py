import sys

import pytest
import torch

from zoo_networks import FOLDER, find_libraries


@pytest.fixture(scope="session", autouse=True)
def libraries():
    """Importable in these tests alone: others see what is installed in the environment."""
    find_libraries()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small, the networks are not faster on more
    yield
    torch.set_num_threads(threads)
    if str(FOLDER) in sys.path:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="session")
def networks():
    """Built once: by family, the model and its inputs."""
    return {}
