"The estimate of memory against measured peaks, each run in a process of its own; and what a run does when memory runs out."
import json, random, subprocess, sys
import pytest
from slm_magic import RecipeError, Run, finetune
from slm_magic.run import Listener

measure = '''
import json, re, sys
from pathlib import Path
from slm_magic import Recipe
from slm_magic.plan import make_plan
from slm_magic.train import create_run, run_plan
def status(key): return int(re.search(key + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1])*1024/1e6
plan = make_plan(Recipe.make(line=json.loads(sys.argv[1])))
Path('/proc/self/clear_refs').write_text('5') # the peak counts from here
before = status('VmRSS')
run_plan(plan, create_run(plan.recipe, plan.data, plan.path), [])
print(json.dumps(dict(peak=status('VmHWM')-before, **plan.memory)))
'''
wide = dict(max_steps=3, per_device_train_batch_size=8)
configs = dict(lora=dict(max_steps=12), lora_1=dict(max_steps=12, per_device_train_batch_size=1), lora_32=dict(max_steps=12, per_device_train_batch_size=32), full=dict(max_steps=12, method='full'),
               qlora=dict(max_steps=12, method='qlora'), stock=dict(max_steps=12, engine='stock'), llama=dict(wide, words=300), checkpointing=dict(wide, words=300, gradient_checkpointing=True),
               llama_full=dict(wide, words=100, method='full'), llama_stock=dict(wide, words=150, engine='stock'), llama_qlora=dict(wide, words=150, method='qlora'), gpt2=dict(wide, words=150))

@pytest.fixture(scope='module')
def models(tmp_path_factory):
    "A Llama of 29 and a GPT-2 of 17 million random weights, by the first letters of their names"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig
    from slm_magic.recipe import tiny_model
    tok,folder = AutoTokenizer.from_pretrained(tiny_model()),tmp_path_factory.mktemp('models')
    ids = dict(bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, vocab_size=16000)
    for config in LlamaConfig(hidden_size=512, intermediate_size=1408, num_hidden_layers=7, num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True, **ids), GPT2Config(n_embd=384, n_layer=6, n_head=6, **ids):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder/config.model_type)
        tok.save_pretrained(folder/config.model_type)
    return folder

def made_up(words, seed=0):
    rng,known = random.Random(seed),'river stone blue walks under seven lights garden moon table slowly reads north apple'.split()
    say = lambda n: ' '.join(rng.choice(known) for _ in range(n))
    return [dict(prompt=say(rng.randint(words//2, words)), completion=say(30)) for _ in range(40)]

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the peak is read from /proc')
@pytest.mark.parametrize('name', [o if o in ('lora', 'stock') else pytest.param(o, marks=pytest.mark.slow) for o in configs])
def test_the_estimate_is_what_a_run_takes(models, tmp_path, name):
    "The peak of training above what the process had before, within 20 %"
    keys = dict(configs[name])
    if words := keys.pop('words', None):
        (tmp_path/'rows.jsonl').write_text('\n'.join(map(json.dumps, made_up(words))))
        keys |= dict(data='rows.jsonl', model=str(models/('gpt2' if name == 'gpt2' else 'llama')))
    out = subprocess.run([sys.executable, '-c', measure, json.dumps(keys)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert out.returncode == 0, out.stderr[-2000:]
    found = json.loads(out.stdout.splitlines()[-1])
    print(name, {k: round(v) for k,v in found.items()})
    assert .8 < found['total']/found['peak'] < 1.2

class Greedy:
    "Cross-entropy that asks for more memory than there is when it gets more than `limit` items"
    def __init__(self, limit): self.limit = limit
    def __call__(self, logits, labels):
        from torch.nn.functional import cross_entropy
        if len(labels) > self.limit: bytearray(1 << 62)
        return cross_entropy(logits, labels, reduction='none')

class At(Listener):
    "Sets the limit of a loss when a step is done, and keeps what was said at each start"
    def __init__(self, loss, step, limit): self.loss,self.step,self.limit,self.said = loss,step,limit,[]
    def on_start(self, run, info):
        self.said.append(info['less'])
        if not self.step: self.loss.limit = self.limit
    def on_step(self, run, step):
        if step == self.step: self.loss.limit = self.limit

small = dict(data=[dict(prompt=f'{i} and {i+1}', completion='yes') for i in range(24)], eval=0, samples=0, r=2, max_steps=3, logging_steps=1, save_steps=1, precision='fp32')
plenty = 10**6

def same_losses(a, b): return [o['step'] for o in a.rows] == [o['step'] for o in b.rows] and all(abs(x['loss']-y['loss']) < 1e-5 for x,y in zip(a.rows, b.rows))

def test_a_run_without_memory_goes_on_with_less_at_a_time(tmp_path, monkeypatch):
    "Batches are halved until they fit, from the start or from the last checkpoint; the updates are those of a run that had the memory, and the run says so"
    monkeypatch.chdir(tmp_path)
    enough = finetune(loss=Greedy(plenty), name='enough', listeners=[], **small)
    for name,step in dict(start=0, later=2).items():
        at = At(loss := Greedy(plenty), step, 20)
        run = finetune(loss=loss, name=name, listeners=[at], **small)
        r = run.recipe
        assert run.status == 'done' and r.per_device_train_batch_size < 16 and r.per_device_train_batch_size*r.gradient_accumulation_steps == 16 and same_losses(run, enough)
        assert [len(o) for o in at.said] == list(range(len(at.said))) and len(at.said) > 1 and at.said[-1] == run.state['less']
        assert any('memory ran out in training' in o for o in run.facts['notes']) and 'memory ran out' in (run.path/'README.md').read_text()
        assert not len(run.snapshots) and 'memory ran out' in run.snapshots.why and len(enough.snapshots) == 4 # what nothing depends on goes first

def test_nothing_smaller_is_a_failure_that_names_what_would_fit(tmp_path, monkeypatch):
    "One row and checkpointing do not fit: two lines, status failed"
    monkeypatch.chdir(tmp_path)
    loss = Greedy(plenty)
    with pytest.raises(RecipeError, match='To make it fit: (method: qlora|max_length)') as e: finetune(loss=loss, name='none', listeners=[At(loss, 0, 0)], **small | dict(per_device_train_batch_size=1))
    run = Run.load(tmp_path/'runs'/'none')
    assert run.status == 'failed' and len(str(e.value).splitlines()) == 2 and run.recipe.upstream['gradient_checkpointing'] and 'memory ran out' in run.state['error']

limited = '''
import resource, sys
import matplotlib.figure, matplotlib.backends.backend_agg # needed at the end, when the process may not grow
from slm_magic import finetune
from slm_magic.run import Listener
class Limit(Listener):
    def on_step(self, run, step): # what the process has now, and not enough for a batch
        if step == 1: resource.setrlimit(resource.RLIMIT_AS, (int(next(l for l in open('/proc/self/status') if l.startswith('VmSize')).split()[1])*1024 + int(sys.argv[1])*10**6,)*2)
run = finetune(data='rows.jsonl', eval=0, samples=0, max_steps=3, save_steps=1, engine='stock', precision='fp32', per_device_train_batch_size=16, listeners=[Limit()])
print(run.status, run.recipe.per_device_train_batch_size, run.state.get('less'))
'''

@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the limit is one of Linux')
def test_an_allocation_that_really_fails(tmp_path):
    "The process may not grow any more: torch says so, and the run goes on with smaller batches"
    (tmp_path/'rows.jsonl').write_text('\n'.join(map(json.dumps, made_up(300))))
    for mb in 110, 50, 20: # how much the first step leaves to the next one is the allocator's business
        out = subprocess.run([sys.executable, '-c', limited, str(mb)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
        if 'memory ran out' in out.stdout or out.returncode: break
    assert out.returncode == 0 and out.stdout.split()[-1] and 'memory ran out in training' in out.stdout, out.stdout[-500:] + out.stderr[-2000:]
