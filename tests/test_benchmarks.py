"The benchmarks still run: on a model of two layers, ours and transformers' Trainer take the same steps, and the table is written."
import sys
import pytest
from kernel import root

@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    "The benchmarks' own modules, with a cache that is gone afterwards"
    import importlib
    with pytest.MonkeyPatch.context() as mp:
        mp.setenv('SLM_BENCH_CACHE', str(tmp_path_factory.mktemp('bench')))
        mp.syspath_prepend(str(root/'benchmarks'))
        yield importlib.import_module('_common'),importlib.import_module('train_step')
        for o in '_common', 'train_step': sys.modules.pop(o)

@pytest.fixture(scope='module')
def raced(bench):
    common,step = bench
    model = common.make_model('tiny', common.TINY)
    path = common.make_rows(model, 24, (10, 40), (3, 10))
    group = [o for o in step.fp32(model, path) if o.kind in ('ours', 'trainer')]
    common.race(group, 2)
    return group,common.ids_of(path)

def test_same_steps(bench, raced):
    "Both take all steps, with the same losses; a contestant whose losses differ ends the benchmark"
    common,_ = bench
    group,_ = raced
    assert [o.why for o in group] == ['', ''] and [len(o.steps) for o in group] == [2, 2]
    assert all(len(o.losses) == 5 and s['cpu'] > 0 and s['wall'] > 0 for o in group for s in o.steps)
    common.check_losses(group, 1e-4)
    group[1].losses[1] *= 1.01
    with pytest.raises(SystemExit, match='do not do the same work'): common.check_losses(group, 1e-4)
    group[1].losses[1] /= 1.01

def test_table(bench, raced, tmp_path):
    "The table goes between its markers, and the page around it stays"
    common,step = bench
    group,rows = raced
    speeds = {o.name: step.speed_of(o, rows) for o in group}
    text = step.report(group, speeds, 'HF Trainer', 100., common.TINY, rows)
    page = tmp_path/'page.md'
    page.write_text('above\n<!-- x -->\nold\n<!-- /x -->\nbelow\n')
    for _ in range(2): common.publish('x', text, page)
    said = page.read_text()
    assert said.startswith(f'above\n<!-- x -->\n### {common.processor()}\n\n| ') and said.endswith('\n<!-- /x -->\nbelow\n') and 'old' not in said
    assert said.count('| ours |') == said.count('| HF Trainer |') == 1
    with pytest.raises(ValueError, match='has no'): common.publish('y', text, page)
    page.write_text(page.read_text().replace(common.processor(), 'another'))
    common.publish('x', text, page)
    assert page.read_text().count('\n### ') == page.read_text().count('| ours |') == 2 # what another processor has measured stays

def test_not_run(bench, raced):
    "What breaks stands in the table with the reason, and the others go on"
    common,step = bench
    model = common.make_model('tiny', common.TINY)
    broken = common.Contestant('broken', 'trainer', step.work(model, common.make_rows(model, 16, (10, 40), (3, 10)), no_such_argument=1))
    common.race([broken], 1)
    assert broken.why.startswith('not run: ') and 'no_such_argument' in broken.why and step.speed_of(broken, []) is None

def test_every_page_marker():
    "Each script has a place in the page"
    page = (root/'benchmarks/README.md').read_text()
    for o in (root/'benchmarks').glob('[!_]*.py'): assert f'<!-- {o.stem} -->' in page and f'<!-- /{o.stem} -->' in page and f'## {o.name}' in page

def test_flops(bench):
    "The operations of a step are those that PyTorch counts, less what only the stock step does: the upper half of attention, and the head where nothing is learned"
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM
    common,_ = bench
    ids,shape = list(range(5, 69)),common.TINY
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True, attn_implementation='eager')), LoraConfig(task_type='CAUSAL_LM', **common.LORA))
    with FlopCounterMode(display=False) as counted: model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.backward()
    upper,head = shape['num_hidden_layers']*6*shape['hidden_size']*len(ids)**2,4*shape['hidden_size']*shape['vocab_size']
    assert common.step_flops(shape, [dict(input_ids=ids, labels=ids)]) == counted.get_total_flops() - upper - head
