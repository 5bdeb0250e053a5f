"Training is exact: accumulated batches, resumed runs, the arguments of transformers, and what is written down."
import dataclasses, json, math, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from course import uneven
from slm_magic import Recipe, RecipeError, Run, finetune
from slm_magic.arguments import left_out, refused, renamed, switches
from slm_magic.loop import make_trainer
from slm_magic.model import apply_method, load_model
from slm_magic.plan import fit_memory, make_plan, training_arguments
from slm_magic.recipe import tiny_model
from slm_magic.run import Listener, create_run

def losses(run, *keys): return [[o.get(k) for k in ('step', *keys)] for o in run.rows if 'loss' in o]

@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path

uneven_rows = pytest.mark.parametrize('rows', [24, 19], ids=['whole', 'last batch incomplete'])

def batches(rows, batch, accumulate):
    "A recipe that sees `rows` in order, so that only the size of the batches differs"
    return dict(data=uneven[:rows], eval=0, r=4, num_train_epochs=2, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate, max_grad_norm=0, logging_steps=1, samples=0,
                optim='sgd', learning_rate=.05, precision='fp32', train_sampling_strategy='sequential', name=f'b{batch}')

@uneven_rows
def test_accumulated_gradients_are_exact(here, rows):
    "Before each update the gradient of every parameter is that of the whole batch: 2 rows × 4 against 8 at once"
    from transformers import TrainerCallback
    def gradients(batch, accumulate):
        plan = make_plan(Recipe.make(**batches(rows, batch, accumulate) | dict(learning_rate=.01)))
        torch.manual_seed(0)
        model,seen = apply_method(load_model(None, 'fp32'), plan.recipe),[]
        for n,p in model.named_parameters():
            if 'lora_B' in n: torch.nn.init.normal_(p.data, std=.02) # at their usual zeros half of the gradients are zero too
        trainer = make_trainer(plan, model, create_run(plan.recipe, plan.data, plan.path))
        class Keep(TrainerCallback):
            def on_pre_optimizer_step(self, args, state, control, **kw): seen.append({n: p.grad.double().clone() for n,p in model.named_parameters() if p.requires_grad})
        trainer.add_callback(Keep())
        trainer.train()
        return seen
    whole,parts = gradients(8, 1),gradients(2, 4)
    assert len(whole) == len(parts) == 2*math.ceil(rows/8)
    for a,b in zip(whole, parts):
        size = math.hypot(*(g.norm().item() for g in a.values()))
        off = {n: (a[n]-b[n]).norm().item() for n in a}
        assert size > .1 and math.hypot(*off.values())/size < 1e-5 and all(a[n].norm() > 0 and off[n] < 1e-5*a[n].norm() for n in a), off

script = '''
import os, signal, sys
from slm_magic import finetune
from slm_magic.run import Listener
class Kill(Listener):
    def on_step(self, run, step):
        if step == int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)
if __name__ == '__main__':
    more = dict(max_steps=9, eval_steps=3, logging_steps=1, save_steps=2, samples=1, name='killed', per_device_train_batch_size=4, gradient_accumulation_steps=2, lora_dropout=.1, precision='fp32')
    finetune(resume=sys.argv[2] if len(sys.argv) > 2 else None, listeners=[Kill()], **({} if len(sys.argv) > 2 else more))
'''

def test_killed_and_resumed(here):
    "SIGKILL at two steps, resumed each time: the rows are those of a run that was never killed, with dropout and accumulation"
    (here/'script.py').write_text(script)
    def train(*args): return subprocess.run([sys.executable, 'script.py', *args], cwd=here, capture_output=True, text=True, timeout=300)
    for args in ('5',), ('8', 'killed'): assert train(*args).returncode == -signal.SIGKILL
    assert Run.load('runs/killed').status == 'interrupted'
    last = train('99', 'killed')
    assert last.returncode == 0, last.stderr[-2000:]
    killed = Run.load('runs/killed')
    whole = train('99')
    assert whole.returncode == 0, whole.stderr[-2000:]
    straight = Run.load('runs/killed-2')
    keys = 'loss', 'learning_rate', 'grad_norm'
    assert killed.status == straight.status == 'done' and losses(killed, *keys) == losses(straight, *keys) and len(losses(killed)) == 9
    evals = [[(o['step'], o['eval_loss']) for o in r.rows if 'eval_loss' in o] for r in (killed, straight)]
    assert evals[0] == evals[1] and (killed.path/'adapter'/'adapter_model.safetensors').read_bytes() == (straight.path/'adapter'/'adapter_model.safetensors').read_bytes()

def test_killed_while_saving(here):
    "A checkpoint that was being written is not there, the one before it is whole"
    (here/'script.py').write_text(script.replace('class Kill', 'import slm_magic.loop as loop\nold = loop.sync\ndef sync(folder):\n    if "000004" in str(folder): os.kill(os.getpid(), signal.SIGKILL)\n    old(folder)\nloop.sync = sync\nclass Kill'))
    assert subprocess.run([sys.executable, 'script.py', '99'], cwd=here, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    run = Run.load('runs/killed')
    assert sorted(o.name for o in (run.path/'checkpoints').iterdir() if o.name[0] != '.') == ['step-000002', 'step-000003']
    (here/'script.py').write_text(script)
    res = subprocess.run([sys.executable, 'script.py', '99', 'killed'], cwd=here, capture_output=True, text=True, timeout=300)
    assert res.returncode == 0 and run.status == 'done', res.stderr[-2000:]
    assert not list((run.path/'checkpoints').glob('.*'))

class StopAt(Listener):
    def __init__(self, step): self.at = step
    def on_step(self, run, step):
        if step == self.at: run.request_stop()

@pytest.mark.parametrize('at', [4, 7], ids=['within an epoch', 'at its end'])
def test_stopped_and_resumed_by_epochs(here, at):
    "Rows grouped by length, scores and checkpoints by epoch: nothing is drawn, scored or saved twice or never"
    keys = dict(data=uneven, eval=6, num_train_epochs=2, per_device_train_batch_size=3, r=2, samples=0, logging_steps=1, precision='fp32', train_sampling_strategy='group_by_length', eval_strategy='epoch', save_strategy='epoch', listeners=[])
    whole = finetune(**keys, name='whole')
    assert finetune(**keys | dict(listeners=[StopAt(at)]), name='parts').status == 'stopped'
    parts = finetune(resume='parts', listeners=[])
    same = 'step', 'epoch', 'loss', 'eval_loss', 'learning_rate', 'grad_norm'
    assert [[o.get(k) for k in same] for o in parts.rows] == [[o.get(k) for k in same] for o in whole.rows]
    assert [o['step'] for o in whole.rows if 'eval_loss' in o] == [7, 14]

def test_only_the_model_saved(here):
    "Such checkpoints cannot be resumed exactly, and that is said"
    run = finetune(max_steps=4, r=2, samples=0, save_only_model=True, name='bare', listeners=[StopAt(2)])
    with pytest.raises(RecipeError, match='save_only_model'): finetune(resume=run, listeners=[])

def test_mixed_precision_is_for_training(here):
    "After a run with bf16: true the model in memory says what the one on the disk says"
    run = finetune(max_steps=2, r=2, samples=0, eval=8, bf16=True, listeners=[])
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(run.model(ids).logits, Run.load(run.path).model(ids).logits) and run.rows[0]['loss'] > 0

def test_a_whole_model_needs_its_base_no_more(here):
    "The folder it was trained from is gone; it still answers, and is scored"
    shutil.copytree(tiny_model(), 'base')
    run = finetune('base', method='full', max_steps=2, samples=0, eval=8, listeners=[])
    said = run.generate('Who took my bike?')
    shutil.rmtree('base')
    later = Run.load(run.path)
    assert later.generate('Who took my bike?') == said and later.evaluate(before=False, n_answers=0).scores['loss'] == pytest.approx(run.rows[-1]['eval_loss'], abs=1e-4)

def test_scored_before_the_first_step(here):
    "A base that is never surpassed is what the run ends with, and resuming does not score it again"
    run = finetune(max_steps=3, r=2, samples=0, eval=8, eval_on_start=True, learning_rate=.5, eval_steps=1, max_grad_norm=1e3, listeners=[])
    assert run.best['step'] == 0 and all(float(p.abs().max()) == 0 for n,p in Run.load(run.path).model.named_parameters() if 'lora_B' in n)
    stopped = finetune(max_steps=3, r=2, samples=0, eval=8, eval_on_start=True, name='stopped', listeners=[StopAt(2)])
    assert [o['step'] for o in finetune(resume=stopped, listeners=[]).rows if 'eval_loss' in o][:2] == [0, 1]

def test_a_loss_that_learns(here):
    "The parameters of a loss are trained, saved for resuming, and that is said"
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
        def forward(self, logits, wanted): return torch.nn.functional.cross_entropy(logits*self.scale, wanted, reduction='none')
    keys = dict(max_steps=5, r=2, samples=0, eval=0, learning_rate=.01, logging_steps=1, precision='fp32', lr_scheduler_type='constant')
    whole,parts = Scaled(),Scaled()
    run = finetune(**keys, loss=whole, name='whole', listeners=[])
    assert abs(whole.scale.item() - 1) > .01 and 'trained too' in ' '.join(run.facts['notes'])
    finetune(**keys, loss=parts, name='parts', listeners=[StopAt(2)])
    fresh = Scaled()
    resumed = finetune(resume='parts', loss=fresh, listeners=[])
    assert fresh.scale.item() == whole.scale.item() and losses(resumed, 'loss', 'grad_norm') == losses(run, 'loss', 'grad_norm')

@pytest.mark.parametrize('more', [dict(optim='sgd', gradient_accumulation_steps=2), dict(optim='adafactor'), dict(bf16=True, lora_dropout=.1)], ids=['sgd, accumulated', 'adafactor', 'bf16'])
def test_learning_rates_are_tried_as_in_training(here, more):
    "At one constant rate the range test gives the losses of training: the same optimizer, batches, arithmetic and dropout"
    from slm_magic.lr_find import lr_find
    keys = dict(data=uneven, eval=6, max_steps=5, r=2, samples=0, per_device_train_batch_size=2, lr_scheduler_type='constant', warmup_ratio=0, logging_steps=1, **more)
    run = finetune(**keys, learning_rate=.01, eval_strategy='no', listeners=[])
    assert lr_find(**keys, start=.01, end=.01, steps=5).losses == [o['loss'] for o in run.rows if 'loss' in o]

@pytest.mark.parametrize('end', ['', ' ', '\n', ':', ': ', ' \n\n'])
def test_prompts_of_use_are_those_of_training(end):
    "A user's words in the prompt of a run are the tokens that stood before the first learned one, whatever a template ends in and an answer begins with"
    from slm_magic.data import prepare
    from slm_magic.model import load_tokenizer
    from slm_magic.recipe import tiny_model
    from slm_magic.template import encode_prompt
    tok,rows = load_tokenizer(tiny_model()),[dict(q=f'word {i}', a=a) for i,a in enumerate(('yes', '7', ' no', '\nno', ':yes', 'é', '  two', '"quoted"'))]
    data = prepare(Recipe.make(data=rows, eval=0, template='Q {q}\nAnswer' + end + '{a}'), tok)
    for o,ids,labels in zip(data.train.rows, data.train.input_ids, data.train.labels):
        asked = data.prompt['prefix'] + o['q'] + data.prompt['suffix']
        assert encode_prompt(tok, asked) == ids[:next(i for i,l in enumerate(labels) if l != -100)], (asked, o['a'])
        assert tok.decode(ids).removeprefix(tok.bos_token) == asked + o['a'] + tok.decode(ids[-1:])

def other(f):
    "A value of a field that is not its default"
    kinds = {'local_rank': 1, 'optim': 'adafactor', 'lr_scheduler_type': 'linear', 'eval_strategy': 'epoch', 'save_strategy': 'epoch', 'logging_strategy': 'epoch', 'warmup_steps': 3, 'debug': 'underflow_overflow', 'report_to': 'tensorboard',
             'torch_compile_backend': 'eager', 'torch_compile_mode': 'default', 'train_sampling_strategy': 'group_by_length', 'neftune_noise_alpha': 5., 'use_cpu': True, 'optim_args': 'a=1', 'accelerator_config': {'split_batches': False}, 'include_num_input_tokens_seen': 'all',
             'lr_scheduler_kwargs': {'num_cycles': 1}, 'gradient_checkpointing_kwargs': {'use_reentrant': False}, 'dataloader_prefetch_factor': 2, 'optim_target_modules': ['q_proj'], 'liger_kernel_config': {'rope': False}, 'log_level': 'error', 'log_level_replica': 'error', 'ddp_backend': 'gloo'}
    if f.name in kinds: return kinds[f.name]
    d = f.default if f.default is not dataclasses.MISSING else None
    return not d if isinstance(d, bool) else d+1 if isinstance(d, (int, float)) else 'x' if isinstance(d, str) else 1

# fields that need what is not here, or take part only in a pair
alone = {'fp16': 'does not train on a CPU', 'bf16': None, 'tf32': None, 'torch_compile': None, 'use_liger_kernel': None, 'deepspeed': None, 'dataloader_prefetch_factor': None, 'dataloader_persistent_workers': None, 'torch_empty_cache_steps': None,
         'ddp_backend': None, 'ddp_static_graph': None, 'trackio_space_id': None, 'accelerator_config': None, 'batch_eval_metrics': None}

def test_every_training_argument(here):
    "Each field of TrainingArguments reaches the trainer, or is answered in words"
    from transformers import TrainingArguments
    plan,answered = make_plan(Recipe.make(max_steps=4)),[]
    own = {f.name for f in dataclasses.fields(Recipe)}
    for f in dataclasses.fields(TrainingArguments):
        if f.name in alone or f.name in ('output_dir', 'run_name'): continue
        value = other(f)
        try: recipe = Recipe.make(**{'max_steps': 4, f.name: value})
        except RecipeError as e:
            assert f.name in refused or f.name in ('max_steps', 'num_train_epochs'), f'{f.name}: {e}'
            continue
        if recipe.notes: answered.append(f.name); continue
        if f.name in own: assert getattr(recipe, f.name) != getattr(Recipe, f.name), f.name; continue
        if f.name == 'report_to': continue
        args = training_arguments(dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, upstream=recipe.upstream)))
        got = getattr(args, f.name)
        assert str(got) == str(value) or got == value or str(getattr(got, 'value', '')) == str(value) or f.name == 'debug', f'{f.name}: {got!r} instead of {value!r}'
    assert {*answered} <= {*left_out, *renamed, *switches}

@pytest.mark.parametrize('given,says', [(dict(evaluation_strategy='epoch'), 'eval_strategy'), (dict(group_by_length=True), 'train_sampling_strategy'), (dict(load_best_model_at_end=True), 'always restored'), (dict(tokenizer='x'), 'own tokenizer')])
def test_older_names(given, says):
    "Names of earlier versions are understood, and said"
    assert says in ' '.join(Recipe.make(**given).notes)

@pytest.mark.parametrize('kind', ['linear', 'cosine', 'cosine_with_restarts', 'polynomial', 'constant', 'constant_with_warmup', 'inverse_sqrt', 'cosine_with_min_lr', 'cosine_warmup_with_min_lr', 'warmup_stable_decay', 'reduce_lr_on_plateau', 'greedy'])
def test_schedules(here, kind):
    "Every schedule trains"
    plan = make_plan(Recipe.make(max_steps=2, lr_scheduler_type=kind, per_device_train_batch_size=2, eval=8, samples=0, r=1, eval_steps=1, logging_steps=1))
    run = create_run(plan.recipe, plan.data, plan.path)
    trainer = make_trainer(plan, apply_method(load_model(None, 'fp32'), plan.recipe), run)
    trainer.train()
    assert trainer.state.global_step == 2

@pytest.mark.parametrize('strategy', ['epoch', 'no', 'best'])
def test_strategies(here, strategy):
    "Evaluation and saving by epoch, by steps or not at all end in a complete run with its best step"
    run = finetune(data=uneven*2, eval=8, num_train_epochs=2, r=2, samples=0, eval_strategy='epoch' if strategy != 'no' else 'no', save_strategy=strategy, listeners=[])
    assert run.status == 'done' and (run.path/'adapter').is_dir() and len([o for o in run.rows if 'eval_loss' in o]) == (2 if strategy != 'no' else 1)

@pytest.mark.parametrize('more,best,last', [(dict(), 4, 8), (dict(greater_is_better=False), 2, 6), (dict(metric_for_best_model='loss'), None, 10)], ids=['more is better', 'less is better', 'the loss'])
def test_another_score_decides(here, more, best, last):
    "The best step by a function of the notebook is where early stopping counts from, what the run ends with, and what view, picture, card and status show"
    from safetensors.torch import load_file
    from slm_magic.frames import losses as words, tables
    from slm_magic.live import LiveView
    scores,view = iter([0, .2, .9, .9, .5, .1]),LiveView('none') # the first is for planning: which scores are there?
    def odd(predictions, references): return next(scores, .1)
    run = finetune(data=uneven, eval=8, max_steps=10, eval_steps=2, logging_steps=2, early_stopping=2, r=2, samples=0, **dict(metric_for_best_model='odd', metrics=odd) | more, listeners=[view])
    evals = [o for o in run.rows if 'eval_loss' in o]
    if best is None: # the losses themselves decide
        assert set(run.best) == {'step', 'eval_loss'} and run.best['eval_loss'] == min(o['eval_loss'] for o in evals)
        return
    assert run.best == {k: o[k] for o in evals if o['step'] == best for k in ('step', 'eval_loss', 'eval_odd')} == run.state['best'] and evals[-1]['step'] == last
    kept,best_one = (load_file(o/'adapter_model.safetensors') for o in (run.path/'adapter', run.path/'checkpoints'/f'step-{best:06}'))
    assert all(torch.equal(kept[k], best_one[k]) for k in kept)
    said = f"best odd {run.best['eval_odd']:.4f} at step {best}"
    assert said in words(view.moment) and said in [o.get_text() for o in run.plot().axes[0].get_legend().get_texts()] and f"eval odd {run.best['eval_odd']:.4f}" in run._repr_html_() and 'held-out odd' in (run.path/'README.md').read_text()
    starred = [o for o in tables(view.moment).split('<tr>') if '★' in o]
    assert len(starred) == 1 and f'>{best}</td>' in starred[0] and Run.load(run.path).best == run.best

def test_a_score_that_decides_is_measured(here):
    "By its name alone, as in transformers; what nothing measures is refused in one line that lists what there is"
    for name in 'eval_accuracy', 'macro_f1':
        run = finetune(max_steps=2, r=2, samples=0, eval=8, metric_for_best_model=name, lr_scheduler_type='reduce_lr_on_plateau', load_best_model_at_end=True, listeners=[])
        key = 'eval_' + name.removeprefix('eval_')
        assert key in run.metrics and run.best[key] == run.metrics[key].max() and run.recipe.metrics == [key[5:]] and any('decides which step' in o for o in run.facts['notes'])
    for bad,says in (dict(metric_for_best_model='acuracy'), "Did you mean 'accuracy'"), (dict(metric_for_best_model='f1'), 'macro_f1'), (dict(metric_for_best_model='accuracy', eval=0), 'held-out rows'), (dict(metric_for_best_model='accuracy', eval_strategy='no'), 'held-out rows'), (dict(metric_for_best_model='mine', metrics=lambda p,r: dict(cost=1.)), 'cost'):
        with pytest.raises(RecipeError, match=says) as e: finetune(max_steps=2, listeners=[], **bad)
        assert len(str(e.value).splitlines()) == 1

def test_memory_decides_what_was_left_open(here):
    "Too little memory: first smaller batches with more accumulation, then checkpointing; what was given stays"
    plan = make_plan(Recipe.make())
    config = __import__('transformers').AutoConfig.from_pretrained(plan.base)
    full = fit_memory(Recipe.make(), config, 64, plan.data, 1e9)[1]
    halved,memory,said = fit_memory(Recipe.make(), config, 64, plan.data, full['total'] - full['activations']*.4)
    assert halved.per_device_train_batch_size*halved.gradient_accumulation_steps == 16 and halved.per_device_train_batch_size < 16 and memory['total'] <= memory['free'] and 'chosen' in said[0]
    given = Recipe.make(per_device_train_batch_size=16)
    kept,_,said = fit_memory(given, config, 64, plan.data, full['total'] - full['activations']*.2)
    assert kept.per_device_train_batch_size == 16 and kept.upstream['gradient_checkpointing'] and kept.sources['gradient_checkpointing'] == 'chosen'
    with pytest.raises(RecipeError, match='To make it fit'): fit_memory(given, config, 64, plan.data, full['weights'])

def test_gradient_checkpointing_changes_nothing(here):
    "The same losses with and without it"
    a,b = (finetune(data=uneven, eval=0, max_steps=3, r=2, samples=0, logging_steps=1, precision='fp32', gradient_checkpointing=c, listeners=[]) for c in (False, True))
    assert torch.allclose(torch.tensor(losses(a, 'loss')), torch.tensor(losses(b, 'loss')), rtol=1e-5)

def test_numbers_that_are_none(here):
    "A loss that is not a number never reaches the weights; once too often, and the run ends with what it had"
    calls = []
    def rare(logits, wanted):
        calls.append(1)
        return torch.nn.functional.cross_entropy(logits, wanted, reduction='none')*(float('nan') if len(calls) in (4, 5) else 1.)
    run = finetune(loss=rare, eval=0, max_steps=6, r=2, samples=0, logging_steps=1, per_device_train_batch_size=4, listeners=[])
    rows = [o for o in run.rows if 'loss' in o]
    assert run.status == 'done' and [o['step'] for o in rows if o.get('skipped')] == [3, 4] and all(o['loss'] is None for o in rows if o.get('skipped')) and rows[-1]['loss'] > 0
    def never(logits, wanted): return logits.sum()*float('nan')
    with pytest.raises(RecipeError, match='not finite') as e: finetune(loss=never, eval=0, max_steps=20, r=2, samples=0, name='nan', per_device_train_batch_size=4, listeners=[])
    assert 'learning_rate' in str(e.value) and len(str(e.value).splitlines()) <= 3
    bad = Run.load('runs/nan')
    assert bad.status == 'failed' and 'not finite' in bad.state['error'] and all(p.isfinite().all() for p in bad.model.parameters())
    with pytest.raises(RecipeError, match='weights of step'): finetune(learning_rate=1e30, max_steps=30, r=2, samples=0, eval_steps=30, name='far', listeners=[])
    assert max(float(p.abs().max()) for p in Run.load('runs/far').model.parameters()) < 100

def test_functions_of_the_notebook(here):
    "A loss and a metric of one's own act, are named in the recipe, and must be given again to go on"
    import yaml
    def half(logits, wanted): return torch.nn.functional.cross_entropy(logits, wanted)/2
    def shouting(predictions, references): return sum(o.isupper() for o in predictions)/len(predictions)
    plain = finetune(max_steps=3, r=2, samples=0, logging_steps=1, precision='fp32', eval=16, listeners=[])
    run = finetune(max_steps=3, r=2, samples=0, logging_steps=1, precision='fp32', eval=16, loss=half, metrics=['accuracy', shouting], learning_rate=plain.recipe.learning_rate, max_grad_norm=0, listeners=[])
    assert abs(run.rows[0]['loss']*2 - plain.rows[0]['loss']) < 1e-4
    last = [o for o in run.rows if 'eval_loss' in o][-1]
    assert 0 <= last['eval_accuracy'] <= 1 and last['eval_shouting'] == 0
    saved = yaml.safe_load((run.path/'recipe.yaml').read_text())
    assert saved['loss'] == '<half>' and saved['metrics'] == ['accuracy', '<shouting>']
    state = json.loads((run.path/'status.json').read_text())
    (run.path/'status.json').write_text(json.dumps(state | dict(status='stopped')))
    with pytest.raises(RecipeError, match=r'%%finetune --resume \S+ with loss: \$half and metrics: \[accuracy, \$shouting\]') as e: finetune(resume=run, listeners=[])
    assert len(str(e.value).splitlines()) == 1
    assert finetune(resume=run, loss=half, metrics=['accuracy', shouting], listeners=[]).status == 'done'

def test_functions_given_again(here):
    "The cell that the error names resumes the run, and goes on as one that was never stopped"
    from slm_magic.verbs import meant, verbs
    def half(logits, wanted): return torch.nn.functional.cross_entropy(logits, wanted)/2
    def length(predictions, references): return sum(map(len, predictions))/len(predictions)
    keys = dict(max_steps=5, r=2, samples=0, logging_steps=1, eval_steps=2, precision='fp32', eval=8, per_device_train_batch_size=4, lora_dropout=.1, loss=half, metrics=[length, 'accuracy'])
    whole,_ = finetune(**keys, name='whole', listeners=[]),finetune(**keys, name='parts', listeners=[StopAt(3)])
    def cell(line, body=None):
        verb,values = meant(verbs['finetune'], line, body, dict(half=half, length=length))
        return verb.call(values, 'runs', lambda *_: None)
    with pytest.raises(RecipeError) as e: cell('--resume parts')
    line,_,body = str(e.value).partition('%%finetune ')[2].removesuffix(' in its body.').partition(' with ')
    parts = cell(line, body.replace(' and ', '\n'))
    same = 'loss', 'eval_loss', 'eval_length', 'eval_accuracy', 'learning_rate', 'grad_norm'
    assert [[o.get(k) for k in same] for o in parts.rows] == [[o.get(k) for k in same] for o in whole.rows]
