"The estimate of memory against measured peaks, each run in a process of its own."
import json, random, subprocess, sys
import pytest

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
