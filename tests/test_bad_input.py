"What a user gets wrong: one short UsageError that says what to do, before a model is loaded, and no folder left behind."
import json, sys
from pathlib import Path
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

good = '{"prompt": "a", "completion": "b"}\n'*20

def files(folder):
    "Files that cases name"
    for name,text in {'empty.jsonl': '', 'bad.jsonl': good + '{"prompt": "a", \n', 'blank.jsonl': '{"prompt": "a", "completion": " "}\n'*20, 'good.jsonl': good, 'odd.xyz': 'x',
                      'two.csv': 'a,b,c\n1,2,3\n', 'list.json': '[1, 2]', 'notdict.jsonl': '[1]\n'}.items(): (folder/name).write_text(text)
    for name,config in dict(lora=dict(peft_type='LORA', base_model_name_or_path='org/base'), other=dict(peft_type='LORA', base_model_name_or_path='org/other'), dora=dict(peft_type='LORA', use_dora=True),
                            prompts=dict(peft_type='PROMPT_TUNING'), noweights=dict(peft_type='LORA')).items():
        (folder/name).mkdir()
        (folder/name/'adapter_config.json').write_text(json.dumps(config))
        if name != 'noweights': (folder/name/'adapter_model.safetensors').touch()
    (folder/'brokenonnx').mkdir()
    for name in 'model.onnx', 'genai_config.json', 'tokenizer.json': (folder/'brokenonnx'/name).write_text('x')
    (folder/'nomodel').mkdir()
    (folder/'halfmodel').mkdir()
    (folder/'halfmodel'/'config.json').write_text('{"model_type": "nonsense"}')
    (folder/'afile').write_text('x')

# cell, and words its message must hold
cases = [
    ('%finetune --data missing.jsonl', 'missing.jsonl'),
    ('%finetune --data empty.jsonl', 'empty'),
    ('%finetune --data bad.jsonl', 'line 21'),
    ('%finetune --data blank.jsonl', 'empty'),
    ('%finetune --data odd.xyz', 'odd.xyz'),
    ('%finetune --data two.csv', 'columns'),
    ('%finetune --data list.json', 'list.json'),
    ('%finetune --data notdict.jsonl', 'line 1'),
    ('%finetune --data good.jsonl --template "{prompt} {anwser}"', 'anwser'),
    ('%finetune --data good.jsonl --template "{prompt.__class__} {completion}"', 'prompt.__class__'),
    ('%finetune --data good.jsonl --template "no holes"', 'column'),
    ('%finetune --data good.jsonl --template "{prompt[0]} {completion}"', 'prompt[0]'),
    ('%%finetune\n{"prompt": "a", "completion": "b"}\n{"prompt": 3', 'line 2'),
    ('%%finetune --data good.jsonl\n' + good, 'twice'),
    ('%%finetune\n', 'empty'),
    ('%%finetune\nlearning_rate: fast', 'number'),
    ('%%finetune\nlora_r: [1', 'YAML'),
    ('%%finetune\nr: 8\nr: 9', 'twice'),
    ('%%finetune\njust words', 'key: value'),
    ('%finetune --lerning_rate 1e-3', "Did you mean 'learning_rate'"),
    ('%finetune --learning_rate -1', 'above 0'),
    ('%finetune --learning_rate nan', 'above 0'),
    ('%finetune --num_train_epochs', 'needs a value'),
    ('%finetune --method loar', "Did you mean 'lora'"),
    ('%finetune --max_steps 0', 'max_steps'),
    ('%finetune --r 0', 'at least 1'),
    ('%finetune --r 2.5', 'whole number'),
    ('%finetune --eval 1.5', 'eval'),
    ('%finetune --eval 0 --early_stopping 2', 'early_stopping'),
    ('%finetune --max_length 100000', 'context'),
    ('%finetune --target_modules q_prj', 'q_prj'),
    ('%finetune --seed -1', 'at least 0'),
    ('%finetune nomodel good.jsonl', 'config.json'),
    ('%finetune halfmodel good.jsonl', 'safetensors'),
    ('%finetune ./nosuch good.jsonl', 'nosuch'),
    ('%finetune --name "../up"', 'name'),
    ('%finetune --output_path afile', 'afile'),
    ('%finetune --output_path /proc/nothing/here', 'cannot be written'),
    ('%finetune --data $nothing', "no variable 'nothing'"),
    ('%finetune --data "unclosed', 'quote'),
    ('%finetune a b c d', 'too many'),
    ('%finetune -o not-a-name --max_steps 1', '-o'),
    ('%finetune --resume nosuchrun', 'nosuchrun'),
    ('%finetune --precision fp16', 'fp16'),
    ('%optimize', 'name what to optimize'),
    ('%optimize nosuchrun', 'nosuchrun'),
    ('%optimize nomodel', 'config.json'),
    ('%optimize nosuchrun --precision int3', 'int3'),
    ('%optimize nosuchrun --precision bf16', 'bf16'),
    ('%optimize nosuchrun --device npu', 'npu'),
    ('%optimize --adapters nosuchrun', "no adapter 'nosuchrun'"),
    ('%optimize --adapters dora,lora', 'use_dora'),
    ('%optimize --adapters lora,other', 'different base models'),
    ('%optimize --adapters ,', 'at least one'),
    ('%optimize nomodel --adapters lora', 'config.json'),
    ('%optimize --adapters lora --adapter_path lora', 'one of them'),
    ('%optimize --adapter_path prompts', 'prompt_tuning'),
    ('%optimize --adapter_path noweights', 'safetensors'),
    ('%optimize nomodel/model --adapter_path nowhere', 'nowhere'),
    ('%optimize brokenonnx', 'cannot be read'),
    ('%evaluate nosuchrun', 'nosuchrun'),
    ('%chat', 'name whom to ask'),
    ('%compare', 'two things'),
    ('%runs stop nosuchrun', 'nosuchrun'),
    ('%slm finetun', "Did you mean 'finetune'")]

@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    shell = InteractiveShell()
    shell.run_line_magic('load_ext', 'slm_magic')
    yield shell
    shell.run_line_magic('unload_ext', 'slm_magic')

@pytest.mark.parametrize('cell,words', cases, ids=[c.replace('\n', '⏎')[:70] for c,_ in cases])
def test_bad_input(shell, cell, words, monkeypatch, capsys):
    "Exactly UsageError (a subclass would be printed with a traceback), of at most three lines, with the words that help"
    def loaded(*args, **kwargs): pytest.fail('a model was loaded')
    from transformers import AutoModelForCausalLM
    monkeypatch.setattr(AutoModelForCausalLM, 'from_pretrained', loaded)
    before = sorted(Path().rglob('*'))
    error = shell.run_cell(cell).error_in_exec
    assert type(error) is UsageError, repr(error)
    assert words.lower() in str(error).lower() and len(str(error).splitlines()) <= 3 and len(str(error)) < 900
    assert sorted(Path().rglob('*')) == before and not hasattr(sys, 'last_value')
    assert 'Traceback' not in capsys.readouterr().err
