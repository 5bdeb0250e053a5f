"""In a real JupyterLab in a real browser: the live view moves, Stop keeps the run, and what is saved can be read without a kernel.

SCREENSHOTS=folder pytest tests/test_lab.py  also writes pictures of the view, in the light and the dark theme."""
import json, re
from playwright.sync_api import expect
from lab import shot

long = '%load_ext slm_magic\n%finetune --max_steps 4000 --logging_steps 1 --eval_steps 8 -n {} -o ft;'
nowhere = dict(kernelspec=dict(name='nowhere', display_name='Nowhere', language='nowhere')) # for a reader: it has no kernel, and it is another file than the one trusted
after = 'print("next:", ft.status, ft.state["step"] < 4000, (ft.path/"adapter"/"adapter_model.safetensors").exists())'

def moving(page, steps=40): # several frames, also where a step takes a fiftieth of a second
    "Wait until the view has counted on while its cell is busy"
    counter = page.output(0).get_by_text(re.compile(r'step \d+/4,000'))
    def step(): return int(re.search(r'step (\d+)/', counter.inner_text())[1])
    expect(counter).to_be_visible(timeout=120_000)
    first,seen = step(),set()
    while step() < first + steps:
        seen.add(step())
        page.page.wait_for_timeout(100)
    assert len(seen) > 1 and page.prompt(0).inner_text() == '[*]:'

def check_saved(nb):
    "The picture is in the file; nothing of the button, and nothing empty"
    assert 'widget' not in json.dumps(nb)
    shown = [o for c in nb['cells'] for o in c['outputs'] if o['output_type'] != 'stream']
    assert shown and all(o['data'] and all(o['data'].values()) for o in shown)
    data = shown[0]['data']
    assert 'data:image/svg+xml;base64,' in ''.join(data['text/html']) and 'stopped' in ''.join(data['text/plain']) and data['image/png']

def test_stop_by_the_server(lab, opened):
    "The view moves while the cell runs; where messages to the kernel wait in line, the button's interrupt stops the run; the next cell runs; the picture is still there for a reader without a kernel"
    lab.write('button.ipynb', long.format('by_button'), after)
    page = opened('button.ipynb')
    page.js(f"({page.kernel.replace('?', '')}).commsOverSubshells = 'disabled'") # as with an ipykernel that has one thread for all messages
    page.run_all()
    moving(page)
    page.has(0, 'expected', 120) # it was scored
    shot(page, 'running-light')
    button = page.output(0).get_by_role('button', name='Stop')
    button.click()
    expect(page.output(0).get_by_role('button', name='Stopping')).to_be_disabled()
    page.has(1, 'next: stopped True True')
    assert len([o for o in page.sent if o.startswith('POST') and o.endswith('/interrupt')]) == 1
    expect(page.output(0).get_by_role('button')).to_have_count(0)
    shot(page, 'stopped-light')
    saved = page.save()
    check_saved(saved)
    page.shutdown()
    assert page.errors() == []

    saved['metadata'] = nowhere
    (lab.root/'read.ipynb').write_text(json.dumps(saved))
    reader = opened('read.ipynb', kernel=False, dark=True)
    picture = reader.output(0).locator('img[alt^="loss curves"]')
    expect(picture).to_be_visible()
    assert picture.evaluate('o => o.complete && o.naturalWidth') > 500 and reader.js(f'{reader.kernel} ?? null') is None
    for text in 'stopped', 'by_button', '--resume by_button', 'expected', 'train loss': expect(reader.output(0)).to_contain_text(text)
    shot(reader, 'reopened-dark')
    assert reader.errors() == []

def test_stop_by_the_notebook(lab, opened):
    "■ in the toolbar stops the run; the button stops a search, whose best candidate so far is proven"
    lab.write('toolbar.ipynb', long.format('by_toolbar'), after, '%optimize $ft -o onnx;', 'print(onnx.report["notes"], onnx.report["proof"]["kl"] < .01, len(onnx.report["candidates"]))')
    page = opened('toolbar.ipynb', dark=True)
    page.run_all()
    moving(page)
    page.has(0, 'expected', 120) # it was scored
    shot(page, 'running-dark')
    page.page.locator('[data-command="notebook:interrupt-kernel"]').first.click()
    page.has(1, 'next: stopped True True')
    shot(page, 'stopped-dark')
    page.has(2, 'exporting to ONNX')
    shot(page, 'optimize-dark', 2)
    page.output(2).get_by_role('button', name='Stop').click()
    page.has(3, 'the search was stopped when')
    page.has(3, 'True 1')
    check_saved(page.save())
    assert page.errors() == []
    page.shutdown()

searching = """%%finetune -n many -o found
search_space: {learning_rate: [1e-3, 2e-3, 4e-3, 8e-3]}
search_strategy: grid
max_steps: 60
logging_steps: 1
eval_steps: 20"""

def test_stop_of_a_search(lab, opened):
    "The button under a trial ends its search too, the trials that were done are kept, and the table is still there for a reader"
    lab.write('search.ipynb', '%load_ext slm_magic', searching, 'print("next:", found.status, found.best.id, len(found.trials) < 4 and {*found.trials.state})')
    page = opened('search.ipynb')
    page.run_all()
    page.has(1, 'trial 2 of 4', 180)
    expect(page.output(1).get_by_text(re.compile(r'step [1-9]\d*/60'))).to_be_visible(timeout=60_000)
    shot(page, 'search-light', 1)
    page.output(1).get_by_role('button', name='Stop').click()
    page.has(2, 'next: stopped many-t0', 60)
    expect(page.output(1).get_by_role('button')).to_have_count(0)
    for text in 'stopped', 'many-t01', '0.001': expect(page.output(1)).to_contain_text(text)
    shot(page, 'search-stopped-light', 1)
    saved = page.save()
    assert 'widget' not in json.dumps(saved) and page.errors() == []
    page.shutdown()

def test_scrub(lab, opened):
    "The slider is moved by keys, and the picture above it follows; without a kernel the filmstrip is still there, and nothing that looks broken"
    lab.write('scrub.ipynb', '%load_ext slm_magic\n%finetune --max_steps 12 --eval_steps 6 --samples 2 --learning_rate 4e-3 -n slow -o ft;', 'ft.scrub()')
    page = opened('scrub.ipynb')
    page.run_all()
    handle = page.output(1).get_by_role('slider')
    expect(handle).to_be_visible(timeout=120_000)
    picture = page.output(1).locator('img[alt*="with a mark at step"]')
    assert picture.get_attribute('alt').endswith('step 12')
    handle.focus()
    for _ in range(3): page.page.keyboard.press('ArrowLeft')
    expect(picture).to_have_attribute('alt', re.compile('step 9$'), timeout=30_000)
    page.has(1, 'step 9')
    shot(page, 'scrub-light', 1)
    saved = page.save()
    page.shutdown()
    assert page.errors() == []
    assert 'widget-state' not in json.dumps(saved)
    (lab.root/'film.ipynb').write_text(json.dumps(saved | dict(metadata=nowhere)))
    reader = opened('film.ipynb', kernel=False, dark=True)
    picture = reader.output(1).locator('img[alt*="with a mark at step 9"]')
    expect(picture).to_be_visible()
    assert picture.evaluate('o => o.complete && o.naturalWidth') > 500
    for text in 'expected', 'base', 'step 6', 'step 9', 'step 12': expect(reader.output(1)).to_contain_text(text)
    shot(reader, 'film-dark', 1)
    assert reader.errors() == [] and not re.search('Error|SelectionSlider', reader.output(1).inner_text())
