"The fast step in real runs: it ends where the stock step ends, for every method and kind of head, and says what it does."
import json
import pytest
from slm_magic import finetune

def train(tmp_path, engine, **keys):
    return finetune(runs_dir=tmp_path, engine=engine, samples=0, listeners=[], **dict(precision='fp32', max_steps=6, logging_steps=1, eval_steps=6, per_device_train_batch_size=4, train_sampling_strategy='sequential') | keys)

def losses(run): return [o['loss'] for o in run.rows if 'loss' in o] + [o['eval_loss'] for o in run.rows if 'eval_loss' in o]
def said(run): return json.loads((run.path/'env.json').read_text())['engine']

cases = {'lora': ({}, 'packed rows · attention · LoRA'), 'dropout': (dict(lora_dropout=.1, max_steps=1), 'LoRA: stock, dropout'), 'dora': (dict(method='dora'), 'a variant of LoRA'), 'qlora': (dict(method='qlora'), 'quantized'),
         'pissa': (dict(method='pissa'), 'packed rows'), 'full': (dict(method='full', learning_rate=1e-4), 'no LoRA layer'), 'bottleneck': (dict(method='bottleneck'), 'packed rows'), 'prompt': (dict(method='prompt'), 'puts tokens before each'),
         'accumulation': (dict(gradient_accumulation_steps=3), 'packed rows'), 'all tokens': (dict(train_on='all'), 'fused loss'), 'own loss': (dict(loss='own'), 'packed rows'), 'smoothing': (dict(label_smoothing_factor=.1), 'packed rows'),
         'checkpointing': (dict(gradient_checkpointing=True), 'packed rows'), 'packing off': (dict(packing=False), 'padded rows, as asked for'), 'noise': (dict(neftune_noise_alpha=5, max_steps=1), 'neftune_noise_alpha')}

@pytest.mark.parametrize('name', [pytest.param(o, marks=pytest.mark.slow) if o in ('dropout', 'pissa', 'bottleneck', 'all tokens', 'own loss', 'smoothing', 'noise') else o for o in cases])
def test_same_losses(tmp_path, name):
    import torch
    keys,words = cases[name]
    if 'loss' in keys: keys = dict(loss=lambda logits,wanted: torch.nn.functional.cross_entropy(logits, wanted, reduction='none')**2)
    random = name in ('dropout', 'noise') # drawn for each padded batch, so that rows without padding draw others
    ours,stock = train(tmp_path, 'auto', **keys),train(tmp_path, 'stock', **keys)
    assert words in said(ours) and said(stock) == 'stock, as asked for'
    assert losses(ours) == pytest.approx(losses(stock), rel=.1 if random else 1e-3)

@pytest.mark.slow
def test_two_hundred_steps(tmp_path):
    "Rounding does not grow: after 200 steps the losses differ by less than 1e-3"
    ours,stock = (train(tmp_path, o, max_steps=200, logging_steps=20, eval_steps=100, per_device_train_batch_size=16, train_sampling_strategy=None) for o in ('auto', 'stock'))
    assert max(abs(a-b) for a,b in zip(losses(ours), losses(stock), strict=True)) < 1e-3

@pytest.mark.slow
def test_bf16_learns_the_same(tmp_path):
    "With products in bf16 the curve stays beside that of fp32"
    fast,exact = (train(tmp_path, 'auto', precision=o, max_steps=60, per_device_train_batch_size=16, train_sampling_strategy=None) for o in ('bf16', 'fp32'))
    assert losses(fast)[-1] == pytest.approx(losses(exact)[-1], rel=.1, abs=.02)
