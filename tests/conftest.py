"What all tests share: no network, slow and GPU tests on demand, a notebook, a browser, and a copy of the project to write in."
import os, shutil
from pathlib import Path
import pytest
if os.environ.get('PYTEST_XDIST_WORKER'): os.environ.setdefault('OMP_NUM_THREADS', str(max(1, os.cpu_count()//2))) # half of the cores for each of two
import kernel # switches the hubs off
from course import Notebook

root = Path(__file__).parents[1]

def pytest_addoption(parser):
    parser.addoption('--flags', default='', help='also run what is marked so: "slow", "gpu" or "slow gpu"')

def pytest_collection_modifyitems(config, items):
    "Leave out `slow` and `gpu` tests nobody asked for"
    off = {'slow','gpu'} - set(config.getoption('--flags').split())
    for item in items:
        for mark in off & {m.name for m in item.iter_markers()}: item.add_marker(pytest.mark.skip(reason=f'only with --flags {mark}'))

@pytest.fixture(scope='session')
def flags(request):
    "The flags asked for on the command line"
    return request.config.getoption('--flags').split()

@pytest.fixture(scope='session')
def project(tmp_path_factory):
    "A copy of the project, so that no test changes a tracked file"
    dest = tmp_path_factory.mktemp('copy')/'slm_magic'
    skip = shutil.ignore_patterns('.git', '.venv', '.plan*', 'demo', '_docs', '_proc', 'build', '*.egg-info', '__pycache__', '.cache', '.pytest_cache', '.ipynb_checkpoints')
    return shutil.copytree(root, dest, ignore=skip, symlinks=True)

@pytest.fixture
def nb(tmp_path, monkeypatch):
    "A notebook in an empty folder"
    monkeypatch.chdir(tmp_path)
    nb = Notebook()
    yield nb
    nb.close()

@pytest.fixture(scope='module') # not longer: its event loop would still run in other modules' tests
def browser():
    "Headless Chromium; CI must have one"
    found = [p for p in map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')) if p]
    if not found:
        if os.environ.get('CI'): pytest.fail('no Chromium on this machine')
        pytest.skip('no Chromium on this machine')
    from playwright.sync_api import sync_playwright
    args = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'
    with sync_playwright() as p:
        chrome = p.chromium.launch(executable_path=found[0], args=args.split())
        yield chrome
        chrome.close()

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A JupyterLab server, with its folder"
    from lab import Lab
    with Lab(tmp_path_factory.mktemp('lab')) as lab: yield lab

@pytest.fixture
def opened(lab, browser):
    "Opens notebooks of `lab`, and closes them"
    from lab import Page
    pages = []
    def open(name, **kw):
        pages.append(Page(lab, browser, name, **kw))
        return pages[-1]
    yield open
    for o in pages: o.close()
