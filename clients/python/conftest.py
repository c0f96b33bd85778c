"""What clients/run.sh tells the tests, and the generated modules."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parent / "gen"))


def environment(name: str) -> str:
    value = os.environ.get(name)
    assert value, f"{name} is not set: start the tests through clients/run.sh"
    return value


@pytest.fixture(scope="session")
def address() -> str:
    """Host and port of the gateway."""
    return urlsplit(environment("PORTICO_URL")).netloc


@pytest.fixture(scope="session")
def channel(address):
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="session")
def admin_key() -> str:
    return environment("PORTICO_KEY")


@pytest.fixture(scope="session")
def bundle() -> bytes:
    return Path(environment("PORTICO_BUNDLE")).read_bytes()
