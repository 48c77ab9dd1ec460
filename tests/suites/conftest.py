import pytest
from miniatures import Classifier, write_sets


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    return Classifier(tmp_path_factory.mktemp("classifier") / "lenet.safetensors")


@pytest.fixture(scope="session")
def sets(classifier, tmp_path_factory):
    """A folder with all sets."""
    root = tmp_path_factory.mktemp("sets")
    write_sets(classifier, root)
    return root
