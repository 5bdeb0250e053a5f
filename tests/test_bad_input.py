"What a user gets wrong: one short UsageError that says what to do, before a model is loaded, and no folder left behind."
import json, sys
from pathlib import Path
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

good = '{"prompt": "a", "completion": "b"}\n'*20

def files(folder):
    "Files that cases name"
    for name,text in {'empty.jsonl': '', 'bad.jsonl': good + '{"prompt": "a", \n', 'blank.jsonl': '{"prompt": "a", "completion": " "}\n'*20, 'good.jsonl': good, 'odd.xyz': 'x',
                      'two.csv': 'a,b,c\n1,2,3\n', 'list.json': '[1, 2]', 'notdict.jsonl': '[1]\n', 'bad.jsonl.gz': 'x', 'pairs.jsonl': '{"text1": "a", "text2": "b", "label": 1}\n{"text1": "c", "text2": "d", "label": 0}\n'*10,
                      'both.jsonl': '{"prompt": "a", "completion": "b", "question": "c", "answer": "d"}\n'*20}.items(): (folder/name).write_text(text)
    for name,text in {'tags.jsonl': '{"tokens": ["Ana", "sings"], "ner_tags": ["B-PER", "O"]}\n{"tokens": ["Ana", "sings"], "ner_tags": ["B-PER"]}\n', 'out.jsonl': '{"text": "Ana sings", "entities": []}\n{"text": "Ana", "entities": [{"start": 0, "end": 9, "label": "PER"}]}\n',
                      'nolabel.jsonl': '{"text": "Ana", "entities": [{"start": 0, "end": 3}]}\n', 'noname.jsonl': '{"tokens": ["Hello"], "ner_tags": ["O"]}\n'*4}.items(): (folder/name).write_text(text)
    (folder/'encoder').mkdir() # enough to plan with
    for name,text in {'config.json': '{"model_type": "bert", "vocab_size": 4, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}', 'model.safetensors': '',
                      'tokenizer_config.json': '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}',
                      'tokenizer.json': Tokenizer(WordLevel({'[PAD]': 0, '[UNK]': 1, 'a': 2, 'b': 3}, unk_token='[UNK]')).to_str()}.items(): (folder/'encoder'/name).write_text(text)
    (folder/'latin.csv').write_bytes('prompt,completion\né,b\n'.encode('latin-1'))
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
    ('%finetune --data latin.csv', 'looks like latin-1'),
    ('%finetune --data bad.jsonl.gz', 'bad.jsonl.gz'),
    ('%finetune --data *.tsv', 'no file matches'),
    ('%finetune --data both.jsonl', 'question → answer'),
    ('%finetune --data nobody/nothing', 'Hub'),
    ('%finetune --data good.jsonl --train_split test', "no split 'test'"),
    ('%finetune --data good.jsonl --train_split train[5', 'cannot read the split'),
    ('%finetune --data good.jsonl --eval_split train[90:]', 'empty'),
    ('%finetune --data good.jsonl --eval_split train[:9]', 'also occurs in the held-out data'),
    ('%finetune --data good.jsonl --eval 0.2 --eval_split train[:9]', 'given twice'),
    ('%finetune --data good.jsonl --augment shout', 'augment must be a function'),
    ('def broken(row): return row["no"]\nget_ipython().run_line_magic("finetune", "--data good.jsonl --augment $broken")', 'augment fails on row 1: KeyError'),
    ('%%finetune\n{"messages": [{"role": "user", "content": "a"}]}', 'row 1: the conversation has no turn of the assistant'),
    ('%%finetune\n{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n{"messages": []}', 'row 2: the conversation'),
    ('%%finetune\n{"conversations": [{"from": "human", "value": "a"}, {"from": "gtp", "value": "b"}]}', "Did you mean 'gpt'"),
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
    ('%optimize encoder', 'no language model'),
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
    ('%evaluate nosuchrun --metrics acuracy', "Did you mean 'accuracy'"),
    ('%evaluate nosuchrun --metrics accuracy,$cost', 'one list'),
    ('%evaluate nosuchrun --metrics 7', "unknown metric '7'"),
    ('%chat', 'name whom to ask'),
    ('%compare', 'two things'),
    ('%compare a b c --rate', 'pairs'),
    ('%compare a b --rate --n 0', 'at least 1'),
    ('%compare a b --prompts x', '--rate'),
    ('%compare a b --rate', '--data'),
    ('%compare nosuchrun b --rate --prompts " "', 'list of text'),
    ('%runs stop nosuchrun', 'nosuchrun'),
    ('%finetune --data good.jsonl --loss focal', 'loss: $name'),
    ('f = 3\n%finetune --data good.jsonl --loss $f', 'no function'),
    ('class Mine: pass\n%finetune --data good.jsonl --loss $Mine', 'a class'),
    ('f = lambda a: a.mean()**2\n%finetune --data pairs.jsonl --task similarity --loss $f', 'must take (output1, output2'),
    ('f = lambda a,b: a\n%finetune --data good.jsonl --loss $f', 'returned [4'),
    ('f = lambda a,b,label: a\n%finetune --data pairs.jsonl --task similarity --loss $f', 'returned [4, 256]'),
    ('f = lambda a,b: (a-b).detach().mean()\n%finetune --data pairs.jsonl --task similarity --loss $f', 'nothing can be learned'),
    ('f = lambda a,b: a@b\n%finetune --data pairs.jsonl --task similarity --loss $f', 'fails on'),
    ('%finetune --task similarity --data pairs.jsonl --label_smoothing_factor 0.1', 'no meaning'),
    ('%finetune --task similarity --data pairs.jsonl --metrics accuracy', 'cosines'),
    ('%finetune --task similarity', 'two texts'),
    ('%finetune encoder good.jsonl --task summarization', 'bert is an encoder and cannot be trained for summarization; it can for classification'),
    ('%finetune encoder good.jsonl', 'neither few classes nor entities'),
    ('%finetune encoder good.jsonl --task classification', 'rows of a few classes'),
    ('%finetune encoder tags.jsonl', 'row 2 has 2 tokens but 1 tags'),
    ('%finetune encoder out.jsonl', 'row 2: the entity PER from 0 to 9'),
    ('%finetune encoder nolabel.jsonl --task extraction', 'row 1: an entity needs start, end and label'),
    ('%finetune encoder noname.jsonl', 'no row marks an entity'),
    ('%finetune --data good.jsonl --task token-classification', 'rows as {"tokens"'),
    ('%finetune --data tags.jsonl', 'row 2 has 2 tokens'),
    ('%finetune --data good.jsonl --task sequence-classification', 'rows of a few classes'),
    ('%finetune --data good.jsonl --task clasification', "Did you mean 'classification'"),
    ('%finetune --task similarity --data pairs.jsonl --template "{text1} {text2}"', 'no template'),
    ('%finetune --task similarity --data pairs.jsonl --columns "{prompt: text1}"', 'one text, the other'),
    ('%finetune --task similarity --data pairs.jsonl --columns "{prompt: [text1, txt2]}"', "Did you mean 'text2'"),
    ('%finetune --task similarity --data pairs.jsonl --columns "{prompt: [text1, label], completion: text2}"', 'not a number'),
    ('%finetune --task similarity --data pairs.jsonl --columns "{prompt: [text1, text2]}" --batch_size 1', 'at least 2'),
    ('%%finetune --task similarity --data pairs.jsonl\nsamples: [one, two]', 'pairs'),
    ('%slm finetun', "Did you mean 'finetune'"),
    ('%olive', 'write a command of Olive'),
    ('%%olive\n', 'empty'),
    ('%olive finetun', "Did you mean 'finetune'"),
    ('%olive --method lora', 'name the command'),
    ('%olive finetune --text_tempalte x', "Did you mean 'text_template'"),
    ('%olive finetune --max_steps', 'needs a value'),
    ('%olive finetune --text_template "unclosed', 'quote'),
    ('%olive finetune loose', 'too many'),
    ('%olive finetune --method loar', "Did you mean 'lora'"),
    ('%olive finetune --data_name json', 'data_files'),
    ('%olive finetune --data_name $nothing', "no variable 'nothing'"),
    ('%olive finetune --data_name a/b --train_subset en', 'load_dataset'),
    ('%olive finetune --data_files missing.jsonl', 'missing.jsonl'),
    ('%olive finetune --max_samples 5 --train_split train[:10%]', 'max_samples'),
    ('%olive finetune --model_script m.py', 'model_script'),
    ('%olive benchmark -m x --tasks y', '%evaluate'),
    ('%olive run', 'run --config'),
    ('%olive run --config missing.yaml', 'missing.yaml'),
    ('%olive run --config afile', 'mapping'),
    ('%olive auto-opt', 'name what to optimize'),
    ('%olive auto-opt -m m --provider CPUExecution', 'choose one of'),
    ('%olive auto-opt -m m --device gpu', 'gpu'),
    ('%olive auto-opt -m no/ft/model -a no/ft/adapter', 'no/ft'),
    ('%olive generate-adapter', 'adapter_paths'),
    ('%olive convert-adapters -a nosuch -o x', 'nosuch'),
    ('%olive convert-adapters -a nosuch -o x --adapter_format pt', 'safetensors'),
    ('%%olive\nolive finetune --max_steps 2\nolive finetune --max_steps many', 'whole number'),
    ('%%olive\npasses: {l: {type: LoRAA}}', "Did you mean 'lora'"),
    ('%%olive\npasses: {l: {type: QNNConversion}}', 'no counterpart'),
    ('%%olive\npasses: {l: {type: LoRA, lora_alfa: 3}}', "Did you mean 'lora_alpha'"),
    ('%%olive\ninput_modle: {model_path: x}', 'input_modle'),
    ('%%olive\ndata_configs: [{name: a, load_dataset_config: {data_flies: x}}]\npasses: {l: {type: LoRA}}', "Did you mean 'data_files'"),
    ('%%olive\nsearch_space: {learning_rate: {type: float, low: 3, high: 1}}', 'low below high'),
    ('%%finetune -n x\npasses: 3', 'mapping')]

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
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification
    for o in AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification: monkeypatch.setattr(o, 'from_pretrained', loaded)
    before = sorted(Path().rglob('*'))
    error = shell.run_cell(cell).error_in_exec
    assert type(error) is UsageError, repr(error)
    assert words.lower() in str(error).lower() and len(str(error).splitlines()) <= 3 and len(str(error)) < 900
    assert sorted(Path().rglob('*')) == before and not hasattr(sys, 'last_value')
    assert 'Traceback' not in capsys.readouterr().err
