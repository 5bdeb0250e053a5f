"""People rate: in a real JupyterLab in a real browser, blind, by keyboard; and the ratings outlive the kernel.

SCREENSHOTS=folder pytest tests/test_rate.py  also writes pictures of the form, of a comparison and of an evaluation."""
import json, os, signal
import pytest
from jupyter_client.manager import start_new_kernel
from playwright.sync_api import expect
from lab import shot

train = '%load_ext slm_magic\n%finetune --max_steps 30 --samples 0 -n tone -o ft;'
ask = '%load_ext slm_magic\nhostile = ["<img src=x onerror=document.title=1> Hooray!", "I cried all night.", "He slammed the door.", "Thank you for waiting."]\n%compare tone --rate --prompts $hostile -o rating'

def rated(lab, page, n, seconds=20):
    "The ratings on the disk, as soon as there are `n`"
    kept = lab.root/'runs'/'tone'/'ratings.jsonl'
    for _ in range(10*seconds):
        lines = kept.read_text().splitlines() if kept.exists() else []
        if len(lines) >= n: break
        page.page.wait_for_timeout(100)
    assert len(lines) == n
    return [json.loads(o) for o in lines]

def test_in_the_browser(lab, opened):
    "Nobody sees whose answer it is; Tab and Space are enough; each rating is on the disk at once, and another notebook goes on from there; at the end there is a win rate with its interval"
    lab.write('rate.ipynb', train, ask, '%compare tone --n_answers 4', '%evaluate tone --n_answers 4', 'print(rating.result)')
    page = opened('rate.ipynb')
    page.run_all()
    page.has(4, "'rated'", 180)
    form = page.output(1).locator('.widget-vbox')
    expect(form.get_by_role('button', name='A is better')).to_be_visible()
    expect(form).to_contain_text('<img src=x')                          # as text
    assert page.js('document.title') != '1' and not form.locator('img').count()
    text = form.inner_text()
    assert 'tone' not in text.replace('runs/tone/ratings.jsonl', '') and 'base' not in text
    shot(page, 'rate-blind', 1)
    shot(page, 'compare', 2)
    page.output(3).locator('summary', has_text='fix these').click()
    shot(page, 'evaluate', 3)
    assert page.js("[...document.querySelectorAll('.jp-OutputArea img')].every(o => o.complete && o.naturalWidth)")
    button = form.get_by_role('button', name='A is better')
    button.focus()
    page.page.keyboard.press('Space')
    one, = rated(lab, page, 1)
    assert one['better'] in one['models'] == ['tone', 'base']
    expect(form).to_contain_text('I cried all night.')
    assert button.evaluate('o => o === document.activeElement')         # the focus stays where it was
    page.page.keyboard.press('Tab')                                     # to the tie in the middle
    assert page.js('document.activeElement.innerText').strip() == 'tie'

    page.shutdown()
    lab.write('again.ipynb', ask, 'print("left", rating.better.count(None))')
    again = opened('again.ipynb', dark=True)
    again.run_all()
    again.has(1, 'left')
    form = again.output(0).locator('.widget-vbox')
    left = int(again.output(1).inner_text().split()[1])
    for i in range(left):
        form.get_by_role('button', name='tie').click()
        assert rated(lab, again, 2+i)[0] == one
    expect(form).to_contain_text('win rate')
    expect(form).to_contain_text('95 % interval')
    expect(form.get_by_role('button', name='tie')).to_be_hidden()
    shot(again, 'rate-result-dark', 0)
    assert page.errors() == again.errors() == []
    again.shutdown()

@pytest.mark.slow
def test_a_second_kernel(tmp_path):
    "A kernel is killed in the middle of rating, half a line is left behind, and another one goes on after the last whole rating"
    def kernel(): return start_new_kernel(kernel_name='python3', cwd=str(tmp_path))
    def said(kc, code):
        out = []
        reply = kc.execute_interactive(code, timeout=120, output_hook=lambda m: out.append(m['content'].get('text', '')), allow_stdin=False)
        assert reply['content']['status'] == 'ok', reply['content']
        return ''.join(out)
    km,kc = kernel()
    said(kc, train)
    said(kc, '%compare tone --rate --n 8 -o rating;')
    pid,left,order = eval(said(kc, 'import os; i = rating.next; rating.rate(i, "a"); rating.rate(rating.next, "b"); print((os.getpid(), rating.better.count(None), rating.items))'))
    os.kill(pid, signal.SIGKILL)
    kc.stop_channels(); km.cleanup_resources()
    kept = tmp_path/'runs'/'tone'/'ratings.jsonl'
    assert len(kept.read_text().splitlines()) == 2
    with kept.open('a') as f: f.write('{"models": ["tone", "ba')
    km,kc = kernel()
    try:
        said(kc, '%load_ext slm_magic\n%compare tone --rate --n 8 -o rating;')
        again,items = eval(said(kc, 'print((rating.better.count(None), rating.items))'))
        assert again == left and items == order and left > 0
        result = eval(said(kc, 'while rating.next is not None: rating.rate(rating.next, "tie")\nprint(rating.result)'))
        assert result['rated'] == 8 and result['wins'] + result['losses'] == 2 and 0 <= result['low'] < result['win_rate'] < result['high'] <= 1
    finally:
        kc.stop_channels(); km.shutdown_kernel(now=True)
