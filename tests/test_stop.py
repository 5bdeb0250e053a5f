"Stopped at any moment: nothing half-written is left, the next cell runs, and resuming goes on as if nothing had happened."
import os, shutil, signal, subprocess, sys, time
from contextlib import contextmanager
import pytest
from kernel import Kernel
from slm_magic import Run

hook = '''
import os, pkgutil, signal
def at(where, act, call=1):
    "Do `act` in the middle of a run: when `where` is entered for the so-manieth time"
    place,_,name = where.rpartition('.')
    place,calls = pkgutil.resolve_name(place),[]
    old = getattr(place, name)
    def entered(*args, **kw):
        calls.append(1)
        if len(calls) == call:
            setattr(place, name, old)
            act()
        return old(*args, **kw)
    setattr(place, name, entered)
def interrupt(): os.killpg(0, signal.SIGINT) # as ■ does: this process and those it has started
def twice(): interrupt(), interrupt()
def kill(): os.kill(os.getpid(), signal.SIGKILL)
'''
keys = dict(max_steps=6, eval_steps=3, save_steps=2, logging_steps=1, samples=1, eval=8, r=4, precision='fp32', lora_dropout=.1, per_device_train_batch_size=4)
cell = '%finetune ' + ' '.join(f'--{k} {v}' for k,v in keys.items()) + ' -n '
moments = {
    'loading the model': ('slm_magic.train.base_model', 1),
    'a step':            ('slm_magic.engine.Engine.loss_sum', 4),
    'an evaluation':     ('slm_magic.loop.row_losses', 2),
    'an answer':         ('slm_magic.steps.sample_answers', 2),
    'a checkpoint':      ('slm_magic.loop.sync', 2),
    'the adapter':       ('slm_magic.train.sync', 1)}

@contextmanager
def hooked(folder):
    "A kernel in which something can be done `at` a moment, with a folder of its own for what is temporary"
    (folder/'tmp').mkdir()
    kernel = Kernel(folder, TMPDIR=str(folder/'tmp'), TORCHINDUCTOR_CACHE_DIR=str(folder/'cache'), OMP_NUM_THREADS='1')
    try:
        kernel.run('%load_ext slm_magic\nfrom slm_magic import Run, Bundle' + hook)
        yield kernel
    finally: kernel.close()

@pytest.fixture(scope='module')
def k(tmp_path_factory):
    with hooked(tmp_path_factory.mktemp('stop')) as kernel: yield kernel

def rows(run): return [[o.get(k) for k in ('step', 'loss', 'eval_loss', 'learning_rate', 'grad_norm')] for o in run.rows]

@pytest.fixture(scope='module')
def straight(k):
    "The run that nothing happened to"
    assert k.run(cell + 'straight -o straight;')[1]['status'] == 'ok'
    return Run.load(k.cwd/'runs'/'straight')

def half_written(k, name): return [str(o.relative_to(k.cwd)) for o in [*(k.cwd/'runs').glob('.*'), *(k.cwd/'runs'/name).rglob('.*'), *(k.cwd/'tmp').iterdir()]]

def check_resumed(k, name, straight):
    "It goes on to the end of the run that nothing happened to, in numbers and in bytes"
    run = Run.load(k.cwd/'runs'/name)
    if run.status != 'done': assert k.run(f'%finetune --resume {name};')[1]['status'] == 'ok'
    assert run.status == 'done' and rows(run) == rows(straight) and len(rows(run)) == 8
    files = [(o.path/'adapter'/'adapter_model.safetensors').read_bytes() for o in (run, straight)]
    assert files[0] == files[1] and half_written(k, name) == []

@pytest.mark.parametrize('act', ['interrupt', 'twice'])
@pytest.mark.parametrize('moment', [pytest.param(o, marks=pytest.mark.slow) if o in ('a step', 'an evaluation', 'an answer') else o for o in moments])
def test_interrupted(k, straight, moment, act):
    "Once: it saves and ends as stopped. Twice: it ends at once, and what it has is the last checkpoint"
    name = f"{moment.split()[-1]}-{act}"
    k.run(f'at({moments[moment][0]!r}, {act}, {moments[moment][1]})')
    _,reply = k.run(cell + f'{name} -o it;')
    path = k.cwd/'runs'/name
    assert half_written(k, name) == [] and k.value('6*7') == '42'
    assert reply.get('ename', 'none') == ('none' if act == 'interrupt' else 'KeyboardInterrupt')
    assert Run.load(path).status == ('done' if (moment, act) == ('the adapter', 'interrupt') else 'stopped')
    assert (path/'adapter').exists() == (act == 'interrupt') and (path/'README.md').exists()
    if act == 'interrupt': assert k.value(f'Run.load({str(path)!r}).generate("Hooray!") == it.generate("Hooray!")') == 'True'
    check_resumed(k, name, straight)

def test_interrupted_before_it_began(k):
    "While the run folder is written: there is none"
    k.run("at('slm_magic.run.environment', interrupt)")
    _,reply = k.run(cell + 'never')
    assert reply['ename'] == 'KeyboardInterrupt' and half_written(k, 'never') == [] and not (k.cwd/'runs'/'never').exists()

def test_stop_file(k, straight):
    "A file, from any other process"
    k.run("at('slm_magic.engine.Engine.loss_sum', lambda: open('runs/file/STOP', 'w').close(), 4)")
    assert k.run(cell + 'file -o it;')[1]['status'] == 'ok' and k.value('it.status, it.state["step"] < 6') == 'stopped True'
    assert not (k.cwd/'runs'/'file'/'STOP').exists()
    check_resumed(k, 'file', straight)

def check_export(k, where):
    "Interrupted twice, it ends at once; nothing half-written is left, and no program that it started goes on"
    k.run(f'at({where!r}, twice)')
    assert k.run('%optimize straight --precision fp32;')[1]['ename'] == 'KeyboardInterrupt'
    assert half_written(k, 'straight') == [] and k.value('[o.name() for o in __import__("psutil").Process().children()]') == '[]'

def test_interrupted_export(k, straight):
    "Twice while the exporter works: there is no bundle"
    check_export(k, 'slm_magic.subject.Subject.read')
    assert not (straight.path/'onnx').exists()

@pytest.mark.slow
def test_interrupted_search(k, straight):
    "Once, and the best so far is proven; twice while that folder is to be replaced, and it is what it was"
    check_export(k, 'slm_magic.export.gate')
    k.run("at('slm_magic.subject.Subject.read', interrupt)")
    assert k.run('%optimize straight -o made;')[1]['status'] == 'ok' and 'the search was stopped when 1 of' in k.value('made.report["notes"]')
    def files(): return {o: o.read_bytes() for o in (straight.path/'onnx').rglob('*') if o.is_file()}
    before = files()
    check_export(k, 'slm_magic.optimize.complete')
    assert files() == before and k.value('Bundle(made.path).generate("Hooray!") == made.generate("Hooray!")') == 'True'

@pytest.mark.slow
@pytest.mark.parametrize('seconds', [.5, 2, 4])
def test_interrupted_imports(tmp_path, seconds):
    "■ in the first seconds of a kernel, while torch is imported: the cell can be run again"
    k = Kernel(tmp_path)
    try:
        k.run('%load_ext slm_magic')
        cell = k.kc.execute('%finetune --max_steps 2 --samples 0 --eval 8;', allow_stdin=True)
        time.sleep(seconds)
        k.km.interrupt_kernel()
        while (reply := k.kc.get_shell_msg(timeout=120))['parent_header'].get('msg_id') != cell: pass
        assert reply['content'].get('ename', 'KeyboardInterrupt') == 'KeyboardInterrupt'
        assert k.run('%finetune --max_steps 2 --samples 0 --eval 8 -o ft;')[1]['status'] == 'ok' and k.value('ft.status') == 'done'
    finally: k.close()

script = hook + f'''
import sys
from transformers import Trainer # once for all
from slm_magic import finetune
from slm_magic.matmul import probe
probe()
for name,where,call in [('straight', '', 0)] + [(k.split()[-1], *v) for k,v in {moments}.items() if k in sys.argv[1:]]:
    if not (child := os.fork()):
        if where: at(where, kill, call)
        finetune(**{keys}, name='killed-'+name, listeners=[])
        os._exit(0)
    print(os.waitpid(child, 0)[1])
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='each run is a fork')
@pytest.mark.parametrize('these', [['a checkpoint', 'the adapter'], pytest.param([*moments], marks=pytest.mark.slow)], ids=['saving', 'all'])
def test_killed(k, these):
    "SIGKILL in such a moment: what was being written is gone when the run is resumed, by another process, and the numbers are the same"
    shutil.rmtree(k.cwd/'runs', ignore_errors=True)
    out = subprocess.run([sys.executable, '-c', script, *these], cwd=k.cwd, capture_output=True, text=True, timeout=300, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert out.stdout.split() == ['0'] + [str(int(signal.SIGKILL))]*len(these), out.stdout + out.stderr[-2000:]
    for moment in these:
        name = f'killed-{moment.split()[-1]}'
        assert Run.load(k.cwd/'runs'/name).status == 'interrupted' and not (k.cwd/'runs'/name/'adapter').exists()
        check_resumed(k, name, Run.load(k.cwd/'runs'/'killed-straight'))
