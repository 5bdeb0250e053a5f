"In a real kernel: a run in the background leaves the kernel free, and what it says stays in the cell that started it."
import time
import pytest
from kernel import Kernel

@pytest.fixture(scope='module')
def k(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp('background'))
    kernel.run('%load_ext slm_magic')
    yield kernel
    kernel.close()

long = '%finetune --bg --max_steps 3000 --eval 8 --samples 0 --eval_steps 3000 -n '

def test_output_stays(k):
    "The cell ends at once; later cells run while frames come to the first, as does the still, and nothing else anywhere"
    cell,reply = k.run('%finetune --bg --max_steps 60 --eval 8 --samples 0 --logging_steps 1 -n tone -o ft')
    assert reply['status'] == 'ok' and 'running' in k.text(cell)
    first = len(k.frames(cell))
    assert first and k.of(cell, 'display_data') # the view is open before the cell ends
    others = []
    while k.value('ft.status') == 'running' and len(others) < 200: others.append(k.run('import time; time.sleep(.2); print("other")')[0])
    k.run('ft.wait()')
    shown = k.of(cell, 'display_data', 'update_display_data')
    assert len(others) > 1 and len(shown) > first + 2 and len({m['content']['transient']['display_id'] for m in shown}) == 1 and len(k.of(cell, 'display_data')) == 1
    assert 'tone: done' in k.frames(cell)[-1] and 'image/png' in shown[-1]['content']['data']
    assert {k.text(o) for o in others} == {'other\n'} and not any(k.of(o, 'display_data', 'update_display_data') for o in others)
    assert k.value('type(ft.model).__name__, _run is ft, ft.generate("Hooray!") == type(ft).load(ft.path).generate("Hooray!")') == "PeftModelForCausalLM True True"

def test_stop(k):
    "One run at a time, in one line; it stops by its object, by `%runs stop`, and not by ■; resumed in the background it goes on"
    cell,_ = k.run(long + 'far -o far')
    for code in '%finetune --max_steps 1', '%finetune --resume far', '%finetune --dry_run', '%finetune --lr_find':
        _,reply = k.run(code)
        assert reply.get('ename') == 'UsageError', (code, reply, k.frames(cell)[-1])
        assert 'far is training in the background' in reply['evalue'] and len(reply['evalue'].splitlines()) == 1
    waiting = k.kc.execute('far.wait()')
    time.sleep(1)
    k.km.interrupt_kernel()
    assert k.kc.get_shell_msg(timeout=60)['content']['ename'] == 'KeyboardInterrupt' and k.value('far.status') == 'running'
    assert k.value('far.stop(), far.wait().status') == "None stopped"
    k.hear(.5)
    assert 'far: stopped' in k.frames(cell)[-1]
    at = int(k.value('far.state["step"]'))
    cell,_ = k.run('%finetune --resume far --bg -o far;')
    _,reply = k.run('%runs stop far')
    assert reply['status'] == 'ok' and k.value('far.wait().status') == 'stopped' and int(k.value('far.state["step"]')) > at and not k.of(cell, 'execute_result')

def test_failure(k):
    "An error at the end is in the view, in `run.status` and where the run is waited for; the next run begins"
    cell,_ = k.run('%finetune --bg --learning_rate 1e30 --max_steps 30 --eval 0 --samples 0 -n bad -o bad')
    _,reply = k.run('bad.wait()')
    assert reply['ename'] == 'RecipeError' and 'not finite' in reply['evalue'] and k.value('bad.status') == 'failed'
    k.hear(.5)
    assert 'bad: failed' in k.frames(cell)[-1] and 'not finite' in k.text(cell)
    assert k.run('%finetune --max_steps 1 --eval 0 --samples 0 -n next -o nxt')[1]['status'] == 'ok' and k.value('nxt.status') == 'done'
    assert k.run('%finetune --bg --dry_run')[1]['ename'] == 'UsageError'

def test_nobody_there(k):
    "Without a frontend it trains in the foreground and says so"
    cell,reply = k.run('%finetune --bg --max_steps 2 --eval 0 --samples 0 -n alone -o alone;', allow_stdin=False)
    assert reply['status'] == 'ok' and 'foreground' in k.text(cell) and k.value('alone.status, alone.ended') == "done None"

def test_kernel_is_shut_down(k):
    "A run whose kernel ends saves and stops"
    from slm_magic import Run
    k.run(long + 'last -o last')
    path = k.value('last.path')
    k.km.shutdown_wait_time = 30 # s, then it is killed; a machine with other work saves more slowly
    k.km.shutdown_kernel()
    end = time.time() + 30
    while (run := Run.load(path)).status == 'running' and time.time() < end: time.sleep(.1)
    assert run.status == 'stopped' and (run.path/'adapter'/'adapter_model.safetensors').exists()
