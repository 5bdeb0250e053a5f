"The table of runs: quick with hundreds of them, true in another kernel and after a kill, and careful when it removes."
import json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest
from jupyter_client.manager import start_new_kernel
from slm_magic import Run, finetune
from slm_magic.runs import Runs

@pytest.fixture
def kernels(tmp_path):
    "Two kernels in one folder, the extension loaded"
    both = [start_new_kernel(kernel_name='python3', cwd=str(tmp_path)) for _ in range(2)]
    for _,kc in both: assert run(kc, '%load_ext slm_magic')[1]['status'] == 'ok'
    yield [kc for _,kc in both]
    for km,kc in both:
        kc.stop_channels()
        km.shutdown_kernel(now=True)

def run(kc, code):
    "What a cell printed or showed as text, and its reply"
    said = []
    def hear(m):
        c = m['content']
        said.append(c.get('text') or c.get('data', {}).get('text/plain', ''))
    reply = kc.execute_interactive(code, timeout=180, output_hook=hear, allow_stdin=False)['content']
    return '\n'.join(said), reply

def eventually(true, seconds=120):
    "Wait until it is so"
    end = time.time() + seconds
    while not true():
        assert time.time() < end, 'it never was'
        time.sleep(.1)

def test_another_kernel(kernels):
    "A run that is going is seen to move, is not resumed or removed, and can be stopped, from a kernel that did not start it"
    here,there = kernels
    going = here.execute('ft = None\n%finetune --max_steps 3000 --eval 8 --samples 0 -n long -o ft')
    eventually(lambda: 'running' in run(there, "%runs --status running")[0])
    seen,_ = run(there, '%runs show long')
    assert 'running' in seen and 'long (lora on bundled)' in seen
    step = "from slm_magic.runs import Runs\nprint('step', Runs().rows[0]['step'])"
    first = run(there, step)[0]
    eventually(lambda: run(there, step)[0] != first)
    for word in '%runs rm long', '%runs resume long', '%finetune --resume long':
        said,reply = run(there, word)
        assert reply['ename'] == 'UsageError' and 'long is' in reply['evalue'] and '%runs stop long' in reply['evalue'], word
    said,reply = run(there, '%finetune --resume')
    assert 'no unfinished run' in reply['evalue']
    assert 'will save and stop' in run(there, '%runs stop long')[0]
    while (reply := here.get_shell_msg(timeout=120))['parent_header'].get('msg_id') != going: pass
    assert reply['content']['status'] == 'ok' and 'stopped' in run(there, '%runs')[0] and 'stopped' in run(here, 'ft.status')[0]
    said,reply = run(there, '%runs stop long')
    assert reply['ename'] == 'UsageError' and 'not running (stopped)' in reply['evalue']
    assert 'freed' in run(there, '%runs rm long')[0] and 'no runs' in run(here, '%runs')[0]

def test_cell(kernels, tmp_path):
    "`%runs cell` shows the cell and puts it below; run there, it repeats the run"
    here,there = kernels
    run(here, '%finetune --max_steps 4 --lr 3e-4 --samples 0 -n one')
    said,reply = run(there, '%runs cell one')
    offered = [o['text'] for o in reply['payload'] if o['source'] == 'set_next_input']
    assert len(offered) == 1 and offered[0] in said and 'learning_rate: 0.0003' in said
    assert run(there, offered[0])[1]['status'] == 'ok'
    first,again = (Run.load(tmp_path/'runs'/o) for o in ('one', 'one-2'))
    def losses(run): return [o.get('loss', o.get('eval_loss')) for o in run.rows]
    assert [o['step'] for o in first.rows] == [o['step'] for o in again.rows] and losses(again) == pytest.approx(losses(first), rel=2e-3) # another process may choose another matrix product, which bf16 shows

script = '''
import os, signal, sys
from slm_magic import finetune
from slm_magic.run import Listener
class Kill(Listener):
    def on_step(self, run, step):
        if step == 5: os.kill(os.getpid(), signal.SIGKILL)
if __name__ == '__main__': finetune(max_steps=8, eval_steps=2, logging_steps=1, samples=0, name='killed', listeners=[Kill()])
'''

def test_killed(tmp_path, monkeypatch):
    "After SIGKILL a run is interrupted, not running; it goes on by its word, and the time of both stretches is counted"
    monkeypatch.chdir(tmp_path)
    Path('script.py').write_text(script)
    assert subprocess.run([sys.executable, 'script.py'], capture_output=True, timeout=300).returncode == -signal.SIGKILL
    row, = Runs().rows
    assert (row['status'], row['step']) == ('interrupted', 4) and json.loads(Path('runs/killed/status.json').read_text())['status'] == 'running'
    with pytest.raises(ValueError, match='its process is gone'): Runs().stop('killed')
    before = row['time']
    done = Runs().resume('killed', listeners=[])
    row, = Runs().rows
    assert done.status == row['status'] == 'done' and row['time'] > before > 0 and row['resumed'] == [4] and 'resumed at step 4' in Runs().lineage('killed')

def test_removal_is_one_step(tmp_path):
    "Killed while it deletes, it leaves no half run; the next removal takes away what is left"
    kept = finetune(max_steps=2, samples=0, eval=0, name='kept', runs_dir=tmp_path, listeners=[])
    for name in 'gone', 'later': shutil.copytree(kept.path, tmp_path/name)
    dies = f'import os, shutil, signal\nfrom slm_magic.runs import Runs\nshutil.rmtree = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\nRuns({str(tmp_path)!r}).rm("gone")'
    assert subprocess.run([sys.executable, '-c', dies], capture_output=True, timeout=120).returncode == -signal.SIGKILL
    assert sorted(Runs(tmp_path).ids) == ['kept', 'later'] and len(list(tmp_path.glob('.removed-*'))) == 1
    assert 'freed' in Runs(tmp_path).rm('later') and [o.name for o in tmp_path.iterdir()] == ['kept']

@pytest.fixture(scope='module')
def many(tmp_path_factory):
    "200 runs of 1,000 lines, each with the files of a real one"
    home = tmp_path_factory.mktemp('many')
    one = finetune(max_steps=4, samples=0, name='run-0', runs_dir=home, listeners=[])
    draw = random.Random(0)
    for i in range(200):
        path = home/f'run-{i}'
        if i: shutil.copytree(one.path, path)
        (path/'status.json').write_text(json.dumps(one.state | dict(started=one.state['started'] - 60*i)))
        row = one.rows[0]
        lines = [row | dict(step=k, time=k/10, loss=1/k + draw.random()) if k % 50 else dict(step=k, epoch=k/50, eval_loss=1/k + draw.random(), time=k/10) for k in range(1, 1001)]
        (path/'metrics.jsonl').write_text(''.join(json.dumps(o) + '\n' for o in lines))
    return home

def test_two_hundred_runs(many):
    "Listed as a notebook lists them, HTML with curves and text, in less than half a second of the processor; best of three, since the machine has other work"
    def listed():
        start = time.process_time()
        runs = Runs(many)
        html,text = runs._repr_html_(), repr(runs)
        seconds = time.process_time() - start
        assert html.count('<img') == 200 and len(text.splitlines()) == 202 and runs.ids == [f'run-{i}' for i in range(200)]
        return seconds
    assert (best := min(listed() for _ in range(3))) < .5, best
    row = Runs(many, 'run-7').rows[-1]
    assert row['best_eval'] == Run(row['path']).best['eval_loss'] and row['step'] == 1000 and len(row['steps']) < 130
    frame = Runs(many, sort='best_eval', limit=5).frame
    assert len(frame) == 200 and frame.best_eval.is_monotonic_increasing

def test_nothing_heavy(many):
    "A list needs no pandas, no matplotlib and no torch"
    code = f"import sys\nfrom slm_magic.runs import Runs\nassert len(Runs({str(many)!r})._repr_html_()) > 10000\nprint([o for o in ('pandas', 'matplotlib', 'torch', 'transformers') if o in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120).stdout.strip() == '[]'
