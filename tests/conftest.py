"""What several files of tests need: threads, the subset for other Pythons, and a browser that is watched.

The browser is for tests marked `browser`; each file of them has its own `pages`.
"""

import os
import shutil

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # pytest -n auto: processes of many threads each would wait for one another
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before anything imports NumPy
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports PyTorch

# Files that are marked `everywhere`: what differs between versions of Python, NumPy, safetensors and tiktoken.
EVERYWHERE = {
    *("checkpoint", "everywhere", "fast", "goldens", "gradients", "linear", "patch", "recording"),
    *("sampling", "tokenizer", "training"),
}
LONG = ("test_a_long_gap", "test_decoding_gives_back_long", "test_time_grows")  # slow in tiktoken before 0.13


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem.removeprefix("test_") in EVERYWHERE and not item.name.startswith(LONG):
            item.add_marker("everywhere")


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The system's browser where there is one; else what playwright itself installed.
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, pages):
    """Open a page and watch it; what it asked for and what it said is looked at when the test is over."""
    contexts, said, asked = [], [], []

    def opened(name="one.html", address="", *, width=1280, height=800, url=None, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        url = url or (pages / name).as_uri()
        tab.on("request", lambda request: request.url.partition("#")[0] == url or asked.append(request.url))
        tab.goto(url + address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert said == [] and asked == []
