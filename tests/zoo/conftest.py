import pytest

from zoo_networks import find_libraries

find_libraries()


@pytest.fixture(scope="session")
def networks():
    """Built once: by family, the model and its inputs."""
    return {}
