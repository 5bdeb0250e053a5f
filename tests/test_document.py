r"""The course as one table: each thing it shows, run in a notebook as one pastes it, its result, and what is said when one gets it wrong.

A row's number is its place in the course. Commands are the course's; where it shows none, the library's own words stand. Runs that several rows look at are made once."""
import json, math, random, shutil
from dataclasses import dataclass
from pathlib import Path
import pytest, torch
import course
from course import Notebook, here, uneven
from slm_magic import Recipe, Run
from slm_magic.last_row import last_row_only
from slm_magic.quiet import quiet
from slm_magic.recipe import tiny_data, tiny_model
from slm_magic.run import Listener
from slm_magic.runtime import DRAFT

# ------------------------------------------------------------------ the table

@dataclass
class Case:
    "A row of the course"
    row:int
    title:str
    run:object # function of a notebook and of `Prepared`
    bad:list   # cells, and words of what is said to each
    id = property(lambda self: f'row-{self.row:02}-{self.title}')

table = []

def row(number, title, *bad):
    "Put the function below into the table"
    def add(f): table.append(Case(number, title, f, bad))
    return add

class Prepared:
    "Folders with a finished run, made when first asked for; each case gets a copy, so none changes what another sees"
    def __init__(self, folder): self.folder,self.places,self.said = folder,{},{}
    def __call__(self, make):
        "The run that `make` leaves, copied to here; what was printed is in `said`"
        name = make.__name__
        if name not in self.places:
            (self.folder/name).mkdir()
            with pytest.MonkeyPatch.context() as m:
                m.chdir(self.folder/name)
                nb = Notebook()
                self.places[name],self.said[name] = make(nb).path.relative_to(self.folder/name),nb.said
                nb.close()
        shutil.copytree(self.folder/name, '.', dirs_exist_ok=True)
        return Run.load(self.places[name])

@pytest.fixture(scope='module')
def prepared(tmp_path_factory): return Prepared(tmp_path_factory.mktemp('prepared'))

def losses(run, key='loss'): return [o[key] for o in run.rows if o.get(key) is not None]
def steps(run, key='loss'): return [o['step'] for o in run.rows if o.get(key) is not None]
def lines(path, rows): Path(path).write_text('\n'.join(map(json.dumps, rows)))

# ------------------------------------------------------------------ runs that several rows look at

def tone(nb): return nb(here(course.finetune, max_steps=40))

def dialo(nb):
    "The second example: a GPT-2 of two layers, and the two rows"
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([course.two_rows], vocab_size=600, min_frequency=1, show_progress=False, special_tokens=['<|endoftext|>'])
    set_seed(42)
    with quiet(): GPT2LMHeadModel(GPT2Config(vocab_size=600, n_embd=32, n_layer=2, n_head=2, n_positions=256, bos_token_id=0, eos_token_id=0)).save_pretrained('dialo')
    PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token='<|endoftext|>', eos_token='<|endoftext|>').save_pretrained('dialo')
    Path('dataset.json').write_text(course.two_rows)
    Path('olive-config.yaml').write_text(here(course.config))
    nb(here(course.run_config))
    return nb['_run']

def orders(nb):
    "Free text: an order, and what is to be done"
    draw = random.Random(1)
    who,what,where = 'Ana Ben Rosa Tom Mia Leo'.split(),'apples lamps boxes books chairs coats'.split(),'market harbor school station'.split()
    def order():
        a,b,c,n = draw.choice(who),draw.choice(what),draw.choice(where),draw.choice('two three four five'.split())
        return dict(prompt=f'{a} wants {n} {b}, to be sent to the {c}.', completion=f'Send {n} {b} to {a} at the {c}.')
    nb['rows'] = [order() for _ in range(240)]
    return nb('%finetune --data $rows -n orders --task generation --method full --learning_rate 1e-3 -b 8 --eval 12 --max_steps 60 --eval_steps 60 --samples 0')

def early(nb):
    "Few rows and a high rate: it learns them by heart"
    nb['rows'] = [json.loads(o) for o in Path(tiny_data()).read_text().splitlines()[:120]]
    return nb('%finetune --data $rows -n early --eval 60 -b 8 --learning_rate 0.006 --lr_scheduler_type constant --max_steps 60 --eval_steps 3 --logging_steps 1 --early_stopping 3 --save_total_limit 4 --precision fp32 --samples 0')

# ------------------------------------------------------------------ the rows

@row(1, 'finetune', ('%olive finetune --data_name $rows --text_template "{phrase}: {tonne}"', "there is no variable 'rows'"), (here(course.finetune).replace('{tone}', '{tonne}'), "Did you mean 'tone'"))
def _(nb, prepared):
    "All rows are trained, the loss falls, answers end, the adapter is peft's, and no copy of the base is written"
    from peft import AutoPeftModelForCausalLM
    ft = prepared(tone)
    assert ft.status == 'done' and ft.path == Path('models/llama/ft').absolute() and not (ft.path/'model').exists()
    said = prepared.said['tone']
    for o in 'all 840 rows are used', 'an end of turn after it', 'rows are trained one by one', 'a tenth of the rows is held out': assert o in said
    assert ft.facts['rows'] + ft.facts['eval_rows'] == 840 and ft.report.endless == [] and ft.report.learned < ft.report.tokens/10
    assert ft.best['eval_loss'] < .1 and losses(ft)[-1] < losses(ft)[0]/10
    held = ft.eval_examples.select(range(8))
    assert ft.generate(held.prompts) == held.completions
    with quiet(): model = AutoPeftModelForCausalLM.from_pretrained(ft.path/'adapter', dtype=torch.float32).eval()
    ids = torch.tensor([held.input_ids[0]])
    assert torch.equal(model(ids).logits, ft.model(ids).logits)

@row(2, 'auto-opt', (here(course.auto_opt), 'models/llama/ft'), ('%olive auto-opt -m models/llama/ft/model --device tpu', 'cpu, gpu, npu'))
def _(nb, prepared):
    "The folder runs in onnxruntime-genai, is proven on rows that did not choose it, and answers what the run answers"
    ft = prepared(tone)
    onnx = nb(here(course.auto_opt))
    assert onnx.path == Path('models/llama/onnx').absolute() and 'corrected: use_ort_genai' in nb.said
    r = onnx.report
    assert r['proof']['kl'] < .01 and r['proof']['top1'] > .9 and r['proof']['greedy'] > .8 and r['splits'] == dict(choose=42, prove=42)
    assert [o['stage'] for o in r['stages']][-1] == r['chosen'] and r['size_mb'] < r['stages'][0]['size_mb']
    held = ft.eval_examples.select(range(40))
    assert sum(onnx.generate(o) == said for o,said in zip(held.prompts, ft.generate(held.prompts))) >= 36
    nb('%chat models/llama/onnx "I could dance all night!" -o said')
    assert nb['said'] == ft.generate('I could dance all night!') == 'joyful' and 'joyful' in nb.said

@row(3, 'two-rows', ('%%finetune\n{"input": "What is machine learning?", "outptu": "A subset.", "page": 1}', 'columns'), ('%%finetune\n' + course.two_rows.replace('",', '"'), 'YAML'))
def _(nb, prepared):
    "Two rows are two rows, held out is none, and both are learned"
    Path('dataset.json').write_text(course.two_rows)
    run = nb('%finetune --data dataset.json --max_steps 15 --logging_steps 1')
    assert run.facts['rows'] == 2 and run.facts['eval_rows'] == 0 and 'input → output' in run.facts['how']
    assert len(losses(run)) == 15 and losses(run)[-1] < losses(run)[0]/2

@row(4, 'model', ('%%olive\n' + course.config.replace('PyTorchModel', 'PyTorchModle'), 'use HfModel'), ('%%olive\n' + here(course.config), 'dialo'))
def _(nb, prepared):
    "The old spelling is read, and the new one shown"
    run = prepared(dialo)
    assert 'input_model: {type: HfModel, model_path: dialo}' in prepared.said['dialo']
    assert type(run.model.get_base_model()).__name__ == 'GPT2LMHeadModel' and run.recipe.task == 'generation'

@row(5, 'data-configs', ('%%olive\n' + here(course.config).replace('dialo', tiny_model()), "dataset.json"), ('%%olive\n' + course.config.replace('data_files', 'data_flies'), "Did you mean 'data_files'"))
def _(nb, prepared):
    "The format is seen from the file: the same rows as CSV are the same data"
    import pandas as pd
    run = prepared(dialo)
    assert 'the format is seen from the file' in prepared.said['dialo']
    assert run.facts['rows'] == 2 and run.facts['prompt'] == dict(prefix='User: ', suffix='\nAssistant: ')
    pd.read_json('dataset.json').to_csv('dataset.csv', index=False)
    again = nb('%%olive\n' + here(course.config).replace('dataset.json', 'dataset.csv'))
    def sha(run): return json.loads((run.path/'env.json').read_text())['data_sha256']
    assert sha(again) == sha(run) and again.path != run.path

@row(6, 'lora-config', ('%%finetune\npasses: {lora: {type: LoRA, config: {r: 16, lora_alpha: 0}}}', 'lora_alpha'), ('%%finetune\npasses: {lora: {type: LoRA, config: {modules_to_save: [ln_g]}}}', 'ln_g'))
def _(nb, prepared):
    "Each of the four is in the saved adapter, the layers trained whole too, and the tied embeddings are still one matrix"
    from peft import AutoPeftModelForCausalLM
    from safetensors.torch import load_file
    run = prepared(dialo)
    config,saved = json.loads((run.path/'adapter'/'adapter_config.json').read_text()),load_file(run.path/'adapter'/'adapter_model.safetensors')
    assert config['r'] == 16 and config['lora_alpha'] == 32 and {*config['target_modules']} == {'c_attn', 'c_proj'} and {*config['modules_to_save']} >= {'ln_f', 'lm_head'}
    assert any('c_attn.lora_A' in k for k in saved) and any('c_proj.lora_B' in k for k in saved)
    with quiet(): model,base = AutoPeftModelForCausalLM.from_pretrained(run.path/'adapter').eval(),load_file('dialo/model.safetensors')
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tuned = model.get_base_model().transformer
    for name in 'ln_f', 'wte': assert not torch.equal(getattr(tuned, name).modules_to_save.default.weight, base[f'transformer.{name}.weight']), name
    ids = torch.arange(20)[None]
    assert torch.equal(model(ids).logits, run.model(ids).logits)

@row(7, 'run', (here(course.run_config), 'olive-config.yaml'), ('%olive run --config --setup', 'needs a value'))
def _(nb, prepared):
    "The file is run, `--setup` answers, and what it needs is told with the versions here"
    from importlib.metadata import version
    run = prepared(dialo)
    assert run.status == 'done' and run.path.parent == Path('runs').absolute() and '--setup: checked, nothing to install' in prepared.said['dialo']
    needs = nb('%olive run --config olive-config.yaml --list_required_packages')
    assert {*needs} == {'torch', 'transformers', 'peft', 'accelerate'} and all(v == version(k) for k,v in needs.items())

@row(8, 'qlora', (here(course.qlora), 'tiny-codes.jsonl'), (here(course.qlora.replace('nampdn-ai/tiny-codes', 'xxyyzzz/phrase_classification')), 'of 840 rows is empty'))
def _(nb, prepared):
    "All 4,096 rows and just the 128 after them, a base in four bits, and a loss that falls"
    show,draw = dict(Python='print("{}")', Ruby='puts "{}"', C='puts("{}");', Go='fmt.Println("{}")'),random.Random(0)
    def code(i):
        language,word = draw.choice([*show]),draw.choice('red green blue sun moon star'.split())
        return dict(programming_language=language, prompt=f'{i}. {word}', response=show[language].format(word))
    rows = [code(i) for i in range(4300)]
    lines('tiny-codes.jsonl', rows)
    run = nb(here(course.qlora, max_steps=6, logging_steps=2, save_steps=6, eval_steps=6, samples=0))
    assert run.path == Path('adapters/tiny-codes').absolute() and run.facts['rows'] == 4096
    assert run.eval_examples.completions == [o['response'] for o in rows[4096:4224]]
    assert 'Linear4bit' in {type(o).__name__ for o in run.model.modules()} and (run.recipe.per_device_train_batch_size, run.recipe.per_device_eval_batch_size) == (16, 16)
    assert steps(run) == [2, 4, 6] and losses(run)[-1] < losses(run)[0] and abs(run.metrics.epoch.max() - 6*16/4096) < 1e-4

@row(9, 'data-quality', ('%%finetune\n' + '{"prompt": "a", "completion": ""}\n'*20, 'empty'), ('%%finetune --eval 1.2\n{"prompt": "a", "completion": "b"}', 'eval'))
def _(nb, prepared):
    "What is wrong with rows is told by number; the held-out tenth has the classes of the whole and no row of the training"
    clean = [json.loads(o) for o in Path(tiny_data()).read_text().splitlines()[:200]]
    nb['rows'] = [*clean, dict(phrase='Nothing to say', tone=''), dict(phrase=clean[0]['phrase'], tone='bored'), clean[1]]
    found = nb('from slm_magic import data_report\ndata_report(data=rows)')
    assert found.empty == [201] and found.duplicates == [[2, 203]] and found.conflicts[0]['answers'].keys() == {clean[0]['tone'], 'bored'} and 'row' in repr(found)
    ft = prepared(tone)
    held,rows = {o['phrase'] for o in ft.eval_examples.rows},[o['phrase'] for o in map(json.loads, Path(tiny_data()).read_text().splitlines())]
    assert .1 <= ft.facts['eval_rows']/840 <= .2 and ft.report.leaks == ft.report.near_leaks == []
    assert all(abs(n/(n+k) - .9) < .02 for n,k in ft.report.classes.values()) and len(ft.report.classes) == 6
    assert found.rows + found.eval_rows == 202 and len([o for o in rows if o not in held]) == ft.facts['rows']

@row(10, 'learning-rate', ('%finetune --lr_scheduler_type cosin', "Did you mean 'cosine'"), ('%finetune --gradient_accumulation_steps 0', 'at least 1'), ('%finetune --lr_find --learning_rate 0', 'above 0'))
def _(nb, prepared):
    "A rate is found, a schedule is followed, and 2 rows × 4 accumulated are 8 rows at once, though rows differ in length and the last batch is not whole"
    found = nb('%finetune --lr_find -b 4')
    assert 1e-4 < found.suggestion < .1 and found.learning_rates == sorted(found.learning_rates) and not Path('runs').exists()
    rates = prepared(tone).metrics.learning_rate.dropna().tolist()
    top,warm = max(rates),2 # 5 % of 40 steps
    assert rates[warm] == top and all(abs(o - top*.5*(1+math.cos(math.pi*i/(40-warm)))) < 1e-9 for i,o in enumerate(rates[warm:]))
    def both(rows):
        nb['rows'] = rows
        return [nb(f'%finetune --data $rows --eval 0 --r 4 -e 1 -b {b} --gradient_accumulation_steps {8//b} --max_grad_norm 0 --logging_steps 1 --samples 0 --optim sgd --learning_rate .05 --precision fp32 --train_sampling_strategy sequential -n b{b}') for b in (8, 2)]
    for rows in uneven, uneven[:19]:
        a,b = both(rows)
        assert len(losses(a)) == math.ceil(len(rows)/8) and torch.allclose(torch.tensor(losses(a)), torch.tensor(losses(b)), rtol=1e-5)
        for (n,p),(_,q) in zip(a.model.named_parameters(), b.model.named_parameters()): assert torch.allclose(p, q, rtol=1e-4, atol=1e-6), n

@row(11, 'early-stopping', ('%finetune --early_stopping 0', 'at least 1'), ('%finetune --save_steps 0', 'above 0'), ('%finetune --resume nosuch', 'nosuch'))
def _(nb, prepared):
    "It stops when it no longer gets better, what is kept is its best step, and a run that was stopped goes on as if it had not been"
    from slm_magic.views import views
    from slm_magic.scoring import row_losses
    run = prepared(early)
    held = losses(run, 'eval_loss')
    assert run.status == 'done' and steps(run)[-1] < 60 and len(held) - 1 - held.index(min(held)) == 3
    sums,counts = row_losses(run.model, run.eval_examples)
    assert abs(sum(sums)/sum(counts) - min(held)) < 1e-4
    assert len(list((run.path/'checkpoints').glob('step-*'))) == 4 and (run.path/'checkpoints'/f"step-{run.best['step']:06}").exists()
    class Stop(Listener):
        def on_step(self, run, step):
            if step == 3: run.request_stop()
    cell = '%finetune --max_steps 6 --eval_steps 2 --logging_steps 1 --samples 0 -b 4 --eval 16 --lora_dropout .1 --precision fp32 -n'
    whole = nb(f'{cell} whole')
    views.append(Stop)
    try: assert nb(f'{cell} parts').status == 'stopped'
    finally: views.remove(Stop)
    parts = nb('%finetune --resume parts')
    same = 'step', 'loss', 'eval_loss', 'learning_rate', 'grad_norm'
    assert parts.status == 'done' and [[o.get(k) for k in same] for o in parts.rows] == [[o.get(k) for k in same] for o in whole.rows]

@row(12, 'licence', ('%finetune org/nosuch', 'org/nosuch'))
def _(nb, prepared):
    "The licence of the base stands in the run's card, with what to mind before commercial use"
    assert 'license: apache-2.0' in (prepared(tone).path/'README.md').read_text()
    shutil.copytree(tiny_model(), 'base')
    Path('base/README.md').write_text('---\nlicense: cc-by-nc-4.0\n---\n')
    card = (nb('%finetune base --max_steps 1 --eval 8 -b 4 --samples 0').path/'README.md').read_text()
    assert 'license: cc-by-nc-4.0' in card and 'not for commercial use' in card

@row(13, 'methods', ('%finetune --method adaptr', "Did you mean 'adapter'"), ('%finetune --method full --r 8', 'no meaning'), ('%finetune --method bottleneck --lora_alpha 3', 'no meaning'))
def _(nb, prepared):
    "Each method learns, changes only what is its own, and gives from the disk what it gave in memory"
    from safetensors.torch import load_file
    ids,base = torch.arange(5, 30)[None],load_file(f'{tiny_model()}/model.safetensors')
    for method in 'full', 'lora', 'qlora', 'adapter':
        run = nb(f'%finetune --method {method} -n {method} --max_steps 8 --eval 16 -b 8 --eval_steps 4 --logging_steps 1 --samples 0')
        got = run.model(ids).logits
        assert losses(run, 'eval_loss')[-1] < losses(run)[0] and torch.allclose(got, Run.load(run.path).model(ids).logits, atol=1e-5), method
        if method == 'full': assert not torch.equal(load_file(run.path/'model'/'model.safetensors')['model.layers.0.mlp.up_proj.weight'], base['model.layers.0.mlp.up_proj.weight']); continue
        with quiet(), run.model.disable_adapter(): alone = run.model(ids).logits
        assert not torch.allclose(alone, got, atol=1e-3), method
        assert not any('lora' not in k and 'bottleneck' not in k and 'adapter' not in k for k in load_file(run.path/'adapter'/'adapter_model.safetensors')), method
    assert run.recipe.method == 'bottleneck' and (run.path/'adapter'/'adapter_model.safetensors').stat().st_size < Path(tiny_model(), 'model.safetensors').stat().st_size/5

@row(14, 'tasks', ('%finetune --task summarisation', "Did you mean 'summarization'"), ('%%finetune --task extraction\n{"tokens": ["Ana", "sings"], "ner_tags": ["B-PER"]}', 'row 1 has 2 tokens'))
def _(nb, prepared):
    "Classes, entities, summaries and free text: each read from its own columns, and better than before by its own measure"
    draw = random.Random(0)
    names,things,places = 'Anna Maria Lucy Nora Ben Tom Paul Max Leo Oscar'.split(),'lamp chair clock mirror umbrella'.split(),['in the barn', 'by the river', 'on the roof']
    def tagged():
        tokens = draw.choice(['{a} gave {b} a {c} .', '{a} lost the {c} .', 'We keep the {c} {d} .']).format(a=draw.choice(names), b=draw.choice(names), c=draw.choice(things), d=draw.choice(places)).split()
        return dict(tokens=tokens, ner_tags=['B-person' if o in names else 'O' for o in tokens])
    def article():
        who,event = ' and '.join(draw.sample(names, 2)),draw.choice(['won two tickets for the concert', 'were lied to by the landlord', 'got no call from anyone for weeks'])
        return dict(document=f'{who} {event}. We keep the {draw.choice(things)} {draw.choice(places)}.', summary=f'{who} {event}.')
    nb['tagged'],nb['articles'] = [tagged() for _ in range(300)],[article() for _ in range(300)]
    for task,data,measure,least in ('extraction', 'tagged', 'entity_f1', .8), ('summarization', 'articles', 'rougeL', .8):
        run = nb(f'%finetune --data ${data} --task {task} -n {task} --method full --learning_rate 1e-3 --max_steps 50 -b 8 --eval 16 --eval_steps 50 --samples 0')
        scores = nb('%evaluate $_run')
        assert run.recipe.task == task and scores.scores[measure] > max(least, scores.before[measure] + .2), (task, scores)
    prepared(tone),prepared(orders)
    classes = nb('%evaluate models/llama/ft --n_answers 0')
    assert classes.scores['accuracy'] > .9 > classes.before['accuracy'] and classes.confusion().to_numpy().trace() == round(classes.scores['accuracy']*84)
    text = nb('%evaluate orders')
    assert text.scores['rougeL'] > .7 > text.before['rougeL'] and text.scores['bleu'] > text.before['bleu']

@row(15, 'multi-adapter', (f'%olive generate-adapter --base_model_path {tiny_model()} --adapter_paths nosuch', 'nosuch'), ('%olive finetune --task_name clasification', "Did you mean 'classification'"))
def _(nb, prepared):
    "One base with two adapters that are loaded by name: each proven, each itself, and the base alone neither"
    shutil.copytree(tiny_model(), 'models/base')
    bundle = nb(here(course.adapters, max_steps=40, samples=0, eval_steps=40, model_name_or_path='models/base', data_name=tiny_data()))
    assert bundle.path == Path('models/multi-adapter').absolute() and bundle.adapters == ['classifier', 'generator'] == sorted(o.stem for o in bundle.path.glob('adapters/*.onnx_adapter'))
    assert all(o['kl'] < .01 < o['kl_without'] for o in bundle.report['adapters'])
    runs,phrases = {o: Run.load(f'adapters/{o}') for o in bundle.adapters},['I could dance all night!', 'Somebody stole my bicycle again!', 'Thank you for helping me.']
    assert [runs[o].recipe.task for o in runs] == ['classification', 'generation']
    for name,run in runs.items(): assert sum(bundle.generate(o, name) == said for o,said in zip(phrases, run.generate(phrases))) >= 2, name
    assert [bundle.generate(o) for o in phrases] != [bundle.generate(o, 'classifier') for o in phrases]

def pairs(n, seed):
    "Two phrases, and whether their tones differ: as many of each kind"
    draw,rows,res = random.Random(seed),[json.loads(o) for o in Path(tiny_data()).read_text().splitlines()],[]
    while len(res) < n:
        a,b = draw.sample(rows[:60] if seed else rows[60:], 2)
        if (label := int(a['tone'] != b['tone'])) == len(res)%2: res.append(dict(text1=a['phrase'], text2=b['phrase'], label=label))
    return res

@row(17, 'custom-loss', (course.custom_loss + '\n%finetune --task similarity --data nosuch.jsonl --loss $CustomContrastiveLoss', 'nosuch.jsonl'), (course.custom_loss + '\n%finetune --loss $CustomContrastiveLoss', 'a class'),
        (course.custom_loss + '\ncontrastive = CustomContrastiveLoss()\n%finetune --loss $contrastive', 'must take (logits, labels)'))
def _(nb, prepared):
    "The module as pasted trains vectors: what it gives for the run's own vectors is what the run says it gives, and alike comes nearer than other"
    nb(course.custom_loss)
    nb('contrastive = CustomContrastiveLoss()')
    nb['pairs'],nb['held'] = pairs(240, 0),pairs(48, 1)
    run = nb('%finetune --task similarity --data $pairs --eval $held --loss $contrastive -b 8 --max_steps 20 --eval_steps 10 --learning_rate 4e-3 --precision fp32 --samples 0')
    one,other = (torch.tensor(run.embed([o[k] for o in nb['held']])) for k in ('text1', 'text2'))
    exact = nb['contrastive'](one, other, torch.tensor([o['label'] for o in nb['held']]))
    assert abs(float(exact) - run.best['eval_loss']) < 1e-3
    scores = nb('%evaluate $_run')
    assert scores.scores['auc'] > scores.before['auc'] + .05 and scores.scores['similarity_alike'] - scores.scores['similarity_other'] > scores.before['similarity_alike'] - scores.before['similarity_other']

@row(18, 'metrics', ('%evaluate nosuchrun --metrics acuracy', "Did you mean 'accuracy'"), ('%evaluate nosuchrun', 'nosuchrun'), ('cost = 3\n%evaluate nosuchrun --metrics $cost', 'metrics must be names or functions'), ('%compare nosuchrun b --rate --n 0', 'at least 1'))
def _(nb, prepared):
    "Scores are those of the libraries people know, own metrics and benchmarks act, and a rating does not tell whose answer it is"
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer
    ft,shop = prepared(tone),prepared(orders)
    nb['shop'] = shop
    e = nb('%evaluate $shop --metrics bleu,rouge,exact_match')
    said,truth = e.rows.answer.tolist(),e.rows.expected.tolist()
    assert abs(e.scores['bleu'] - sacrebleu.corpus_bleu(said, [truth]).score) < 1e-9
    assert abs(e.scores['rougeL'] - sum(RougeScorer(['rougeL']).score(t, p)['rougeL'].fmeasure for p,t in zip(said, truth))/len(said)) < 1e-9
    ids = [(torch.tensor([i]), torch.tensor([l])) for i,l in zip(shop.eval_examples.input_ids, shop.eval_examples.labels)]
    with torch.no_grad(): sums = [(float(shop.model(i, labels=l).loss)*n, n) for i,l in ids for n in [int((l[:,1:] != -100).sum())]]
    assert abs(math.log(e.scores['perplexity']) - sum(s for s,_ in sums)/sum(n for _,n in sums)) < 1e-4
    nb('def cost(predictions, references, rows): return sum(5 for p,r,o in zip(predictions, references, rows) if p != r and o["phrase"])')
    lines('benchmark.jsonl', [dict(phrase='We won the match and I scored twice!', tone='proud'), dict(phrase='He shouted and slammed the door.', tone='sad'), dict(phrase='This is the best party of the year!', tone='joyful')])
    nb('from slm_magic import evaluate\ndef evaluate_model(model_path, test_dataset, metric_type="accuracy"): return evaluate(model_path, test_dataset, metric_type)')
    own = nb('evaluate_model("models/llama/ft", "benchmark.jsonl", ["accuracy", "macro_f1", cost])')
    label,expected = own.rows.sort_index().label.tolist(),['proud', 'sad', 'joyful']
    hits = [a == b for a,b in zip(label, expected)]
    assert own.scores['accuracy'] == sum(hits)/3 < 1 and own.scores['cost'] == 5*(3-sum(hits))
    def f1(o): return 2*sum(a == b == o for a,b in zip(label, expected))/(label.count(o) + expected.count(o))
    assert abs(own.scores['macro_f1'] - sum(map(f1, {*label, *expected}))/len({*label, *expected})) < 1e-9
    rating = nb('%compare orders --rate --n 4 -o rating')
    assert 'base' not in rating._repr_html_().lower() and {*rating.items[0]} >= {'a', 'b'}
    while rating.next is not None:
        a,b = (rating.items[rating.next][o].startswith('Send') for o in 'ab')
        rating.rate(rating.next, 'tie' if a == b else 'a' if a else 'b')
    assert rating.result['rated'] == 4

@row(19, 'monitoring', (here(course.monitoring).replace('tensorboard', 'tensorbord'), "Did you mean 'tensorboard'"), ('%finetune --logging_steps 0', 'above 0'), ('%finetune --eval_steps -1', 'above 0'))
def _(nb, prepared):
    "Every 10, 50 and 100 steps, as asked: TensorBoard's own reader sees what `metrics.jsonl` holds, and the checkpoint stays"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    prepared(tone)
    nb('%runs show models/llama/ft')
    run = nb(here(course.monitoring, max_steps=100, per_device_train_batch_size=2))
    assert run.recipe.model == tiny_model() and 'note: data: the last' in nb.said
    assert steps(run) == [*range(10, 101, 10)] and steps(run, 'eval_loss') == [50, 100] and (run.path/'checkpoints'/'step-000100').is_dir()
    events = EventAccumulator('logs').Reload()
    for tag,key in {'train/loss': 'loss', 'train/learning_rate': 'learning_rate', 'train/grad_norm': 'grad_norm', 'eval/loss': 'eval_loss'}.items():
        seen = events.Scalars(tag)
        assert [o.step for o in seen] == steps(run, key) and all(abs(o.value - v) < 1e-5*max(1, abs(v)) for o,v in zip(seen, losses(run, key))), tag

@row(20, 'watching', ('%finetune --eval_steps often', 'number'))
def _(nb, prepared):
    "Learning by heart is seen: the held-out loss rises while the other falls; speed and memory stand in each row, and in what is shown"
    from slm_magic.frames import Moment, still
    run = prepared(early)
    held,at = losses(run, 'eval_loss'),run.best['step']
    train = dict(zip(steps(run), losses(run)))
    assert held[-1] > min(held)*1.1 and sum(v for k,v in train.items() if k > at)/sum(k > at for k in train) < sum(v for k,v in train.items() if k <= at)/sum(k <= at for k in train)
    log = run.metrics.dropna(subset='loss')
    assert (log[['tokens_per_s', 'memory_mb', 'cpu_percent']] > 0).all().all()
    seen,lengths = (log.tokens_per_s*log.time.diff())[log.step%3 != 1],run.report.lengths # tokens of each step that does not follow a scoring
    assert seen.between(4*.9*lengths['shortest'], 8*1.1*lengths['longest']).all() and 100 < log.memory_mb.max() < 1e5
    shown = still(Moment(run.id, rows=run.rows, step=steps(run)[-1], status='done', ended=0))
    assert f"best {min(held):.4f} at step {at}" in shown['text/plain'] and 'tokens/s' in shown['text/plain'] and 'GB' in shown['text/plain'] and 'image/png' in shown

@row(21, 'regularization', ('%%finetune\n' + course.regularization.replace('0.1', '1.5'), 'lora_dropout'), ('%%finetune\n' + course.regularization.replace('0.01', '-1'), 'weight_decay'), ('%%finetune\n' + course.regularization.replace('lora_dropout', 'lora_droput'), "Did you mean 'lora_dropout'"))
def _(nb, prepared):
    "Rank, alpha and dropout arrive in the adapter, the decay in the optimizer; what a fragment leaves out is the last run's"
    ft = prepared(tone)
    nb('%runs show models/llama/ft')
    run = nb('%%finetune -n reg --max_steps 2 --samples 0 -o reg\n' + course.regularization)
    config = json.loads((run.path/'adapter'/'adapter_config.json').read_text())
    assert (config['r'], config['lora_alpha'], config['lora_dropout']) == (16, 16, .1) and nb['reg'] is nb['_run'] is run
    groups = torch.load(run.path/'checkpoints'/'step-000002'/'optimizer.pt', weights_only=True)['param_groups']
    assert .01 in {o['weight_decay'] for o in groups} and 'honoured' in nb.said
    assert run.recipe.model == ft.recipe.model and run.recipe.template == ft.recipe.template and nb('%%olive\nolive finetune --dry_run\nolive convert-adapters -a models/llama/ft -o out') == Path('out.onnx_adapter')

@row(22, 'memory', (here(course.memory).replace('true', 'maybe'), 'true or false'), (here(course.memory).replace('accumulation_steps 16', 'accumulation_steps 1.5'), 'whole number'))
def _(nb, prepared):
    "Four bits, checkpointing, 1 row × 16: three steps take 48 rows, the loss falls, and the plan needs less memory than without"
    from slm_magic.model import estimate
    from transformers import AutoConfig
    prepared(tone)
    nb('%runs show models/llama/ft')
    run = nb(here(course.memory, max_steps=3, logging_steps=1, eval_steps=3, samples=0))
    r,config = run.recipe,AutoConfig.from_pretrained(tiny_model())
    assert (r.method, r.per_device_train_batch_size, r.gradient_accumulation_steps, r.upstream['gradient_checkpointing']) == ('qlora', 1, 16, True)
    assert abs(run.metrics.epoch.max() - 48/756) < 1e-3 and losses(run)[-1] < losses(run)[0] and 'Linear4bit' in {type(o).__name__ for o in run.model.modules()}
    plain = Recipe.make(method='lora', batch_size=16)
    few,many = (estimate(o, config, 256) for o in (r, plain))
    def step(o): return o['total'] - o['runtime'] - o['evaluation'] # what the libraries and the held-out rows take has nothing to do with it
    assert step(few) < step(many)/8 and few['total'] < many['total']

@row(24, 'training-config', ('%%finetune\n' + course.performance.replace('adamw_torch', 'adamw_troch'), 'adamw_troch'), ('%%finetune\n' + course.performance.replace('cosine', 'cosin'), "Did you mean 'cosine'"), ('%%finetune\n' + course.performance.replace('4', 'four'), 'whole number'))
def _(nb, prepared):
    "fp16 is answered, the others act: the rate falls as a cosine, the optimizer is AdamW, and four loaders give the rows that none give"
    prepared(tone)
    nb('%runs show models/llama/ft')
    run = nb('%%finetune -n fast --max_steps 5 --logging_steps 1 --samples 0 --eval 16 -b 4\n' + course.performance)
    assert 'corrected: fp16: fp32, because a CPU does not train in it' in nb.said and run.recipe.upstream['dataloader_num_workers'] == 4
    alone = nb('%%finetune -n alone --max_steps 5 --logging_steps 1 --samples 0 --eval 16 -b 4\n' + course.performance.replace('workers: 4', 'workers: 0'))
    assert losses(run) == losses(alone)
    rates = losses(run, 'learning_rate')
    assert all(abs(o - max(rates)*.5*(1+math.cos(math.pi*i/4))) < 1e-9 for i,o in enumerate(rates[1:]))
    state = torch.load(run.path/'checkpoints'/'step-000005'/'optimizer.pt', weights_only=True)
    assert {*state['state'][0]} == {'step', 'exp_avg', 'exp_avg_sq'} and state['param_groups'][0]['decoupled_weight_decay']

@row(26, 'augmentation', ('%finetune --augment shout', 'augment must be a function'), ('def shout(row): return 3\n%finetune --augment $shout', 'augment'), ('%finetune --neftune_noise_alpha loud', 'a number'))
def _(nb, prepared):
    "Rows are added to the training only; noise changes what is trained, and nothing of what is scored"
    nb['rows'] = [json.loads(o) for o in Path(tiny_data()).read_text().splitlines()[:100]]
    nb('def shout(row): return [row, row | dict(phrase=row["phrase"].upper())]')
    cell = '%finetune --data $rows --max_steps 2 --logging_steps 1 --samples 0 -b 8 --precision fp32'
    plain,more,noisy = nb(f'{cell} -n plain'),nb(f'{cell} -n more --augment $shout'),nb(f'{cell} -n noisy --neftune_noise_alpha 50 --eval_on_start')
    assert more.facts['rows'] == 2*plain.facts['rows'] and more.eval_examples.prompts == plain.eval_examples.prompts
    assert losses(noisy)[0] != losses(plain)[0] and losses(noisy, 'eval_loss')[0] == pytest.approx(nb('%evaluate plain --n_answers 0').before['loss'], rel=1e-5)
    ids = torch.tensor([plain.eval_examples.input_ids[0]])
    assert torch.equal(noisy.model(ids).logits, Run.load(noisy.path).model(ids).logits)

def guess_ahead(folder):
    "Have an ONNX folder answer with n-gram speculation, whatever was measured"
    last_row_only(folder, on=False)
    path = Path(folder)/'genai_config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(speculative=DRAFT)))

@row(28, 'onnx-folder', ('%optimize nosuch/model.onnx', 'nosuch'), ('%optimize nosuchrun --precision int2', 'int2'))
def _(nb, prepared):
    "A folder of Hugging Face becomes ONNX, and that folder becomes smaller, each proven against the one before; with the answers of the model"
    shutil.copytree(tiny_model(), 'base')
    exact = nb('%optimize base --precision fp32 --output_path exact')
    guess_ahead('exact') # as where that pays: a smaller model may still be one where it does not
    small = nb('%optimize exact --precision int8 --output_path small')
    assert exact.report['chosen'] == 'fp32' and exact.report['proof']['kl'] < 1e-6 and exact.report['proof']['greedy'] == 1
    assert small.report['proof']['kl'] < .01 and small.report['size_mb'] < exact.report['size_mb']/2 and 'ONNX' in small.report['against']
    assert [small.generate(o, max_new_tokens=8) for o in ('The cat', 'We keep the')] == [exact.generate(o, max_new_tokens=8) for o in ('The cat', 'We keep the')]

@row(30, 'doctor', ('%slm docter', "Did you mean 'doctor'"), ('%slm', 'needs one of'), ('%olive --hlep', 'name the command'))
def _(nb, prepared):
    "The installation as pasted installs nothing, help names every command, and the doctor tells the versions and devices of this machine"
    from importlib.metadata import version
    import onnxruntime
    nb('%%olive\n' + course.setup)
    assert nb.said.count('nothing to install') == 3 and 'olive finetune:' in nb.said and 'olive generate-adapter:' in nb.said
    found = nb('%slm doctor').value
    assert all(found[o] == version(o) for o in ('slm_magic', 'torch', 'transformers', 'peft', 'onnxruntime')) and found['ONNX providers'] == ', '.join(onnxruntime.get_available_providers()) and 'GB free' in found['memory']

# ------------------------------------------------------------------ the tests

def test_every_row():
    "The rows are those of the course that need no cluster, no cloud and no browser, once each"
    assert [o.row for o in table] == [*range(1, 16), 17, 18, 19, 20, 21, 22, 24, 26, 28, 30] and all(o.bad for o in table)

@pytest.mark.parametrize('case', table, ids=lambda o: o.id)
def test_row(nb, prepared, case): case.run(nb, prepared)

@pytest.mark.parametrize('cell,words', [pytest.param(*o, id=f'{c.id}-{i}') for c in table for i,o in enumerate(c.bad, 1)])
def test_bad_input_of_row(nb, cell, words): assert words.lower() in nb.refuses(cell).lower()
