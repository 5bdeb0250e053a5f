"""In a real JupyterLab in a real browser: the live view moves, Stop keeps the run, and what is saved can be read without a kernel.

SCREENSHOTS=folder pytest tests/test_lab.py  also writes pictures of the view, in the light and the dark theme."""
import os, re, time
from pathlib import Path
import pytest
from playwright.sync_api import expect
from lab import Lab, Page

shots = os.environ.get('SCREENSHOTS')
long = '%load_ext slm_magic\n%finetune --max_steps 4000 --logging_steps 1 --eval_steps 20 -n {} -o ft'
after = 'print("next:", ft.status, ft.state["step"] < 4000, (ft.path/"adapter"/"adapter_model.safetensors").exists())'

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp('lab')) as lab: yield lab

@pytest.fixture
def opened(lab, browser):
    "Opens notebooks, and closes their kernels"
    pages = []
    def open(name, *cells, **kw):
        if cells: lab.write(name, *cells)
        pages.append(Page(lab, browser, name, **kw))
        return pages[-1]
    yield open
    for o in pages: o.close()

def shot(page, name, i=1):
    "A picture of cell `i`, if there is a folder for it"
    if shots: page.cell(i).screenshot(path=str(Path(shots)/f'{name}.png'))

def outputs(nb, i): return [o for o in nb['cells'][i]['outputs'] if o['output_type'] != 'stream']

def check_saved(nb):
    "Nothing of the button, and nothing empty, stays in the file"
    assert 'widget' not in str(nb), 'a widget is left'
    for o in outputs(nb, 1): assert o['data'] and all(o['data'].values())
    data = outputs(nb, 1)[0]['data']
    assert 'data:image/svg+xml;base64,' in ''.join(data['text/html']) and 'stopped' in ''.join(data['text/plain']) and data['image/png']

def test_stop_by_button(opened):
    "The view moves while the cell runs; the button stops the run and keeps it; the next cell runs; the file shows it all again, untrusted and without a kernel"
    page = opened('button.ipynb', long.format('by_button'), after)
    page.run_all()
    out = page.output(0)
    button = out.get_by_role('button', name='Stop')
    expect(button).to_be_visible(timeout=90_000)
