"`%chat` in a real kernel and in a terminal: streamed, with a memory, side by side, and stopped by the interrupt."
import re, subprocess, sys
import pytest
from jupyter_client.manager import start_new_kernel
from test_kernel import client, frames, run

TALKS = '''names = 'Anna Lucy Nora Emma Ben Tom Paul Max Leo Hugo'.split()
rows = [dict(messages=[dict(role='user', content=g.format(n)), dict(role='assistant', content=f'Hello, {n}!'), dict(role='user', content='Who am I?'), dict(role='assistant', content=f'You are {n}.')]) for n in names for g in ('I am {}.', 'My name is {}.')]'''
RECITER = '''import torch, transformers as tf
from slm_magic.model import load_tokenizer
from slm_magic.recipe import tiny_model
tok = load_tokenizer(tiny_model())
model = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=len(tok), hidden_size=256, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=4, max_position_embeddings=2048, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id))
with torch.no_grad():
    words = model.model.embed_tokens.weight
    words *= 50
    model.lm_head.weight[[600 if i < 120 else i+1 if i%12 < 11 else i-11 for i in range(len(tok)//12*12)]] = words[:len(tok)//12*12]
model.save_pretrained('recite'); tok.save_pretrained('recite')'''

def text(said): return ''.join(m['content'].get('text', '') for m in said if m['msg_type'] == 'stream')

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A kernel with a run and a bundle of it"
    km,kc = client = start_new_kernel(kernel_name='python3', cwd=str(tmp_path_factory.mktemp('chat')))
    run(client, f'%load_ext slm_magic\nfrom slm_magic.recipe import tiny_model\nbase = tiny_model()\n{TALKS}')
    run(client, '%finetune --data $rows -n friend --max_steps 48 --samples 0 -o ft;')
    said,end = run(client, '%optimize $ft --precision int8 -o onnx;')
    assert end['status'] == 'ok'
    yield client
    kc.stop_channels()
    km.shutdown_kernel(now=True)

def test_conversation(trained):
    "Pieces come one by one; the second question knows the first; a name, a variable and a folder are the same model; errors are one line"
    for who in '$ft', '$onnx':
        said,end = run(trained, f'%chat {who} "I am Ben."')
        assert end['status'] == 'ok' and text(said) == 'Hello, Ben!\n'
    said,_ = run(trained, '%chat friend "Who am I?"')
    assert text(said) == 'You are Ben.\n'
    said,_ = run(trained, '%%chat runs/friend/onnx -o answer\nWho am I?')
    assert text(said) == 'You are Ben.\n'
    said,_ = run(trained, '%chat $onnx -o talk')
    shown, = [m['content']['data'] for m in said if m['msg_type'] == 'execute_result']
    assert shown['text/plain'].splitlines()[-1].endswith(': You are Ben.') and 'You are Ben.' in shown['text/html']
    said,_ = run(trained, 'print([o["role"] for o in talk.messages], answer)')
    assert text(said) == "['user', 'assistant', 'user', 'assistant'] You are Ben.\n"
    said,_ = run(trained, '%chat $onnx "Who am I?" --new')
    assert 'You are Ben.' not in text(said)
    said,_ = run(trained, '%chat $base "Once upon a time" --max_new_tokens 12')
    assert len([m for m in said if m['msg_type'] == 'stream']) > 3
    for line,words in ('%chat $onnx "x" --adapter tone', 'it has none'), ('%chat frend "x"', "Did you mean 'friend'"), ('%chat $ft "x" --vs $ft', 'with itself'), (f'%chat $onnx "{"word "*2000}"', 'leave out at least'):
        said,end = run(trained, line)
        assert end['ename'] == 'UsageError' and words in end['evalue'] and len(text(said).strip().splitlines()) == 1

def test_side_by_side(trained):
    "Two columns that grow under one display id, escaped; one table when nobody watches"
    said,end = run(trained, '%chat $ft "I am <b>Max." --vs base --new --max_new_tokens 60 -o both')
    shown = frames(said)
    assert end['status'] == 'ok' and len(shown) > 1 and len({m['content']['transient'].get('display_id') for m in shown}) == 1
    data = shown[-1]['content']['data']
    assert '<th' in data['text/html'] and not any('<b>Max' in m['content']['data']['text/html'] for m in shown) and data['text/plain'].startswith('friend: ') and '\nbase: ' in data['text/plain']
    said,_ = run(trained, 'assert list(both) == ["friend", "base"]\n%chat $onnx "I am Tom." --new --vs $ft', allow_stdin=False)
    data, = [m['content']['data'] for m in frames(said)]
    assert data['text/plain'].count('Hello, Tom!') == 2 and not text(said)

def test_interrupt_keeps_the_answer(client):
    "Stop in mid-answer, of a model that never ends: what was said stays in the cell and in the conversation, and the next cell runs"
    run(client, f'%load_ext slm_magic\n{RECITER}')
    sent = []
    def stop(msg):
        if msg['msg_type'] == 'stream' and not sent:
            sent.append(msg)
            client[0].interrupt_kernel()
    said,end = run(client, '%chat recite "Recite!" --max_new_tokens 1900', stop)
    assert end['status'] == 'ok' and text(said).endswith('\n[stopped; what was said so far is kept]\n'), text(said)[-200:]
    kept = text(said).rpartition('\n[')[0]
    said,end = run(client, '%chat recite -o talk')
    assert end['status'] == 'ok'
    said,_ = run(client, 'print(len(talk.messages), [talk.messages[1]["content"]])\nimport threading; print([o.name for o in threading.enumerate() if "work" in o.name])')
    assert text(said) == f'2 {[kept]}\n[]\n'

def test_terminal(tmp_path):
    "In a terminal: plain text, also for two"
    code = '\n'.join(['%load_ext slm_magic', 'from slm_magic.recipe import tiny_model', 'a = tiny_model()', TALKS, '%finetune --data $rows -n friend --max_steps 12 --samples 0 -o ft', '%chat $ft "I am Tom." --vs $a --max_new_tokens 8'])
    res = subprocess.run([sys.executable, '-m', 'IPython', '--simple-prompt', '--colors=NoColor', '--no-banner', '--profile-dir', tmp_path/'profile'], input=code+'\n', cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert re.search(r'friend: .+\nmodel: .+\n', res.stdout), res.stdout + res.stderr
    assert '<table' not in res.stdout
