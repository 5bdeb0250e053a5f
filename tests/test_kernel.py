"In a real kernel, with a frontend that listens: the live view moves, and the interrupt stops a run and keeps it."
import time
from html import escape
import pytest
from jupyter_client.manager import start_new_kernel

@pytest.fixture
def client(tmp_path):
    km,kc = start_new_kernel(kernel_name='python3', cwd=str(tmp_path))
    yield km,kc
    kc.stop_channels()
    km.shutdown_kernel(now=True)

def run(client, code, on_message=lambda msg: None, allow_stdin=True):
    "All messages of a cell, and how it ended"
    km,kc = client
    said = []
    def hear(msg):
        said.append(msg)
        on_message(msg)
    reply = kc.execute_interactive(code, allow_stdin=allow_stdin, timeout=120, output_hook=hear, stdin_hook=lambda m: None)
    return said, reply['content']

def frames(said): return [m for m in said if m['msg_type'] in ('display_data', 'update_display_data')]

def test_interrupt_keeps_the_run(client):
    "Stop in mid-run: the run ends as stopped, its adapter is there, the next cell runs, and it can be resumed to its end"
    run(client, '%load_ext slm_magic')
    sent = []
    def stop(msg):
        if msg['msg_type'] == 'update_display_data' and 'step 1' in msg['content']['data'].get('text/plain', '') and not sent:
            sent.append(time.time())
            client[0].interrupt_kernel()
    said,end = run(client, '%finetune --max_steps 400 --samples 0 -n long -o ft', stop)
    assert end['status'] == 'ok' and sent
    last = frames(said)[-1]['content']['data']
    assert 'stopped' in last['text/plain'] and 'data:image/svg+xml;base64,' in last['text/html'] and 'image/png' in last
    said,end = run(client, 'print(ft.status, ft.state["step"] < 400, (ft.path/"adapter"/"adapter_model.safetensors").exists(), type(ft.model).__name__)')
    assert 'stopped True True PeftModel' in said[-2]['content']['text']
    said,end = run(client, 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)')
    assert 'True' in ''.join(m['content'].get('text', '') for m in said)
    said,end = run(client, '%runs')
    assert end['status'] == 'ok'

def test_live_view(client):
    "Frames come while it runs, under one display id, and are escaped"
    run(client, '%load_ext slm_magic')
    rows = "rows = [dict(prompt=f'<script>alert({i})</script>', completion='a b'.split()[i%2]) for i in range(60)]"
    run(client, rows)
    said,end = run(client, '%finetune --data $rows --max_steps 30 -o ft;')
    shown = frames(said)
    assert end['status'] == 'ok' and len(shown) > 3
    assert len({m['content']['transient'].get('display_id') for m in shown}) == 1
    assert not any('<script' in m['content']['data'].get('text/html', '') for m in shown)
    assert not [m for m in said if m['msg_type'] == 'execute_result'] # silenced by the semicolon

def test_nobody_there(client):
    "Without a frontend only the still is sent; an error of the user is one line and fails the cell"
    run(client, '%load_ext slm_magic')
    said,end = run(client, '%finetune --max_steps 8 --samples 0', allow_stdin=False)
    assert len(frames(said)) == 1
    said,end = run(client, '%finetune --lerning_rate 3', allow_stdin=False)
    assert end['status'] == 'error' and end['ename'] == 'UsageError' and 'learning_rate' in end['evalue']
    error = ''.join(m['content'].get('text', '') for m in said)
    assert 'Traceback' not in error and len(error.strip().splitlines()) == 1

def test_scores_and_rating(client):
    "`%evaluate` says how far it is and then what it found; a rating is a form where buttons can be pressed, and its state elsewhere"
    run(client, '%load_ext slm_magic\nfrom slm_magic.recipe import tiny_model\nfrom slm_magic.rate import Rating\nmodel = tiny_model()\nrows = [dict(prompt="a", completion="b")]*3')
    said,end = run(client, '%evaluate $model $rows')
    assert end['status'] == 'ok' and [m['content']['data']['text/plain'] for m in frames(said)] [:2] == ['losses …', 'answers … 50%']
    data, = [m['content']['data'] for m in said if m['msg_type'] == 'execute_result']
    assert 'perplexity' in data['text/plain'] and 'data:image/png;base64,' in data['text/html']
    for frontend in True, False:
        said,end = run(client, 'Rating(["old", "new"], ["<b>hi"], [("x", "y")])', allow_stdin=frontend)
        data, = [m['content']['data'] for m in said if m['msg_type'] == 'execute_result']
        assert ('application/vnd.jupyter.widget-view+json' in data) == frontend
        assert '&lt;b&gt;hi' in data['text/html'] and 'rating.rate(0' in data['text/plain']

def test_scrub(client):
    "Moving the slider, as the browser says it, updates the picture in place with what the model of that step answers; without a frontend there is the picture only"
    run(client, '%load_ext slm_magic')
    run(client, '%finetune --max_steps 12 --eval_steps 6 --samples 1 --learning_rate 4e-3 -o ft;')
    said,end = run(client, 'ft.scrub()')
    slider, = [m['content']['comm_id'] for m in said if m['msg_type'] == 'comm_open' and m['content']['data']['state'].get('_model_name') == 'SelectionSliderModel']
    picture,widget = frames(said)
    assert end['status'] == 'ok' and 'mark at step 12' in picture['content']['data']['text/html'] and 'application/vnd.jupyter.widget-view+json' in widget['content']['data']
    kc = client[1]
    kc.shell_channel.send(kc.session.msg('comm_msg', dict(comm_id=slider, data=dict(method='update', state=dict(index=3), buffer_paths=[]))))
    while (msg := kc.get_iopub_msg(timeout=60))['msg_type'] != 'update_display_data': pass
    now = msg['content']['data']['text/html']
    assert msg['content']['transient']['display_id'] == picture['content']['transient']['display_id'] and 'mark at step 3' in now and '>step 3<' in now
    said,end = run(client, 'print(ft.at(3).generate(ft.samples[0]["prompt"]))')
    answer = ''.join(m['content'].get('text', '') for m in said if m['msg_type'] == 'stream').strip()
    assert answer and f'<b>{escape(answer)}</b>' in now
    said,end = run(client, 'ft.scrub()', allow_stdin=False)
    assert len(frames(said)) == 1 and not [m for m in said if m['msg_type'] == 'comm_open']

def test_form(client):
    "A form is a widget beside a still form where somebody can fill it in; without a frontend it is the still form, and no widget is made; what the magic would refuse is refused at once"
    run(client, '%load_ext slm_magic')
    for frontend in True, False:
        said,end = run(client, '%finetune --form --lr 3e-3 -o later', allow_stdin=frontend)
        data, = [m['content']['data'] for m in frames(said)]
        assert end['status'] == 'ok' and data['text/plain'].endswith('%%finetune -o later\nlearning_rate: 0.003') and '0.003' in data['text/html']
        assert ('application/vnd.jupyter.widget-view+json' in data) == frontend == any(m['msg_type'] == 'comm_open' for m in said)
    said,end = run(client, '%finetune --form --lr fast')
    assert end['ename'] == 'UsageError' and "learning_rate must be a number, not 'fast'" in end['evalue']
    said,end = run(client, '"later" in globals(), _form.cell')
    assert 'False' in str(said)
