import pytest
from files import write
from pixel_oracles import encode, noise


@pytest.fixture
def images():
    """{SPLIT/CLASS/NAME: file}, 20 for training and 6 for validation, of several kinds."""
    files = {}
    for k in range(26):
        split = "train" if k < 20 else "validation"
        name = f"{split}/{('cat', 'dog')[k % 2]}/{k}.jpg"
        files[name] = encode(noise(20 + k, 40 - k, seed=k), ("JPEG", "PNG")[k % 3 == 0])
    return files


@pytest.fixture
def source(tmp_path, images):
    write(tmp_path / "source", images)
    return f"folder:{tmp_path}/source"
