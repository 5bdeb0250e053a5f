"A search is stopped at any moment, and goes on as if nothing had happened: the same trials, the same losses."
import os, shutil, signal, subprocess, sys
import pytest
from slm_magic import Run, Search
from test_stop import half_written, hook, hooked

keys = dict(max_steps=4, eval_steps=2, save_steps=2, logging_steps=1, samples=0, eval=8, precision='fp32', lora_dropout=.1, per_device_train_batch_size=4)
space = dict(learning_rate='1e-4..1e-2', r=[2, 4])
cell = '%%finetune -n {}\n' + '\n'.join(f'{k}: {v}' for k,v in keys.items()) + '\nsearch_space:\n' + '\n'.join(f'  {k}: {v}' for k,v in space.items()) + '\nsearch_strategy: {{trials: 3, n_startup_trials: 1}}'
moments = {
    'the first plan of a trial': ('slm_magic.search.make_plan', 1),
    'a folder':                  ('slm_magic.run.environment', 2),
    'a step':                    ('slm_magic.search.Judge.on_step', 5), # the first of the second trial
    'a checkpoint':              ('slm_magic.loop.sync', 3),
    'a verdict':                 ('slm_magic.search.hopeless', 3),
    'between two trials':        ('slm_magic.results.Search.keep', 1),
    'the end':                   ('slm_magic.search.finish_search', 1)}

@pytest.fixture(scope='module')
def k(tmp_path_factory):
    with hooked(tmp_path_factory.mktemp('search')) as kernel: yield kernel

def told(s): return [(o['trial'], o['state'], o['values'], o['score'], o['curve']) for o in s.rows]
def losses(s): return [[[o.get(k) for k in ('step', 'loss', 'eval_loss', 'grad_norm')] for o in Run(s.trial_path(i)).rows] for i in range(3)]

@pytest.fixture(scope='module')
def straight(k):
    "The search that nothing happened to: its second trial is as good as the first or is ended early"
    shown,reply = k.run(cell.format('straight'))
    assert reply['status'] == 'ok'
    s = Search.load(k.cwd/'runs'/'straight')
    assert s.status == 'done' and {o['state'] for o in s.rows} == {'done', 'pruned'} and s.best.id == s.standing.best['run']
    data = [m['content']['data'] for m in k.of(shown, 'display_data', 'update_display_data')]
    assert len(k.of(shown, 'display_data')) == 1 and 'image/png' in data[-1] and 'data:image/png' in data[-1]['text/html'] and 'straight: done, 3 of 3 trials' in data[-1]['text/plain']
    assert 'trial 2 of 3, best ' in data[len(data)//2]['text/plain'] and 'widget-view' not in str(data[-1])
    assert k.value('_run.id') == s.best.id and 'straight (done, 3 of 3 trials)' in k.text(k.run('%runs')[0])
    return s

def check_resumed(k, name, straight, by='%finetune --resume {};'):
    s = Search.load(k.cwd/'runs'/name)
    if s.status != 'done': assert k.run(by.format(name))[1]['status'] == 'ok'
    assert s.status == 'done' and [o[1:] for o in told(s)] == [o[1:] for o in told(straight)] and losses(s) == losses(straight)
    best = [(o.best.path/'adapter'/'adapter_model.safetensors').read_bytes() for o in (s, straight)]
    assert best[0] == best[1] and [o for o in half_written(k, name) if name in o] == [] and not [*(k.cwd/'runs').glob(f'.{name}*')]

@pytest.mark.parametrize('moment,act', [(m, a) if (m, a) in (('a step', 'interrupt'), ('between two trials', 'twice')) else pytest.param(m, a, marks=pytest.mark.slow) for m in moments for a in ('interrupt', 'twice')])
def test_interrupted(k, straight, moment, act):
    "Once: the trial saves, and the search ends as stopped with the best of what has finished. Twice: it ends at once, and its files are whole"
    name = f"{moment.split()[-1]}-{act}"
    k.run(f'at({moments[moment][0]!r}, {act}, {moments[moment][1]})')
    _,reply = k.run(cell.format(name))
    s = Search.load(k.cwd/'runs'/name)
    assert k.value('6*7') == '42' and half_written(k, name) == []
    assert reply.get('ename', 'none') == ('none' if act == 'interrupt' else 'KeyboardInterrupt')
    assert s.status == ('done' if (moment, act) == ('the end', 'interrupt') else 'stopped')
    assert all(o['state'] in ('done', 'pruned', 'stopped') for o in s.rows) and (s.best is None or s.best.status == 'done')
    check_resumed(k, name, straight)

def test_stop_file(k, straight):
    "A file in the search's folder, and one in the trial's; `%finetune --resume` without a name finds the search, also where its trial was stopped last"
    for i,where in enumerate(('file', 'file-t02')):
        k.run(f"at('slm_magic.search.Judge.on_step', lambda: open('runs/{where}/STOP', 'w').close(), {(2, 3)[i]})")
        assert k.run(cell.format('file') if not i else '%finetune --resume file')[1]['status'] == 'ok'
        s = Search.load(k.cwd/'runs'/'file')
        assert s.status == 'stopped' and s.rows[-1]['state'] == 'stopped' and not [*(k.cwd/'runs').glob('*/STOP')]
    check_resumed(k, 'file', straight, '%finetune --resume;')

@pytest.mark.slow
def test_stopped_by_another(k, straight):
    "`%runs stop` in another process"
    other = f"__import__('subprocess').run([{sys.executable!r}, '-c', 'from slm_magic import Runs; Runs().stop(\"other\")'], check=True)"
    k.run(f"at('slm_magic.search.Judge.on_step', lambda: {other}, 5)")
    assert k.run(cell.format('other'))[1]['status'] == 'ok' and Search.load(k.cwd/'runs'/'other').status == 'stopped'
    check_resumed(k, 'other', straight, '%runs resume {}')

script = hook + f'''
import sys
from transformers import Trainer # once for all
from slm_magic import search
from slm_magic.matmul import probe
probe()
for name,where,call in [('straight', '', 0)] + [(k.split()[-1], *v) for k,v in {moments}.items() if k in sys.argv[1:]]:
    if not (child := os.fork()):
        if where: at(where, kill, call)
        search(search_space={space}, search_strategy=dict(trials=3, n_startup_trials=1), **{keys}, name='killed-'+name, listeners=[])
        os._exit(0)
    print(os.waitpid(child, 0)[1])
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='each search is a fork')
@pytest.mark.parametrize('these', [pytest.param(['between two trials'], marks=pytest.mark.slow), pytest.param([*moments], marks=pytest.mark.slow)], ids=['one', 'all'])
def test_killed(k, these):
    "SIGKILL: the search is seen to be interrupted, and goes on in another process"
    shutil.rmtree(k.cwd/'runs', ignore_errors=True)
    out = subprocess.run([sys.executable, '-c', script, *these], cwd=k.cwd, capture_output=True, text=True, timeout=300, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert out.stdout.split() == ['0'] + [str(int(signal.SIGKILL))]*len(these), out.stdout + out.stderr[-2000:]
    for moment in these:
        name = f'killed-{moment.split()[-1]}'
        s = Search.load(k.cwd/'runs'/name)
        assert s.status == 'interrupted' and s.recipe.max_steps == 4
        check_resumed(k, name, Search.load(k.cwd/'runs'/'killed-straight'))
