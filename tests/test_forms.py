"""The forms in a real JupyterLab: filled in, found wrong, mended, reviewed, inserted and run below; the curve, Stop, the export; and what is left without a kernel.

SCREENSHOTS=folder pytest tests/test_forms.py  also writes pictures of it, in the light and the dark theme."""
import json, re
from playwright.sync_api import expect
from lab import shot

start = '%load_ext slm_magic\nrows = [dict(text="<b>We</b> won!", mood="joyful"), dict(text="It is over.", mood="sad")]*30\n%finetune --form --data $rows -o ft'

def tab(form, name):
    "Turn to a tab"
    form.get_by_role('tab', name=name).click()

def code_of(cell): return '\n'.join(cell.locator('.jp-InputArea-editor .cm-line').all_inner_texts()).replace('\u200b', '')

def test_finetune(lab, opened):
    "Rows, an error beside its field, a further option, the review; Train inserts and runs the cell, Stop stops it; the line of the other form exports it"
    lab.write('train.ipynb', start, '%optimize --form $ft -o onnx')
    page = opened('train.ipynb', size=(1000, 1500))
    page.do('notebook:run-cell')
    form = page.output(0)
    expect(form.get_by_role('tab', name='Data')).to_be_visible(timeout=60_000)
    expect(form).to_contain_text('learned: text → mood', timeout=60_000)
    assert ''.join(form.locator('ol li').first.locator('b[style*="2a7fd4"]').all_inner_texts()).startswith('joyful')
    assert form.locator('[id^=slm-still]').count() == 1 and not form.locator('[id^=slm-still]').is_visible()
    form.get_by_label('template').fill('{text}\nMood: {moo}')
    expect(form.get_by_role('alert')).to_have_count(0) # the columns are known when the rows are read
    late = form.locator('.widget-hbox', has=page.page.get_by_label('template')).get_by_role('alert')
    expect(late).to_contain_text("names the column 'moo', which the data does not have. Did you mean 'mood'?", timeout=20_000)
    expect(form.get_by_role('tab', name='Data (1 ✗)')).to_be_visible()
    shot(page, 'form-rows-error-light')
    form.get_by_label('template').fill('{text}\nMood: {mood}')
    expect(form).to_contain_text('learned: template', timeout=20_000)
    expect(form.get_by_role('alert')).to_have_count(0)
    shot(page, 'form-data-light')

    tab(form, 'Training')
    rate = form.get_by_label('learning_rate')
    rate.fill('fast')
    wrong = form.get_by_role('alert').filter(has_text="learning_rate must be a number, not 'fast'.")
    expect(wrong).to_be_visible()
    expect(form.get_by_role('tab', name='Training (1 ✗)')).to_be_visible()
    shot(page, 'form-error-light')
    tab(form, 'Review')
    expect(form.get_by_role('button', name='Train')).to_be_disabled()
    expect(form).to_contain_text("Training → learning_rate: learning_rate must be a number")
    tab(form, 'Training')
    rate.fill('2e-3')
    expect(wrong).to_have_count(0)
    form.get_by_label('max_steps', exact=True).fill('4000')
    form.get_by_label('logging_steps', exact=True).fill('1')
    more = form.get_by_role('combobox', name='more options') # of the tab that is seen
    more.fill('optimm')
    more.press('Enter')
    expect(form.get_by_role('alert').filter(has_text="unknown option 'optimm'. Did you mean 'optim'?")).to_be_visible()
    more.fill('optim')
    more.press('Enter')
    form.get_by_label('optim', exact=True).fill('adamw_torch')
    page.page.keyboard.press('Tab') # the next field is the next one on the page

    tab(form, 'Model & method')
    form.get_by_label('method', exact=True).select_option('prompt')
    expect(form.get_by_label('lora_alpha')).to_have_count(0)
    form.get_by_label('method', exact=True).select_option('dora')
    form.get_by_label('lora_alpha').fill('16')
    shot(page, 'form-method-light')
    tab(form, 'Review')
    form.get_by_label('name', exact=True).fill('from_form')
    said = '%%finetune -o ft\ndata: $rows\ntemplate: "{text}\\nMood: {mood}"\nmethod: dora\nlora_alpha: 16\nmax_steps: 4000\nlearning_rate: 0.002\nlogging_steps: 1\nname: from_form\noptim: adamw_torch'
    expect(form.get_by_role('region', name='the cell')).to_have_text(said)
    expect(form).to_contain_text('MB that are free', timeout=30_000)
    shot(page, 'form-review-light')

    form.get_by_role('button', name='Train').click()
    expect(page.prompt(1)).to_have_text('[*]:', timeout=20_000)
    assert code_of(page.cell(1)) == said
    expect(page.output(1).get_by_text(re.compile(r'step \d\d+/4,000'))).to_be_visible(timeout=120_000)
    expect(page.output(1).locator('svg').first).to_be_visible(timeout=60_000)
    page.output(1).get_by_role('button', name='Stop').click()
    page.has(1, 'stopped', 60)
    shot(page, 'form-trained-light', 1)

    page.cell(2).locator('.cm-content').click()
    page.do('notebook:run-cell')
    form = page.output(2)
    expect(form.get_by_role('tab', name='Limits')).to_be_visible(timeout=60_000)
    tab(form, 'Limits')
    form.get_by_label('max_kl').fill('0.05')
    tab(form, 'Review')
    expect(form.get_by_role('region', name='the cell')).to_have_text('%optimize $ft --max_kl 0.05 -o onnx')
    shot(page, 'form-optimize-light', 2)
    form.get_by_role('button', name='Insert below').click()
    expect(form.get_by_role('status')).to_have_text('inserted below')
    assert code_of(page.cell(3)) == '%optimize $ft --max_kl 0.05 -o onnx'
    page.cell(3).locator('.cm-content').click()
    page.do('notebook:run-cell', wait=False)
    page.has(3, 'KL', 240)
    saved = page.save()
    assert 'widget' not in json.dumps([c['outputs'] for c in saved['cells']])
    assert page.errors() == []
    page.shutdown()

def test_without_a_kernel(lab, opened):
    "By the keyboard alone; what was filled in is a picture in the saved notebook, trusted or not, and no widget that could fail"
    lab.write('left.ipynb', start)
    page = opened('left.ipynb', dark=True, size=(1000, 1300))
    page.do('notebook:run-cell')
    form = page.output(0)
    expect(form).to_contain_text('learned: text → mood', timeout=60_000)
    shot(page, 'form-data-dark')
    def press(*keys):
        for o in keys: page.page.keyboard.press(o)
    form.get_by_role('tab', name='Data').focus()
    press('ArrowRight', 'ArrowRight', 'Enter', 'Tab')
    expect(form.get_by_label('num_train_epochs')).to_be_focused()
    press('2', 'Tab')
    expect(form.get_by_label('learning_rate')).to_be_focused()
    shot(page, 'form-training-dark')
    form.get_by_role('tab', name='Training').focus()
    press('ArrowRight', 'Enter', 'Tab')
    expect(form.get_by_label('name', exact=True)).to_be_focused()
    expect(form.get_by_role('region', name='the cell')).to_have_text('%%finetune -o ft\ndata: $rows\nnum_train_epochs: 2')
    expect(form).to_contain_text('MB that are free', timeout=30_000)
    fields = form.locator('input, select, textarea')
    assert fields.count() > 40 and fields.evaluate_all('all => all.every(o => o.labels.length && o.labels[0].textContent.trim())')
    form.get_by_role('button', name='Copy').focus()
    press('Enter')
    expect(form.get_by_role('status')).to_have_text('copied; paste it into a new cell')
    shot(page, 'form-review-dark')
    expect(form.locator('[id^=slm-still]')).to_contain_text('num_train_epochs: 2')
    saved = page.save()
    page.shutdown()
    other = saved | dict(metadata=dict(kernelspec=dict(name='nowhere', display_name='Nowhere', language='nowhere')))
    (lab.root/'other.ipynb').write_text(json.dumps(other))
    for name,kernel in ('left.ipynb', True), ('other.ipynb', False): # a new kernel, which knows nothing of the form, and none
        reader = opened(name, kernel=kernel, dark=True)
        picture = reader.output(0)
        expect(picture.get_by_text('num_train_epochs: 2')).to_be_visible()
        for text in '%%finetune -o ft', 'passes over the data': expect(picture).to_contain_text(text)
        for text in 'Loading widget', 'Error displaying widget': expect(picture).not_to_contain_text(text)
        shot(reader, f'form-left-{name[:-6]}-dark')
        assert reader.errors() == []
