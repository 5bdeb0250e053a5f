r"""Olive's own words, as pasted from the course that the library implements (`olive` → `%olive`, local model and data put in).

The course: Microsoft, EdgeAI for Beginners, module 5, "Fine-Tuning". Its blocks are here whole; only the ids of models and data sets become those of the folder that `course` makes."""
import dataclasses, json
from pathlib import Path
import pytest
from course import adapters, auto_opt, config, finetune, memory, monitoring, performance, qlora, regularization, search, setup
from slm_magic import RecipeError
from slm_magic.olive import from_olive
from slm_magic.olive_keys import passes
from slm_magic.olive_names import as_options, commands, words_of
from slm_magic.options import find
from slm_magic.recipe import recipe_options, tiny_data, tiny_model

listed = dict(o.split(': ', 1) for o in (Path(__file__).parent/'olive_names.txt').read_text().splitlines() if not o.startswith('#'))

# ------------------------------------------------------------------ the tables

def test_every_command(): assert {*listed} - {'passes'} <= {*commands()}

@pytest.mark.parametrize('name', [o for o in listed if o != 'passes'])
def test_every_option(name):
    "Each option of each command has its line, with its short form; a command without counterpart has one line for all"
    known = commands()[name]
    if not known.verb: assert len(known.said) > 20; return
    words = words_of(name)
    for o in listed[name].split(', '):
        names = [n.lstrip('-').replace('-', '_') for n in o.split()]
        w = next((w for w in words.values() if w.name in names or {*w.other} & {*names}), None)
        assert w, f'{name} {o}'
        assert {*names} <= {w.name, *w.other} and (w.said if w.becomes in '-!' else w.becomes), f'{name} {o}'

def test_every_pass(): assert [o for o in listed['passes'].split(', ') if o.lower() not in passes()] == []

def test_every_training_argument():
    "Olive hands what it does not know to TrainingArguments, so every field of it is known"
    from transformers import TrainingArguments
    known = as_options(words_of('finetune')) | recipe_options()
    missing = []
    for f in dataclasses.fields(TrainingArguments):
        try: find(known, f.name)
        except RecipeError: missing.append(f.name)
    assert missing == []

# ------------------------------------------------------------------ the course, read

def about(command): return [o.partition(':')[0] for o in command.corrections]

def test_first_example():
    c = from_olive(finetune)
    assert c.verb == 'finetune' and c.then is None
    assert c.values == dict(model='meta-llama/Llama-3.2-1B-Instruct', data='xxyyzzz/phrase_classification', trust_remote_code=True, output_path='models/llama/ft', method='lora', max_steps='100',
                            template='<|start_header_id|>user<|end_header_id|>\n{phrase}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n{tone}')
    assert {'log_level', 'text_template', 'max_samples', 'rows are trained one by one, not joined to blocks of 1,024 tokens, so small data works', 'eval_split', 'trust_remote_code', 'lora_r, lora_alpha'} == {*about(c)}
    o = from_olive(auto_opt)
    assert o.verb == 'optimize' and o.values == dict(run='models/llama/ft', device='cpu', output_path='models/llama/onnx') and 'use_ort_genai' in about(o)

def test_second_example():
    import yaml
    for text in config, json.dumps(yaml.safe_load(config)):
        c = from_olive(text)
        assert c.verb == 'finetune' and c.values == dict(model='microsoft/DialoGPT-medium', data='path/to/your/dataset.json', task='text-generation', train_split='train',
            template='User: {input}\nAssistant: {output}', method='lora', r=16, lora_alpha=32, target_modules=['c_attn', 'c_proj'], modules_to_save=['ln_f', 'lm_head'])
        said = '\n'.join(c.corrections)
        for words in 'input_model: {type: HfModel', 'lora_alpha: honoured', 'modules_to_save: honoured', 'the format is seen from the file': assert words in said

def test_modern_spelling():
    "The same without `config:` and with the names of today"
    c = from_olive('''input_model: {type: HfModel, model_path: microsoft/DialoGPT-medium, task: text-generation}
data_configs:
- {name: a, type: HuggingfaceContainer, load_dataset_config: {data_name: json, data_files: [path/to/your/dataset.json], split: train}, pre_process_data_config: {text_template: "User: {input}\\nAssistant: {output}"}}
passes: {lora: {type: LoRA, train_data_config: a, r: 16, alpha: 32, target_modules: [c_attn, c_proj], modules_to_save: [ln_f, lm_head]}}''')
    assert c.values == from_olive(config).values

def test_third_example():
    c = from_olive(qlora)
    assert c.values == dict(model='meta-llama/Meta-Llama-3-8B', data='nampdn-ai/tiny-codes', method='qlora', train_split='train[:4096]', eval_split='train[4096:4224]', per_device_train_batch_size='16',
        per_device_eval_batch_size='16', max_steps='150', logging_steps='50', output_path='adapters/tiny-codes',
        template='### Language: {programming_language} \n### Question: {prompt} \n### Answer: {response}')
    assert 'eval_split' not in about(c)

def test_adapters():
    one,two,three = from_olive(adapters).chain()
    assert one.values == dict(method='lora', task='classification', output_path='adapters/classifier') and two.values == dict(method='lora', task='generation', output_path='adapters/generator')
    assert three.verb == 'adapters' and three.values == dict(run='models/base', adapters=['adapters/classifier', 'adapters/generator'], output_path='models/multi-adapter')
    assert 'bundled' in one.notes[0]

def test_monitoring_and_memory():
    assert from_olive(monitoring).values == dict(logging_steps='10', eval_steps='50', save_steps='100', logging_dir='./logs', report_to='tensorboard')
    assert from_olive(memory).values == dict(method='qlora', gradient_checkpointing='true', per_device_train_batch_size='1', gradient_accumulation_steps='16')

def test_fragments():
    last = dict(model=tiny_model(), data=tiny_data())
    assert from_olive(regularization, last).values == dict(last, method='lora', r=16, lora_alpha=16, lora_dropout=.1, weight_decay=.01)
    c = from_olive(performance, last)
    assert {k: c.values.get(k) for k in ('dataloader_num_workers', 'optim', 'lr_scheduler_type')} == dict(dataloader_num_workers=4, optim='adamw_torch', lr_scheduler_type='cosine') and 'fp16' not in c.values and 'fp16' in about(c)
    c = from_olive(search, last)
    assert c.verb == 'search' and c.values['search_strategy'] == dict(type='random', num_trials=20)
    assert c.values['search_space'] == dict(learning_rate=dict(type='float', low=1e-6, high=1e-3, log=True), lora_r=dict(type='int', low=8, high=64), batch_size=dict(type='choice', values=[8, 16, 32]))

def test_setup():
    chain = from_olive(setup).chain()
    assert [o.verb for o in chain] == ['nothing']*5 + ['help', 'nothing']
    assert 'nothing to install' in chain[2].notes[0] and 'auto-opt' in ' '.join(chain[5].notes)

# ------------------------------------------------------------------ the traps

@pytest.mark.parametrize('line,key,value', [
    ('--text_template="é 中文 {a}\\n{b}"', 'template', 'é 中文 {a}\n{b}'), ("--text_template 'a {b}'", 'template', 'a {b}'), ('--method=qlora', 'method', 'qlora'), ('--eval_split ""', 'eval', 0),
    ('--max_samples 100', 'train_split', 'train[:100]'), ('--data_files a.json --data_name json', 'data', 'a.json'), ('--data_name a/b --data_files a.json', 'data', 'a.json'), ('--text_field text', 'columns', dict(completion='text')),
    ('--torch_dtype bfloat16', 'precision', 'bf16'), ('--max_seq_len 64', 'max_length', '64'), ('--evaluation_strategy steps', 'eval_strategy', 'steps'), ('--neftune_noise_alpha 5', 'neftune_noise_alpha', '5'), ('-d x.csv', 'data', 'x.csv')])
def test_options(line, key, value): assert from_olive(f'olive finetune {line}').values[key] == value

def test_false_is_false():
    c = from_olive('olive finetune --add_special_tokens False --gradient_checkpointing=False --do_train False')
    assert 'add_special_tokens: False is read as false' in '\n'.join(c.corrections) and c.values['gradient_checkpointing'] == 'False' and 'do_train' not in about(c)

def test_said_only_when_it_applies():
    assert about(from_olive('olive finetune --max_samples 9 --eval_split "" --lora_r 4')) == ['max_samples', 'rows are trained one by one, not joined to blocks of 1,024 tokens, so small data works']

@pytest.mark.parametrize('line,values', [
    ('quantize -m m --algorithm awq', dict(run='m', precision='int8')), ('quantize -m m --precision int4 -d x --split train --max_samples 9', dict(run='m', precision='int4')),
    ('capture-onnx-graph -m m --use_model_builder --torch_dtype float16 --exclude_embeds True', dict(run='m', precision='fp32')), ('optimize -m m --precision int4 --act_precision int8 --num_split 2 --memory 9', dict(run='m', precision='int4')),
    ('auto-opt -m m --provider CUDAExecutionProvider --mixed-precision-overrides-config a b c d', dict(run='m', provider='cuda')), ('auto-opt -m m --provider QNNExecutionProvider --dynamic-to-fixed-shape-dim-value 1 2', dict(run='m', provider='qnn'))])
def test_exports(line, values): assert from_olive(line).values == values

def test_search(nb):
    "The search of the course, with fewer and shorter trials"
    found = nb('%%finetune --max_steps 2 --eval 8 --samples 0 -n course\n' + search.replace('20', '2'))
    assert found.status == 'done' and found.strategy.type == 'random' and found.trials.columns[2:5].tolist() == ['learning_rate', 'r', 'per_device_train_batch_size']
    assert found.trials.r.between(8, 64).all() and found.trials.per_device_train_batch_size.isin([8, 16, 32]).all() and nb['_run'].path == found.best.path
