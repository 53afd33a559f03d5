import pytest
import torch


@pytest.fixture(scope="session")
def trained_volume_net():
    """Trained once for all tests: it takes seconds."""
    from trained_networks import volume_net

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    network = volume_net.train()
    torch.set_num_threads(before)
    return network
