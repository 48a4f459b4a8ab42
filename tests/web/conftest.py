"""A store with a finished run that is made once, and a server over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.store import RunReader, Store
from cellbench.web.site import Site
from cellbench.web.users import Users

from .client import PASSWORD, Browser, serving, site_of

PROTOCOL = """
cellbench: 1
name: Two cycles <b>&amp;</b>
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - eis: {from: 1 MHz, to: 10 Hz, points: 5 per decade, amplitude: 10 mV}
  - repeat: 2
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 5 min, record: {every: 1 s}}
      - current: {at: -0.1 mA/cm2, for: 5 min, record: {every: 1 s}}
  - rest: 1 min
analyses: [interface_resistance]
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a store with one run, which has ended."""
    directory = tmp_path_factory.mktemp("web")
    file = directory / "protocol.yaml"
    file.write_text(PROTOCOL, encoding="utf-8")
    with Store(directory / "store") as store:
        end = conduct(prepare(str(file), seed=1), store)
    assert end.safe
    users = Users(directory / "store")
    users.add_password("anna", "operator", PASSWORD)
    users.add_password("vera", "viewer", PASSWORD)
    return directory / "store"


@pytest.fixture(scope="session")
def reader(finished: Path) -> RunReader:
    """The file of that run."""
    (path,) = (finished / "runs").glob("*.sqlite")
    return RunReader(path)


@pytest.fixture(scope="module")
def site(finished: Path) -> Site:
    """A site over that store."""
    return site_of(finished)


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Browser]:
    """A server of that site, and a browser that nobody has signed in with."""
    with serving(site) as browser:
        yield browser


@pytest.fixture(scope="module")
def anna(server: Browser) -> Browser:
    """The browser of an operator."""
    browser = Browser(server.port)
    assert browser.sign_in("anna").status == 200
    return browser


@pytest.fixture(scope="module")
def vera(server: Browser) -> Browser:
    """The browser of a viewer."""
    browser = Browser(server.port)
    assert browser.sign_in("vera").status == 200
    return browser
