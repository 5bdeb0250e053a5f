"A published run: what a stand-in for the Hub receives from huggingface_hub, and that it loads as the card says."
import base64, json, os, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pytest
from huggingface_hub import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from slm_magic import Run, finetune

@pytest.fixture
def hub():
    "As much of the Hub's protocol as an upload speaks: create, check the card, ask how to send, send large files, commit"
    class Hub(BaseHTTPRequestHandler):
        large,files,asked,tokens = {},{},[],set()
        def log_message(self, *args): pass
        def answer(self, code=200, **said):
            self.send_response(code)
            self.send_header('Content-Type', 'application/json')
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())
        def body(self): return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        def do_GET(self): self.answer(siblings=[], sha='0'*40, id='me/tone')
        def do_PUT(self):
            Hub.large[self.path.rsplit('/', 1)[1]] = self.body()
            self.answer()
        def do_POST(self):
            here,said = f'http://127.0.0.1:{self.server.server_port}',self.body()
            Hub.asked.append((self.path, said))
            Hub.tokens.add(self.headers.get('authorization'))
            if 'wrong' in (self.headers.get('authorization') or ''): return self.answer(401, error='Invalid username or password.')
            if self.path == '/api/repos/create': return self.answer(url=f'{here}/me/tone', name='me/tone', id='me/tone')
            if self.path == '/api/validate-yaml': return self.answer(errors=[], warnings=[])
            if '/preupload/' in self.path: return self.answer(files=[dict(path=o['path'], uploadMode='lfs' if o['path'].endswith('.safetensors') else 'regular', shouldIgnore=False) for o in json.loads(said)['files']])
            if self.path.endswith('/info/lfs/objects/batch'): return self.answer(transfer='basic', objects=[dict(oid=o['oid'], size=o['size'], actions=dict(upload=dict(href=f'{here}/store/{o["oid"]}'))) for o in json.loads(said)['objects']])
            if '/commit/' in self.path:
                for o in map(json.loads, said.splitlines()):
                    if o['key'] == 'file': Hub.files[o['value']['path']] = base64.b64decode(o['value']['content'])
                    if o['key'] == 'lfsFile': Hub.files[o['value']['path']] = Hub.large[o['value']['oid']]
                return self.answer(success=True, commitOid='0'*40, commitUrl=f'{here}/me/tone/commit/{"0"*40}', hookOutput='')
            self.answer(404, error=f'nothing at {self.path}')
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', Hub
    server.shutdown()
    server.server_close()

def publish(path, endpoint, token, home):
    "`push_to_hub` in a process that may speak to `endpoint`, and to nobody else"
    code = f'from slm_magic import Run, RecipeError\ntry: print(Run.load({str(path)!r}).push_to_hub("me/tone", token={token!r}))\nexcept RecipeError as e: print("error:", e)'
    env = {k: v for k,v in os.environ.items() if k not in ('HF_TOKEN', 'HF_HUB_OFFLINE')} | dict(HF_ENDPOINT=endpoint, HF_HUB_OFFLINE='0', HF_HOME=str(home), HF_HUB_DISABLE_XET='1')
    res = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, timeout=180)
    assert not res.returncode, res.stderr[-2000:]
    return res.stdout

def test_publish(tmp_path, hub):
    "One commit holds weights, tokenizer and card, and nothing of the rows or the machine; what was sent answers as the run does"
    endpoint,got = hub
    run = finetune(max_steps=20, samples=0, name='tone', data=[dict(prompt=f'secret {i}', completion='abc'[i % 3]) for i in range(60)], runs_dir=tmp_path/'runs', listeners=[])
    said = publish(run.path, endpoint, 'hf_right', tmp_path/'home')
    assert f'{endpoint}/me/tone' in said and 'error' not in said, said
    assert json.loads(next(b for p,b in got.asked if p == '/api/repos/create'))['visibility' if b'visibility' in got.asked[0][1] else 'private'] in ('private', True)
    assert sum('/commit/' in p for p,_ in got.asked) == 1 and any(p == '/api/validate-yaml' for p,_ in got.asked)
    assert {'README.md', 'adapter_config.json', 'adapter_model.safetensors', 'tokenizer.json', 'curves.png'} <= got.files.keys() and not {o for o in got.files if 'jsonl' in o or 'env' in o or 'status' in o}
    for name,content in got.files.items(): assert b'secret 1' not in content and str(tmp_path).encode() not in content and b'hf_right' not in content, name
    assert not [p for p in run.path.rglob('*') if p.is_file() and b'hf_right' in p.read_bytes()]
    there = tmp_path/'there'
    there.mkdir()
    for name,content in got.files.items(): (there/name).write_bytes(content)
    assert (there/'adapter_model.safetensors').read_bytes() == (run.path/'adapter'/'adapter_model.safetensors').read_bytes()
    assert 'error' in publish(run.path, endpoint, 'hf_wrong', tmp_path/'home')

def test_nobody_there(tmp_path):
    "No server, no token and no weights: a line each, and nothing is left behind"
    run = finetune(max_steps=2, samples=0, eval=0, name='tone', runs_dir=tmp_path, listeners=[])
    said = publish(run.path, 'http://127.0.0.1:9', 'hf_x', tmp_path/'home')
    assert said.startswith("error: 'me/tone' could not be published") and len(said.splitlines()) == 1

@pytest.mark.parametrize('keys', [{}, dict(method='full'), dict(task='sequence-classification')], ids=['lora', 'full', 'classifier'])
def test_card(tmp_path, monkeypatch, keys):
    "The card of a run: metadata that huggingface_hub reads, and lines that load what was trained"
    run = finetune(max_steps=6, samples=0, name='tone', runs_dir=tmp_path, listeners=[], **keys)
    text = (run.path/'README.md').read_text()
    data = metadata_load(run.path/'README.md')
    name,scores = model_index_to_eval_results(data['model-index'])
    assert data['license'] == 'apache-2.0' and name == 'tone' and scores[0].metric_value == run.best['eval_loss']
    for part in '## Data', '## Licence', '## Limits', '## Recipe', '(curves.png)': assert part in text, part
    lines = text.split('```python\n')[1].split('```')[0]
    assert len(lines.strip().splitlines()) == 3
    monkeypatch.chdir(run.path)
    exec(lines, there := {})
    a,b = there['model'].state_dict(),run.model.state_dict()
    assert a.keys() == b.keys() and all((a[k] == b[k].to(a[k].dtype)).all() for k in a if 'original_module' not in k) # that of a new head is random, and not used; the head has the precision its base is stored in
    assert there['tokenizer']('a phrase').input_ids == run.tokenizer('a phrase').input_ids
