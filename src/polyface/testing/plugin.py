"""A pytest plugin: what must be installed, what must not be, and the fixture ``cell``.

A missing requirement skips a test with its reason on a user's machine, and fails it where ``--polyface-require`` names
the module: a test environment in which everything is skipped cannot be green. ``cell`` runs a test once for every
installed detector on every installed backend, device and precision. Of the conformance kit's checks the plugin marks
those that are expected to fail, and says why one that fails is made.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator

import pytest
from attrs import frozen

from polyface.errors import BackendUnavailableError, ContractError
from polyface.machine.drivers import is_installed
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import BackendSpec, DetectorSpec
from polyface.testing.conformance.base import PREFIX, Conformance


@frozen(kw_only=True)
class Cell:
    """One detector on one backend, kind of device and precision."""

    detector: DetectorSpec
    backend: BackendSpec
    device: str
    precision: str

    @property
    def id(self) -> str:
        """Such as ``"retinaface-mobilenet025/onnxruntime/cpu/fp32"``."""
        return f"{self.detector.name}/{self.backend.name}/{self.device}/{self.precision}"


def cells() -> list[Cell]:
    """Return every cell that the installed plugins claim."""
    plugins = installed_plugins()
    return [
        Cell(detector=detector, backend=backend, device=capability.device, precision=precision)
        for detector in plugins.by_name(DetectorSpec).values()
        for backend in plugins.by_name(BackendSpec).values()
        for capability in backend.capabilities
        for precision in capability.precisions
    ]


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of what needs a GPU, which cells on one have."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--polyface-require`` and ``--polyface-absent``."""
    group = parser.getgroup("polyface")
    group.addoption(
        "--polyface-require", default="", metavar="A,B", help="modules whose absence is a failure, not a skip"
    )
    group.addoption("--polyface-absent", default="", metavar="A,B", help="modules that must not be importable")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to start in an environment that is not what it claims to be."""
    for option, wanted in (("require", True), ("absent", False)):
        for module in _read_list(session.config, option):
            if (importlib.util.find_spec(module) is not None) is not wanted:
                is_so = "is not" if wanted else "is"
                raise pytest.UsageError(f"--polyface-{option}: {module} {is_so} installed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes ``cell`` every cell: those of a module follow one another, and may share it."""
    if "cell" in metafunc.fixturenames:
        gpu = {"cuda": [pytest.mark.gpu]}
        params = [pytest.param(c, id=c.id, marks=gpu.get(c.device, [])) for c in cells()]
        metafunc.parametrize("cell", params, scope="module")


@pytest.fixture(scope="session")
def require(request: pytest.FixtureRequest) -> Require:
    """Return a callable that skips the test, or fails it, where a module is not installed."""
    return Require(frozenset(_read_list(request.config, "require")))


@frozen
class Require:
    """Skips a test where a module is missing, and fails it where the module was said to be there."""

    promised: frozenset[str]

    def __call__(self, *modules: str) -> None:
        """Require each module."""
        for module in modules:
            if not is_installed(module):
                message = f"{module} is not installed"
                if module in self.promised:
                    pytest.fail(message)
                pytest.skip(message)

    def backend(self, backend: BackendSpec) -> None:
        """Require what a backend requires."""
        self(*(need.module for need in backend.requires))


def _check(item: pytest.Item) -> tuple[type[Conformance], str] | None:
    """The conformance class and the name of the check that an item is, or ``None``."""
    owner = getattr(item, "cls", None)
    if owner is None or not issubclass(owner, Conformance):
        return None
    return owner, str(getattr(item, "originalname", item.name)).removeprefix(PREFIX)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the conformance checks that are expected to fail: strictly, with their reasons.

    What excuses is a check that says no, or a backend that does; anything else that is raised is a mistake in the test.
    """
    excused = (pytest.fail.Exception, AssertionError, BackendUnavailableError, ContractError)
    for item in items:
        if (check := _check(item)) and check[1] in check[0].expected_failures:
            reason = check[0].expected_failures[check[1]]
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True, raises=excused))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say why a conformance check is made where it fails."""
    report = yield
    if report.failed and (check := _check(item)):
        report.sections.append((f"Why {check[1]}", check[0].checks().get(check[1], "")))
    return report


def _read_list(config: pytest.Config, option: str) -> list[str]:
    return [name for name in str(config.getoption(f"--polyface-{option}")).split(",") if name]
